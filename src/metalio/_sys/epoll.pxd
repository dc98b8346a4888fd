from libc.stdint cimport uint32_t, uint64_t

from metalio._sys.bell cimport Bell
from metalio._sys.selector cimport Selector
from metalio._sys.table cimport Record


cdef class EpollSelector(Selector):
    cdef int epfd
    cdef Bell bell
    # A timerfd, which only a poll within a poll needs; or -1.
    cdef int clock

    cdef int control(self, int epfd, int op, Record record) noexcept
    cdef int watch(self, int epfd, int fd, uint64_t key) noexcept
    cdef int review(self, Record record, int ready) noexcept
    cdef int silence(self, uint32_t key) except -1
    cdef int rebuild(self) except -1
    cdef int probe(self, Record record) noexcept
