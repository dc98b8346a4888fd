"""ReceiverCtl: the half of readiness for a queue of one's own that is polled."""

import cython
from cython.cimports.metalio.channel.link import Tally
from cython.cimports.metalio.user_source import UserSource

from metalio._sys.errors import closed_error


@cython.final
@cython.cclass
class ReceiverCtl(UserSource):
    """A source that is readable while more was announced, by `SenderCtl.inc()`, than taken.  `ctl_pair()` makes one.

    It stays readable once all its senders are gone, for the receiver to hear of it; close it then.  `close()`, or
    dropping it, deregisters it.  It may be used from any thread.
    """

    def __cinit__(self):
        self.tally = Tally.__new__(Tally)
        self.node = self.tally.node

    def __init__(self):
        raise TypeError("cannot make a ReceiverCtl like this: use ctl_pair()")

    def dec(self):
        """Count one less.  Call it after taking something out of the queue.

        Raises `ValueError` if that is more than was announced, or it is closed.
        """
        closed: cython.bint = False
        none: cython.bint = False
        with cython.critical_section(self.tally):
            closed = self.tally.severed
            none = self.tally.pending == 0
            if not closed and not none:
                self.tally.pending -= 1
                if self.tally.pending == 0 and self.tally.senders:
                    self.tally.node.mark(0)
        if closed:
            raise closed_error(self)
        if none:
            raise ValueError("dec() without an inc(): put something into the queue, then call inc()")

    def is_disconnected(self):
        """Whether all senders are gone.  What they announced before may still be there."""
        with cython.critical_section(self.tally):
            gone: cython.bint = self.tally.senders == 0
        return gone

    def finish(self):
        with cython.critical_section(self.tally):
            self.tally.severed = True
        return 0


def new_receiver_ctl():
    return ReceiverCtl.__new__(ReceiverCtl)
