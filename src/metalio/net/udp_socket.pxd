from metalio.net.address_cache cimport AddressCache
from metalio.net.datagram cimport Datagram


cdef class UdpSocket(Datagram):
    # Made on first use: most sockets of a client see one address.
    cdef AddressCache peers
    cdef AddressCache destinations

    cdef int get_byte(self, int level, int name) except -1
    cdef int set_byte(self, int level, int name, object value) except -1
    cdef int change_membership_v4(self, int option, object group, object interface) except -1
    cdef int change_membership_v6(self, int option, object group, object interface) except -1
