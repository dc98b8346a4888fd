from metalio.net.stream cimport Stream

cdef extern from *:
    """
    #ifndef _WIN32
    #include <sys/ioctl.h>
    #endif
    /* Whether the next byte comes after urgent data (sockatmark). */
    static inline int metalio_at_mark(int fd) {
        int mark = 0;
    #ifdef _WIN32
        (void)fd;
    #else
        if (ioctl(fd, SIOCATMARK, &mark) < 0) return 0;
    #endif
        return mark;
    }
    """
    bint at_mark "metalio_at_mark"(int fd) noexcept nogil


cdef class TcpStream(Stream):
    cdef int renew_short(self, int directions) except -1
