from cpython.ref cimport PyObject


cdef class Event:
    cdef object tag
    cdef int ready

cdef Event new_event(object token, int ready)

cdef extern from *:
    """
    #define metalio_swap_tag(event, tag_pointer) do { \
        PyObject *before = (event)->tag; \
        (event)->tag = *(tag_pointer); \
        *(tag_pointer) = before; \
    } while (0)
    """
    # Exchanges references without counting them.
    void swap_tag "metalio_swap_tag"(Event event, PyObject **tag) noexcept
