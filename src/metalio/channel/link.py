"""What connects the ends of a channel: who is still there, and the node by which the receiver becomes ready.

It is their lock as well: whoever reads or changes it holds a critical section on it, which costs nothing where there is
a GIL.  The node is marked inside, so that its readiness changes in the order in which messages come and go.  Sleepers
are woken outside, by a system call; and nothing that could be the caller's code runs inside.

The ends own the link, which knows neither: so dropping an end is noticed.
"""

import cython
from cython.cimports.metalio._sys.user_space import Node, UserSpace


@cython.cclass
class Link:
    """Between one or more senders and a receiver."""

    def __cinit__(self):
        self.node = Node.__new__(Node)

    def evict(self, end, evicted):
        return 0


@cython.final
@cython.cclass
class Tally(Link):
    """Of `ctl_pair()`, whose queue is the caller's: what is in there, by number."""


def alert(space):
    """Wake who sleeps on what Node.mark() returned, which may be `NULL`."""
    if space != cython.NULL:
        cython.cast(UserSpace, space).alert()
    return 0
