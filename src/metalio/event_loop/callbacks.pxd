# Each is None where it has nothing to do.
cdef class Callbacks:
    cdef object ready
    # Of a handler whose `ready` is Handler's own, which is then not called.
    cdef object readable
    cdef object writable
    cdef object notify
    cdef object timeout
    cdef object interrupted
    cdef object tick


cdef Callbacks callbacks_of(object handler)
