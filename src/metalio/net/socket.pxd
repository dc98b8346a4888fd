from metalio._sys.sockets cimport Address
from metalio.io_source cimport IoSource


cdef class Socket(IoSource):
    cdef int get_option(self, int level, int name) except? -1
    cdef int set_option(self, int level, int name, int value) except -1
    cdef int family(self) except -1

# A descriptor of socket.socket's, checked and taken over.
cdef int take_over(object sock, tuple families, int kind) except -1
# These raise what the system answers.
cdef int bind_socket(int fd, Address *address) except -1
cdef int connect_socket(int fd, Address *address) except -1
# A new descriptor.
cdef int open_or_raise(int family, int kind) except -1
# SO_REUSEPORT, before it is bound.
cdef int share_port(Socket sock) except -1
# A yes-or-no from a caller: any truth value.
cdef int flag(object value) except -1
