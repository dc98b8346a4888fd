from metalio._sys.selector cimport Selector
from metalio.io_source cimport IoSource


cdef class ChildExit(IoSource):
    cdef object number
    # What the platform has to say of it.
    cdef object process

    cdef int hold(self) except -1
    cdef int let_go(self) except -1
    cdef int lose(self) except -1
    cdef int enter(self, Selector selector, object token, int interest, int options) except -1
    cdef int change(self, Selector selector, object token, int interest, int options) except -1
