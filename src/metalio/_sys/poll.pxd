from libc.stdint cimport uint32_t

from metalio._sys.bell cimport Bell
from metalio._sys.file_id cimport FileId
from metalio._sys.selector cimport Selector
from metalio._sys.table cimport Record
from metalio.events cimport Events

cdef extern from *:
    """
    #include <errno.h>
    #include <limits.h>
    #include <poll.h>
    #include <stdint.h>
    #include <time.h>
    #ifndef POLLRDHUP
    #define POLLRDHUP 0
    #endif
    /* ppoll(2) is to the nanosecond.  Where it is missing (macOS), or nobody knows, the time is rounded up. */
    static inline int metalio_poll(struct pollfd *fds, nfds_t count, int64_t nanoseconds) {
    #if defined(__linux__) || defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__DragonFly__)
        struct timespec timeout;
        timeout.tv_sec = nanoseconds / 1000000000;
        timeout.tv_nsec = nanoseconds % 1000000000;
        int result = ppoll(fds, count, nanoseconds < 0 ? NULL : &timeout, NULL);
    #else
        int64_t milliseconds = nanoseconds < 0 ? -1 : (nanoseconds + 999999) / 1000000;
        int result = poll(fds, count, milliseconds > INT_MAX ? INT_MAX : (int)milliseconds);
    #endif
        return result < 0 ? -errno : result;
    }
    """
    struct pollfd:
        int fd
        short events
        short revents
    enum:
        POLLIN
        POLLPRI
        POLLOUT
        POLLERR
        POLLHUP
        POLLNVAL
        POLLRDHUP
    int poll_for "metalio_poll"(pollfd *fds, unsigned long count, long long nanoseconds) noexcept nogil




cdef class PollSelector(Selector):
    cdef Bell bell
    # Arrays side by side, the first for the kernel; the bell has the first place.
    cdef pollfd *fds
    cdef uint32_t *generations
    # Which files they are, beside them.
    cdef FileId *files
    cdef Py_ssize_t count
    cdef Py_ssize_t space
    # Where the next collect() begins, so that the last ones have their turn when not all fit.
    cdef Py_ssize_t turn

    cdef int grow(self) except -1
    cdef int ask(self, Record record) noexcept
    cdef int renounce(self, Record record) noexcept
    cdef bint same_file(self, Record record) noexcept
    cdef int report(self, Events events, pollfd *place, uint32_t generation) noexcept
