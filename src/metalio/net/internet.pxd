from metalio.net.socket cimport Socket

# Options that IPv4 and IPv6 call differently.
cdef int get_ip_option(Socket sock, int v4_name, int v6_name) except? -1
cdef int set_ip_option(Socket sock, int v4_name, int v6_name, int value) except -1
cdef int get_ttl(Socket sock) except? -1
cdef int set_ttl(Socket sock, int value) except -1
