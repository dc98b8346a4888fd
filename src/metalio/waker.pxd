from metalio._sys.selector cimport Selector
from metalio._sys.table cimport Record


cdef class Waker:
    cdef object __weakref__
    cdef Selector selector
    cdef Record record
