from metalio._sys.sockets cimport iovec
from metalio._sys.selector cimport Selector
from metalio._sys.table cimport Record
from metalio.own_source cimport OwnSource


cdef class IoSource(OwnSource):
    cdef int fd
    # How many calls use the descriptor without the GIL; then closing it is left to the last of them.
    cdef int users
    cdef int doomed
    # Whether closing may take its time (SO_LINGER).
    cdef bint lingers
    # Errors that came after some bytes had been moved, for the next call: reading, and writing.
    cdef int deferred
    cdef int deferred_out

    cdef int adopt(self, int fd) except -1
    cdef int surrender(self) except -2
    cdef int renew_short(self, int directions) except -1
    cdef int renew_blocked(self, int directions) except -1
    cdef int renew_exhausted(self, int error, int directions) except -1
    cdef int pin(self) noexcept
    cdef int unpin(self) noexcept
    cdef int close_descriptor(self, int fd) noexcept
    cdef int renew(self, int directions) except -1

    # How the bytes are moved: how many, or the negative number of an error.
    cdef Py_ssize_t pull(self, int fd, void *into, size_t size, int flags) noexcept nogil
    cdef Py_ssize_t push(self, int fd, const void *data, size_t size) noexcept nogil
    cdef Py_ssize_t pull_vector(self, int fd, iovec *vector, int count) noexcept nogil
    cdef Py_ssize_t push_vector(self, int fd, iovec *vector, int count) noexcept nogil
