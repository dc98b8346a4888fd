from metalio.net.socket cimport Socket


cdef class TcpListener(Socket):
    pass
