from cpython.buffer cimport Py_buffer

from metalio._sys.sockets cimport iovec
from metalio.base_buf cimport BaseBuf


cdef class Slice(BaseBuf):
    # Of the caller's memory.  It is asked for the address each time, so that the cycle collector sees what is held.
    cdef object view
    cdef bint readonly
    cdef Py_ssize_t at
    cdef Py_ssize_t size
    # Set during a transfer, for which the memory is on loan.
    cdef bint busy
    cdef Py_buffer loan

    cdef Py_ssize_t lend(self, iovec *parts, int flags) except -1
    cdef int take_back(self, Py_ssize_t count) noexcept


cdef class SliceBuf(Slice):
    pass


cdef class MutSliceBuf(Slice):
    pass
