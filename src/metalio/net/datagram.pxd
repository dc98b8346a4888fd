from metalio._sys.sockets cimport Address
from metalio.net.socket cimport Socket


cdef class Datagram(Socket):
    # Addresses between caller and kernel.
    cdef int encode(self, object addr, Address *address) except -1
    cdef object decode(self, const Address *address)
    # One system call: how many bytes, or the negative number of an error.  No address: NULL.
    cdef Py_ssize_t receive(self, void *into, size_t size, int flags, Address *peer) noexcept
    cdef Py_ssize_t transmit(self, const void *data, size_t size, Address *to) noexcept
    # The result of a failed operation: None where it would block, else an exception.
    cdef object fail(self, int error, int directions, object hint)
