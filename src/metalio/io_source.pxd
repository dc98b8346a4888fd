from metalio._sys.selector cimport Selector
from metalio._sys.table cimport Record


cdef class IoSource:
    cdef object __weakref__
    cdef int fd
    # How many calls use the descriptor without the GIL; then closing it is left to the last of them.
    cdef int users
    cdef int doomed
    cdef Selector selector
    cdef Record record

    cdef int require(self) except -1
    cdef int adopt(self, int fd) except -1
    cdef int surrender(self) except -1
    cdef int enter(self, Selector selector, object token, int interest, int options) except -1
    cdef int change(self, Selector selector, object token, int interest, int options) except -1
    cdef int leave(self, Selector selector) except -1
    cdef int renew_short(self, int directions) except -1
    cdef int renew_blocked(self, int directions) except -1
    cdef int renew_exhausted(self, int error, int directions) except -1
    cdef int pin(self) noexcept
    cdef int unpin(self) noexcept
    cdef int check_registered(self, Selector selector) except -1
    cdef int renew(self, int directions) except -1
