from libc.stdint cimport uint32_t, uint64_t


cdef class Timeout:
    # The wheel that it is of, its place there, and its number.
    cdef uint32_t wheel
    cdef uint32_t place
    cdef uint64_t number


cdef Timeout new_timeout()
