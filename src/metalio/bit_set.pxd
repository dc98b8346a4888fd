cdef class BitSet:
    cdef readonly int bits

    # What a kind of set brings: the set of these bits, and the names of the bits.
    cdef BitSet of(self, int bits)
    cdef tuple names(self)

    cdef int bits_of(self, object other) except -1
