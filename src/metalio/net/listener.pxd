from metalio._sys.sockets cimport Address
from metalio.io_source cimport IoSource

# accept4(2): a descriptor, -1 where it would block, or an exception.
cdef int accept_next(IoSource listener, Address *peer) except -2
# Raises ValueError for a socket.socket that does not listen.
cdef int check_listening(object sock) except -1
