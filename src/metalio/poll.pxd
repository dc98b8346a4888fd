from metalio._sys.selector cimport Selector
from metalio.registry cimport Registry


cdef class Poll:
    cdef object __weakref__
    cdef Selector selector
    cdef Registry _registry
