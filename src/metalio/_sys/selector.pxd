from libc.stdint cimport int64_t, uint32_t

from metalio._sys.table cimport Record
from metalio._sys.user_space cimport UserSpace
from metalio.events cimport Events, Ready


cdef class Selector(UserSpace):
    cdef object __weakref__
    # Under which _alive has it.
    cdef object identity
    # Set by the first wake(), cleared before its event is delivered.
    cdef int wake_pending
    cdef Record waker
    # For how many wakes the GIL is kept.
    cdef int wary
    # The key under which the waker's events are found: a descriptor of the selector's own.
    cdef int wake_key

    # What a platform brings.
    cdef int supports(self, int interest, int options, bint foreign) except -1
    cdef int add(self, Record record) except -1
    cdef int modify(self, Record record) except -1
    cdef int remove(self, Record record) except -1
    cdef int renew(self, Record record, int directions) except -1
    cdef int prepare(self, Events events) except -1
    cdef int attend(self, bint exact) noexcept
    cdef int wait(self, Events events, int64_t timeout) noexcept nogil
    cdef int collect(self, Events events, int count, bint exact) except -1
    cdef int shut(self) except -1
    cdef int descriptor(self) except -2

    # What all of them share.
    cdef int enter(self, Record record) except -1
    cdef int change(self, Record record, object token, int interest, int options) except -1
    cdef int leave(self, Record record, bint forgiving) except -1
    cdef int add_wake(self, Ready *entry) noexcept
    cdef int select(self, Events events, int64_t timeout, bint interruptible) except -1
    cdef int fill(self, Events events, int64_t timeout, bint interruptible) except -1
    cdef int look(self, Events events) except -1
    cdef int64_t pause(self, int64_t timeout) noexcept
    cdef bint look_longer(self, Events events, int64_t begin, int64_t timeout) except -1
    cdef int attach_waker(self, Record record) except -1
    cdef int detach_waker(self, Record record) except -1
    cdef int wake(self) except -1
    cdef int ring_outside(self) except -1
    cdef int close(self) except -1
    cdef int last_one_out(self) except -1
    cdef int forget(self) except -1
