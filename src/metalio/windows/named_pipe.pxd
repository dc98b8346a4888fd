from metalio._sys.afd cimport AfdSelector
from metalio._sys.pipes cimport PipeInfo, PipeNode
from metalio._sys.port_source cimport PortSource
from metalio._sys.selector cimport Selector
from metalio._sys.sockets cimport iovec
from metalio.io_source cimport IoSource


# What is registered of a pipe.
cdef class PipeSource(PortSource):
    cdef AfdSelector port_of

    cdef PipeNode pipe(self)
    cdef int attach(self, AfdSelector selector) except -1
    cdef int want(self, int interest) except -1
    cdef int detach(self) except -1


cdef class NamedPipe(IoSource):
    cdef PipeSource source
    cdef PipeNode node

    cdef int own(self, void *handle, PipeInfo *info) except -1
    cdef int check_server(self) except -1
    cdef object read_message(self)
    cdef int surrender(self) except -2
    cdef int close_descriptor(self, int fd) noexcept
    cdef int enter(self, Selector selector, object token, int interest, int options) except -1
    cdef int change(self, Selector selector, object token, int interest, int options) except -1
    cdef int leave(self, Selector selector) except -1
    cdef int settle(self) except -1
    cdef Py_ssize_t pull(self, int fd, void *into, size_t size, int flags) noexcept nogil
    cdef Py_ssize_t push(self, int fd, const void *data, size_t size) noexcept nogil
    cdef Py_ssize_t pull_vector(self, int fd, iovec *vector, int count) noexcept nogil
    cdef Py_ssize_t push_vector(self, int fd, iovec *vector, int count) noexcept nogil
