from libc.stdint cimport int64_t

from metalio._sys.selector cimport Selector
from metalio.registry cimport Registry


cdef class Poll:
    cdef object __weakref__
    cdef Selector selector
    cdef Registry _registry
    # Whether close() was called: the selector may have been closed by the garbage collector already.
    cdef bint done


cdef int64_t nanoseconds(object timeout) except -2
