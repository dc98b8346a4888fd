from metalio._sys.selector cimport Selector
from metalio.io_source cimport IoSource
from metalio.user_source cimport UserSource

cdef extern from *:
    """
    #ifdef _WIN32
    #include <winsock2.h>
    #include <windows.h>
    #include <stdint.h>
    #define metalio_close_process(fd) ((void)CloseHandle((HANDLE)(intptr_t)(fd)))
    #else
    #include <unistd.h>
    #define metalio_close_process(fd) ((void)close(fd))
    #endif
    """
    void close_process "metalio_close_process"(int fd) noexcept nogil


cdef class ChildExit(IoSource):
    cdef object number
    # What the platform has to say of it.
    cdef object process
    # What is registered in place of the descriptor, where that cannot be polled: on Windows.
    cdef UserSource inner

    cdef int hold(self) except -1
    cdef int let_go(self) except -1
    cdef int lose(self) except -1
    cdef int surrender(self) except -2
    cdef int close_descriptor(self, int fd) noexcept
    cdef int leave(self, Selector selector) except -1
    cdef int enter(self, Selector selector, object token, int interest, int options) except -1
    cdef int change(self, Selector selector, object token, int interest, int options) except -1
