from metalio.net.stream cimport Stream


cdef class UnixStream(Stream):
    pass
