from cpython.ref cimport PyObject
from libc.stdint cimport int64_t

from metalio._sys.table cimport Record, Table
from metalio.events cimport Events


cdef enum State:
    OPEN = 0
    CLOSED = 1
    FORKED = 2


cdef enum:
    # The lower bits of a node's state are the interests that it is ready for; above these, what it is armed for.
    READY = 0x3FF
    ARMED = 10
    QUEUED = 1 << 30


cdef class Node:
    # The one atomic word: what the source is ready for, what it is armed for (nothing, where it is not registered or
    # was oneshot), and whether it is queued or about to be.
    cdef int state
    # The next in the stack, or in the chain.  Of whoever queues it until it is queued, then of the poll.
    cdef PyObject *next
    # Where it is queued; changes only while it is disarmed and not queued.  What it once was stays alive in `spaces`,
    # so that a thread that comes late finds something there.
    cdef PyObject *space
    cdef list spaces
    cdef Record record
    # Its place among the nodes of that space, or -1.
    cdef Py_ssize_t index
    # Whether it has deadlines; and the next one, on the clock of metalio._sys.clock.now(), or INT64_MAX.  A subclass
    # that has them changes it under a lock of its own, then calls reschedule() outside of that.
    cdef bint timed
    cdef int64_t deadline

    # From any thread: ready for these, or for nothing (0).
    cdef int set(self, int readiness) except -1
    # The same, but sleepers are left to the caller, who may hold a lock and is to call alert() outside of that: of the
    # space that is returned (borrowed; `NULL` if nobody has to be woken).
    cdef PyObject *mark(self, int readiness) noexcept
    cdef int readiness(self) noexcept
    cdef bint queued(self) noexcept
    # A deadline has passed: make ready what is due, and bring the deadline up to date.  No lock is held.
    cdef int expire(self, int64_t moment) except -1
    cdef int reschedule(self) except -1
    cdef bint arm(self, int interest) noexcept
    # On Windows, a completion has come that has this node's key: make ready what is due; whether somebody has to be
    # woken.  The poll's lock is held, so nothing of Python's may run.
    cdef bint notice(self) noexcept
    cdef int change_space(self, UserSpace space) except -1


cdef class UserSpace:
    cdef Table table
    cdef int state
    # How many threads sleep in the kernel.
    cdef Py_ssize_t sleepers
    # Changes when those who sleep have to look anew at what they wait for.
    cdef int instance
    # Whether somebody waits for the poll from outside, on its own descriptor.
    cdef bint nested

    # The stack of nodes that producers have queued, newest first; empty (NULL), or asleep (this object's address).
    cdef PyObject *head
    # The chain of those that the poll has taken over, in the order in which they are reported.
    cdef PyObject *first
    cdef PyObject *last
    cdef Py_ssize_t waiting
    # Who had the one place of Events with a capacity of 1.
    cdef bint turn
    # Keeps alive what stack and chain refer to: a node stays here until it is neither registered nor queued.
    cdef list nodes
    # The vacant places in it.
    cdef list vacant
    # Nodes that have deadlines, and the earliest of those.
    cdef list timed
    cdef int64_t alarm
    # Both lists, as the parent process had them.
    cdef list forgotten

    cdef int check(self) except -1
    cdef int ring(self) noexcept nogil
    cdef int set_clock(self, int64_t deadline) except -1

    cdef int enter_node(self, Node node, Record record) except -1
    cdef int change_node(self, Node node, object token, int interest, int options) except -1
    cdef bint leave_node(self, Node node) except -1
    cdef Py_ssize_t find_place(self, Node node) except -1
    cdef int settle(self, Node node) except -1
    cdef list close_nodes(self)
    cdef int forget_nodes(self) except -1

    cdef bint push(self, Node node) noexcept
    cdef int alert(self) except -1
    cdef bint has_ready(self) noexcept
    cdef int take(self) noexcept
    cdef Py_ssize_t room(self, Events events) noexcept
    cdef int gather(self, Events events) except -1
    cdef int append(self, PyObject *node) noexcept
    cdef int discharge(self, Node node) except -1
    cdef bint fall_asleep(self) noexcept
    cdef int wake_up(self) noexcept

    cdef int nest(self) except -1
    cdef int reschedule(self) except -1
    cdef int64_t earliest(self) noexcept
    cdef int expire(self) except -1
