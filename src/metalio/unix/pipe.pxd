from metalio._sys.sockets cimport iovec
from metalio.io_source cimport IoSource


cdef class Sender(IoSource):
    pass


cdef class Receiver(IoSource):
    pass


cdef extern from *:
    """
    #include <errno.h>
    #include <signal.h>
    #include <sys/uio.h>
    #include <time.h>
    #include <unistd.h>

    static inline ssize_t metalio_write(int fd, const struct iovec *vector, int count) {
        ssize_t sent;
        do {
            sent = count == 1 ? write(fd, vector->iov_base, vector->iov_len) : writev(fd, vector, count);
        } while (sent < 0 && errno == EINTR);
        return sent < 0 ? -errno : sent;
    }

    /* A pipe has no MSG_NOSIGNAL.  Python ignores SIGPIPE, but a program may have undone that; then the signal is
       blocked during the write, and the one that the write has made pending is taken away.  It goes to this thread,
       so no other one can be hit. */
    static inline ssize_t metalio_write_silently(int fd, const struct iovec *vector, int count) {
        struct sigaction action;
        if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            return metalio_write(fd, vector, count);
        sigset_t broken, mask, before, after;
        sigemptyset(&broken);
        sigaddset(&broken, SIGPIPE);
        sigemptyset(&before);
        sigemptyset(&after);
        int failed = pthread_sigmask(SIG_BLOCK, &broken, &mask);
        if (failed) return -failed;
        sigpending(&before);
        ssize_t sent = metalio_write(fd, vector, count);
        size_t size = 0;
        for (int index = 0; index < count; index++) size += vector[index].iov_len;
        /* The last reader may also go while there are bytes in the pipe already: then the write is short. */
        if (!sigismember(&before, SIGPIPE) && (sent == -EPIPE || (sent >= 0 && (size_t)sent < size))) {
            sigpending(&after);
            if (sigismember(&after, SIGPIPE)) {
    #if defined(__APPLE__) || defined(__OpenBSD__)
                int number;
                sigwait(&broken, &number);
    #else
                struct timespec now = {0, 0};
                while (sigtimedwait(&broken, NULL, &now) < 0 && errno == EINTR) {}
    #endif
            }
        }
        pthread_sigmask(SIG_SETMASK, &mask, NULL);
        return sent;
    }
    """
    # How many bytes, or the negative number of an error.
    Py_ssize_t write_silently "metalio_write_silently"(int fd, const iovec *vector, int count) noexcept nogil
