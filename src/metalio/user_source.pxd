from metalio._sys.selector cimport Selector
from metalio._sys.user_space cimport Node
from metalio.own_source cimport OwnSource


cdef class UserSource(OwnSource):
    # Made by the subclass, in __cinit__.
    cdef Node node
    cdef bint shut
    # Whether a call to enter() is under way.
    cdef bint entering

    cdef int finish(self) except -1
