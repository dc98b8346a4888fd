from cpython.buffer cimport Py_buffer

from metalio._sys.sockets cimport iovec


# A transfer takes what `begin_…` gives: up to two parts, of which the second may be empty, and how many bytes they are.
# Until it is ended, with how many bytes were moved, the buffer keeps everybody else off those parts; so it may take
# place without the GIL, and outside of any critical section.
cdef class BaseBuf:
    cdef Py_ssize_t begin_fill(self, iovec *parts) except -1
    cdef int end_fill(self, Py_ssize_t count) noexcept
    cdef Py_ssize_t begin_drain(self, iovec *parts) except -1
    cdef int end_drain(self, Py_ssize_t count) noexcept


# Memory of its own, of a fixed size, that is not moved or freed as long as anybody has a view of it.
cdef class Storage(BaseBuf):
    cdef Py_buffer loan
    cdef readonly Py_ssize_t capacity
    # Of all of it; slices of these are what users get.
    cdef object writable
    cdef object readable

    cdef inline char *base(self) noexcept:
        return <char *> self.loan.buf


cdef extern from *:
    """
    /* A number that fits nowhere is past every end. */
    #define metalio_clipped(number) PyNumber_AsSsize_t((number), NULL)
    """
    Py_ssize_t clipped "metalio_clipped"(object number) except? -1

# A count that does not go further than that.
cdef Py_ssize_t within(object count, Py_ssize_t remaining) except -1
cdef int refuse_busy(object buf) except -1
