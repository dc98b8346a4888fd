cdef class Interest:
    cdef readonly int bits

cdef Interest interest_of(int bits)
