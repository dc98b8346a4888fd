from metalio._sys.sockets cimport iovec
from metalio.base_buf cimport BaseBuf, Storage


cdef class RingBuf(Storage):
    # Where the oldest byte is, and how many there are.  The place of the next one depends on both, and reading changes
    # both so that it stays the same: a reader and a writer do not get in each other's way.
    cdef Py_ssize_t head
    cdef Py_ssize_t count
    # Set during transfers, in and out.
    cdef bint filling
    cdef bint draining

    cdef inline Py_ssize_t tail(self) noexcept:
        cdef Py_ssize_t place = self.head + self.count
        return place - self.capacity if place >= self.capacity else place

    # What comes into an empty ring lies in one piece.  For the writer only, which depends on the place.
    cdef inline int restart(self) noexcept:
        if self.count == 0:
            self.head = 0
        return 0

    cdef inline int drop(self, Py_ssize_t size) noexcept:
        self.head += size
        if self.head >= self.capacity:
            self.head -= self.capacity
        self.count -= size
        return 0

    cdef int share(self, iovec *parts, Py_ssize_t place, Py_ssize_t size) noexcept


cdef class RingBufReader(BaseBuf):
    cdef RingBuf ring


cdef class RingBufWriter(BaseBuf):
    cdef RingBuf ring
