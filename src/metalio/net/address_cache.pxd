from libc.stdint cimport uint32_t

from metalio._sys.sockets cimport Address


# An internet address without what differs between systems, nor anything undefined: family and port, flowinfo, scope,
# and up to four words of the host.
cdef struct Name:
    uint32_t words[7]


cdef class AddressCache:
    # One place for each slot in both; a name without a family is an empty place.
    cdef Name *names
    cdef list objects
    cdef Py_ssize_t slots
    cdef Py_ssize_t misses

    cdef object decode(self, const Address *address)
    cdef int encode(self, object addr, Address *address) except -1
    cdef int miss(self) except -1
