"""Registration: the half of a source of user space that is registered."""

import cython
from cython.cimports.metalio._sys.user_space import Node
from cython.cimports.metalio.readiness.set_readiness import new_set_readiness
from cython.cimports.metalio.user_source import UserSource


@cython.final
@cython.cclass
class Registration(UserSource):
    """A source that is ready when the program says so.  `Registration.new()` makes one.

    It is registered, reregistered and deregistered with a `Registry` as a socket is, with any interest, and `EDGE`,
    `LEVEL` and `ONESHOT` mean the same (`EXCLUSIVE` raises `ValueError`).  What its `SetReadiness` said before it was
    registered counts.  A program may have as many as it likes.

    `close()`, or dropping it, deregisters it; its `SetReadiness` then has no effect any more.  Safe to use from any
    thread, on every platform.
    """

    def __cinit__(self):
        self.node = Node.__new__(Node)

    def __init__(self):
        raise TypeError("cannot make a Registration like this: use Registration.new()")

    @staticmethod
    def new():
        """Both halves of a new source: `(Registration, SetReadiness)`."""
        registration: Registration = Registration.__new__(Registration)
        return registration, new_set_readiness(registration.node)
