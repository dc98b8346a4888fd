cdef class PollOpt:
    cdef readonly int bits

cdef PollOpt poll_opt_of(int bits)
