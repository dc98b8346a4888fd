from metalio._sys.sockets cimport Address

# An address as a caller gives it: a tuple of the socket module's, or one string.
cdef int read_address(object addr, Address *address) except -1
# The same for Unix sockets: a path, or an abstract name.
cdef int read_path(object path, Address *address) except -1
# As the socket module would give it.
cdef object address_object(const Address *address)
