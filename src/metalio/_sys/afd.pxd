from libc.stdint cimport uint32_t, uint64_t, uintptr_t

from metalio._sys.selector cimport Selector
from metalio._sys.table cimport Record
from metalio._sys.user_space cimport Node
from metalio._sys.windows cimport Request
from metalio.events cimport Events


cdef enum:
    # How many sockets share a handle of the driver.
    GROUP = 32


# The polling of one socket.  There is never more than one request for it.
cdef struct Operation:
    Request request
    void *sock
    # Of the last request: a completion with another number is outdated.
    uint32_t sequence
    # What the last request asks for, and in which round it was made.
    uint32_t mask
    uint32_t turn
    # The key of its record, or -1 where it has none: then it is free, or will be once the request has come back.
    int key
    # Whether the completion of the last request is still to come.
    bint pending
    # Whether the request is outdated, but could not be taken back at once.
    bint outdated
    # The socket was closed behind our back.
    bint gone
    # Whether it waits to be asked for again by the next poll.
    bint queued
    # The next in the queue of those; the next free one.
    int next_queued
    int next_free


cdef struct Group:
    void *afd
    Operation operations[GROUP]


cdef class AfdSelector(Selector):
    cdef void *port
    cdef Group **groups
    cdef int group_count
    # Counts the polls that were begun.
    cdef uint32_t round
    # Indexes of operations, or -1.
    cdef int free
    cdef int queue
    cdef int queue_end
    # Whose the completions are that have other keys than the driver's and the waker's: nodes of user space.
    cdef dict guests

    # Have a node noticed when a completion with this key comes, from now on or no longer.
    cdef int admit(self, uintptr_t key, Node node) except -1
    cdef int dismiss(self, uintptr_t key) except -1
    cdef int notify(self, uintptr_t key) except -1
    cdef Operation *operation(self, int index) noexcept
    cdef int grow(self) except -1
    cdef int ask(self, Record record) noexcept
    cdef int begin(self, int index, uint32_t mask) noexcept
    cdef int note_end(self, Operation *operation) noexcept
    cdef bint stop(self, int index) noexcept
    cdef int renounce(self, Record record) noexcept
    cdef bint has_operation(self, Record record) noexcept
    cdef int enqueue(self, int index) noexcept
    cdef int complete(self, Events events, uint64_t context) noexcept
    cdef int bring_up_to_date(self, Operation *operation, int ready) noexcept
    cdef int report(self, Events events, Record record, int index) noexcept
