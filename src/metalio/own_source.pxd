from metalio._sys.selector cimport Selector


cdef class OwnSource:
    cdef object __weakref__
    cdef Selector selector

    cdef int require(self) except -1
    cdef int enter(self, Selector selector, object token, int interest, int options) except -1
    cdef int change(self, Selector selector, object token, int interest, int options) except -1
    cdef int leave(self, Selector selector) except -1
