from libc.stdint cimport uintptr_t

from metalio._sys.afd cimport AfdSelector
from metalio._sys.selector cimport Selector
from metalio.user_source cimport UserSource


cdef class PortSource(UserSource):
    # Under which its completions come, in whatever poll.
    cdef uintptr_t key
    # Where it is, or was last, registered.
    cdef AfdSelector home

    cdef int enter(self, Selector selector, object token, int interest, int options) except -1
    cdef int change(self, Selector selector, object token, int interest, int options) except -1
    cdef int leave(self, Selector selector) except -1
    cdef int finish(self) except -1

    # What subclasses bring: have completions come to that poll, before it is entered; what is wanted, also of a
    # registration that is there already; and let none come any more.
    cdef int attach(self, AfdSelector selector) except -1
    cdef int want(self, int interest) except -1
    cdef int detach(self) except -1

    cdef int part(self) except -1
