from metalio.net.socket cimport Socket


cdef class UnixListener(Socket):
    pass
