cdef class Event:
    cdef object tag
    cdef int ready

cdef Event new_event(object token, int ready)
