from metalio.bit_set cimport BitSet


cdef class PollOpt(BitSet):
    pass

cdef PollOpt poll_opt_of(int bits)
