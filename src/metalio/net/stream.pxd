from metalio.net.socket cimport Socket


cdef class Stream(Socket):
    pass
