from metalio.base_buf cimport Storage


cdef class ByteBuf(Storage):
    # What has been written and not yet read is from `start` to `end`.
    cdef Py_ssize_t start
    cdef Py_ssize_t end
    cdef bint reading
    # Set during a transfer.
    cdef bint busy

    cdef int check(self, bint reading) except -1
