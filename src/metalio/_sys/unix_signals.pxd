from metalio._sys.signals cimport Listener
from metalio.io_source cimport IoSource


cdef class Signals(IoSource):
    cdef Listener *listener
    # The end of the bell that the handler writes to: the descriptor itself, or the other end of a pipe.
    cdef int bell
    # What each number is given as.
    cdef dict names

    cdef int start(self, object numbers) except -1
    cdef int silence(self) noexcept
    cdef int close_descriptor(self, int fd) noexcept
    cdef object take(self, int number)
    cdef int leave_rest(self) except -1
