from metalio._sys.user_space cimport Node


cdef class SetReadiness:
    cdef object __weakref__
    cdef Node node


cdef SetReadiness new_set_readiness(Node node)
