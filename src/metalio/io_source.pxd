from metalio._sys.sockets cimport iovec
from metalio._sys.selector cimport Selector
from metalio._sys.table cimport Record
from metalio.own_source cimport OwnSource


cdef class IoSource(OwnSource):
    # Negative when it is closed: -1, or -2 less the descriptor that the last of its users has still to close.
    cdef int fd
    # How many calls use the descriptor without the GIL.
    cdef int users
    # Errors that came after some bytes had been moved, for the next call: reading, and writing.
    cdef short deferred
    cdef short deferred_out
    # Whether closing may take its time (SO_LINGER).
    cdef unsigned char lingers

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
