from metalio._sys.datagrams cimport Message
from metalio._sys.sockets cimport Address, iovec
from metalio.net.address_cache cimport AddressCache


# One datagram beside its message header, which is found from there by msg_iov.
cdef struct Slot:
    iovec vector
    # UDP_SEGMENT on the way out; on the way in UDP_GRO, and what else the socket was told to report.
    char control[128]
    # Its size is 0 where there is none.
    Address name
    Py_ssize_t length
    int segment_size
    bint truncated


cdef class DatagramBatch:
    # Where the payloads are.  Never resized, and reachable by nothing but this and the entries.
    cdef bytes storage
    # The first `count` of the headers are the entries, in order.  A header keeps its slot wherever it is moved to.
    cdef Message *messages
    cdef Slot *slots
    cdef Py_ssize_t _capacity
    cdef Py_ssize_t _size
    cdef Py_ssize_t count
    # How many headers from the front on have to be made ready again before the kernel receives into them.
    cdef Py_ssize_t used
    # An error of the first entry that is to be raised by the next send.
    cdef int error
    cdef AddressCache peers
    cdef AddressCache destinations

    # How many datagrams, or the negative number of an error.
    cdef Py_ssize_t fill(self, int fd, int *later) noexcept
    cdef Py_ssize_t flush(self, int fd) noexcept
    cdef int drop(self, Py_ssize_t count) noexcept
    # What may be the matter where the system refuses the first entry.
    cdef object hint(self, int error)


cdef class DatagramEntry:
    cdef bytes storage
    cdef char *at
    cdef Py_ssize_t length
    cdef object _addr
    cdef int _segment_size
    cdef bint _truncated
