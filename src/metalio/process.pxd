from metalio._sys.selector cimport Selector
from metalio.io_source cimport IoSource


cdef class ChildExit(IoSource):
    cdef object number
    # What status() has seen: it can be asked for again once the process is gone.
    cdef object known

    cdef int hold(self) except -1
    cdef int let_go(self) except -1
    cdef int enter(self, Selector selector, object token, int interest, int options) except -1
    cdef int change(self, Selector selector, object token, int interest, int options) except -1
