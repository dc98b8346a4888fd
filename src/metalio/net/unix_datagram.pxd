from metalio.net.datagram cimport Datagram


cdef class UnixDatagram(Datagram):
    # Whether this object has shut down the reading side.
    cdef bint deaf

    cdef int renew_blocked(self, int directions) except -1
