from metalio.bit_set cimport BitSet


cdef class Interest(BitSet):
    pass

cdef Interest interest_of(int bits)
