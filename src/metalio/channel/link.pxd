from cpython.ref cimport PyObject

from metalio._sys.bits cimport READABLE
from metalio._sys.native cimport load
from metalio._sys.user_space cimport ARMED, QUEUED, Node
from metalio.channel.sending_end cimport SendingEnd


# What becomes of a message.
cdef enum Outcome:
    SENT = 0
    FULL = 1
    # The receiver is gone.
    SEVERED = 2
    # The sender itself was closed.
    CLOSED = 3


cdef class Link:
    cdef Node node
    # How many there are.
    cdef Py_ssize_t senders
    # Whether the receiver is gone.
    cdef bint severed

    # Move those into the list who wait to send on this end, for the caller to wake them.  The lock is held.
    cdef int evict(self, SendingEnd end, list evicted) except -1

    # There is something to receive; the lock is held.  Returns what Node.mark() does.
    cdef inline PyObject *rise(self) noexcept:
        cdef int state = load(&self.node.state)
        # Whoever receives has not looked since, or is not registered: nothing would change.  (It looks under the lock,
        # so there is no need to swap for the sake of what else was done.)
        if state & READABLE and (state & QUEUED or not state & (READABLE << ARMED)):
            return NULL
        return self.node.mark(READABLE)


cdef class Tally(Link):
    # How many were announced and not taken.
    cdef Py_ssize_t pending


cdef int alert(PyObject *space) except -1
