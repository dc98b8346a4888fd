"""SetReadiness: the half of a source of user space that says when it is ready."""

import cython
from cython.cimports.metalio._sys.bits import ANY_INTEREST
from cython.cimports.metalio._sys.user_space import Node
from cython.cimports.metalio.interest import Interest, interest_of


@cython.final
@cython.cclass
class SetReadiness:
    """Says what a `Registration` is ready for.  From any thread, and from a signal handler; share it as you like.

    It takes no lock, and makes a system call only if the poll sleeps: one, however many sources become ready before the
    poll has woken up.  What a thread did before `set_readiness()` is visible to the thread that gets the event.
    """

    def __cinit__(self):
        # Of its own until it is given another: what is made by __new__ alone is of no use, but must not crash.
        self.node = Node.__new__(Node)

    def __init__(self):
        raise TypeError("cannot make a SetReadiness like this: use Registration.new()")

    def set_readiness(self, readiness):
        """Make the source ready for these interests, and for nothing else; `None`: for nothing.

        Under `EDGE` every call that has in it what the source is registered for is an edge, as the arrival of data is
        at a socket; calls that come before the poll reports it merge into one event, which tells of the last of them.
        Under `LEVEL` it is reported by every poll until something else is set.

        Raises `TypeError` for anything that is no `Interest`, `OSError` if the poll cannot be woken.
        """
        bits: cython.int = 0
        if isinstance(readiness, Interest):
            bits = cython.cast(Interest, readiness).bits
        elif readiness is not None:
            raise TypeError(f"expected an Interest such as Interest.READABLE, or None, not {type(readiness).__name__}")
        self.node.set(bits & ANY_INTEREST)

    def readiness(self):
        """What was set last: an `Interest`, or `None`."""
        bits: cython.int = self.node.readiness()
        return interest_of(bits) if bits else None

    def __repr__(self):
        return f"<SetReadiness: {self.readiness()!r}>"


def new_set_readiness(node):
    handle: SetReadiness = SetReadiness.__new__(SetReadiness)
    handle.node = node
    return handle
