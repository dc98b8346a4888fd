from metalio.net.datagram cimport Datagram


cdef class UnixDatagram(Datagram):
    pass
