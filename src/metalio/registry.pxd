from metalio._sys.selector cimport Selector
from metalio._sys.table cimport Record


cdef class Registry:
    cdef Selector selector

    cdef Record _find(self, object source)


cdef Registry new_registry(Selector selector)

cdef extern from *:
    """
    #define metalio_is_heap_type(o) PyType_HasFeature(Py_TYPE(o), Py_TPFLAGS_HEAPTYPE)
    """
    # The library's own types are static; a class statement makes one on the heap.
    bint is_heap_type "metalio_is_heap_type"(object source) noexcept
