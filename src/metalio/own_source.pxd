from metalio._sys.selector cimport Selector
from metalio._sys.table cimport Record


cdef class OwnSource:
    cdef object __weakref__
    cdef Selector selector
    cdef Record record

    cdef int require(self) except -1
    cdef int check_registered(self, Selector selector) except -1
    cdef int refuse_second(self, Selector selector) except -1
    cdef int enter(self, Selector selector, object token, int interest, int options) except -1
    cdef int change(self, Selector selector, object token, int interest, int options) except -1
    cdef int leave(self, Selector selector) except -1

cdef int own_methods(object kind) except -1
