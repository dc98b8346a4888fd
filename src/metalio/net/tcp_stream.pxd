from metalio.net.stream cimport Stream


cdef class TcpStream(Stream):
    pass
