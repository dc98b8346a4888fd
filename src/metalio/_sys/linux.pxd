# What epoll(7) and eventfd(2) need, and the C library does not declare everywhere.

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64

    struct epoll_event:
        uint32_t events
        epoll_data_t data

    enum:
        EPOLLIN
        EPOLLOUT
        EPOLLPRI
        EPOLLERR
        EPOLLHUP
        EPOLLRDHUP
        EPOLLET
        EPOLLONESHOT
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL

    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)

cdef extern from *:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <stdint.h>
    #include <sys/epoll.h>
    #include <sys/eventfd.h>
    #include <sys/syscall.h>
    #include <sys/timerfd.h>
    #include <string.h>
    #include <time.h>
    #include <unistd.h>
    #ifndef EPOLLEXCLUSIVE
    #define EPOLLEXCLUSIVE (1u << 28)
    #endif
    /* Whether the kernel's events are laid out as 32 bits of flags, then the lower and the upper half of the user data. */
    #define METALIO_EPOLL_PACKED \
        (sizeof(struct epoll_event) == 12 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
    /* glibc has a wrapper from 2.35 only, musl has none. */
    static inline int metalio_epoll_pwait2(int epfd, struct epoll_event *events, int most, int64_t nanoseconds) {
    #ifdef SYS_epoll_pwait2
        struct { int64_t seconds, nanoseconds; } timeout = {nanoseconds / 1000000000, nanoseconds % 1000000000};
        return (int)syscall(SYS_epoll_pwait2, epfd, events, most, &timeout, NULL, 0);
    #else
        errno = ENOSYS;
        return -1;
    #endif
    }
    /* At a time on the clock of clock.pxd, or never (INT64_MAX). */
    static inline int metalio_set_timer(int fd, int64_t deadline) {
        struct itimerspec when;
        memset(&when, 0, sizeof when);
        if (deadline != INT64_MAX) {
            when.it_value.tv_sec = deadline / 1000000000;
            when.it_value.tv_nsec = deadline % 1000000000;
        }
        return timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL);
    }
    #define metalio_new_timer() timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)
    """
    enum:
        EPOLLEXCLUSIVE
        EPOLL_PACKED "METALIO_EPOLL_PACKED"
    int dup3(int fd, int to, int flags) nogil
    enum:
        O_CLOEXEC
    int epoll_pwait2 "metalio_epoll_pwait2"(int epfd, epoll_event *events, int most, int64_t nanoseconds) nogil
    int new_timer "metalio_new_timer"() nogil
    int set_timer "metalio_set_timer"(int fd, int64_t deadline) nogil
