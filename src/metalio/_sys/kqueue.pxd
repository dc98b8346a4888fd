from libc.stdint cimport int64_t, uint32_t, uintptr_t

from metalio._sys.bell cimport Bell
from metalio._sys.selector cimport Selector
from metalio._sys.table cimport Record
from metalio.events cimport Events, Ready

cdef extern from *:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/types.h>
    #include <sys/event.h>
    #include <sys/stat.h>
    #include <time.h>

    /* The types of the fields differ: filters are signed 16 bits or unsigned 32, user data is a pointer or (NetBSD until
       10) an integer.  Assignments convert all but the last. */
    typedef struct kevent metalio_kevent;
    static inline void metalio_fill(metalio_kevent *event, uintptr_t ident, int filter, int flags, unsigned fflags,
                                    int64_t data, uint32_t generation) {
        memset(event, 0, sizeof *event);
        event->ident = ident;
        event->filter = filter;
        event->flags = flags;
        event->fflags = fflags;
        event->data = data;
        event->udata = (__typeof__(event->udata))(uintptr_t)generation;
    }
    #define metalio_filter(event) ((int)(event)->filter)
    #define metalio_user_data(event) ((uint32_t)(uintptr_t)(event)->udata)

    /* Make changes, and set each one's data to 0 or the number of its error.  What is ready is not taken away. */
    static inline int metalio_change(int kq, metalio_kevent *changes, int count) {
        int i, done = 0;
    #ifdef EV_RECEIPT
        static const struct timespec none = {0, 0};
        for (i = 0; i < count; i++) changes[i].flags |= EV_RECEIPT;
        done = kevent(kq, changes, count, changes, count, &none);
        /* A signal comes after the changes. */
        if (done < 0 && errno != EINTR) return errno;
        for (i = 0; i < count; i++)
            if (i >= done || !(changes[i].flags & EV_ERROR)) changes[i].data = 0;
    #else
        for (i = 0; i < count; i++) {
            done = kevent(kq, changes + i, 1, NULL, 0, NULL);
            changes[i].data = done < 0 && errno != EINTR ? errno : 0;
        }
    #endif
        return 0;
    }

    static inline int metalio_await(int kq, metalio_kevent *events, int count, int64_t nanoseconds) {
        struct timespec timeout;
        timeout.tv_sec = nanoseconds / 1000000000;
        timeout.tv_nsec = nanoseconds % 1000000000;
        count = kevent(kq, NULL, 0, events, count, nanoseconds < 0 ? NULL : &timeout);
        return count < 0 ? -errno : count;
    }

    /* No child of a fork inherits it, so there is no moment in which one could. */
    static inline int metalio_kqueue(void) {
        int kq = kqueue();
        if (kq >= 0) fcntl(kq, F_SETFD, FD_CLOEXEC);
        return kq;
    }

    /* What is not everywhere.  A filter that is missing has a number above those of any system. */
    #define METALIO_MISSING 0x7000
    #ifdef EVFILT_USER
    #define METALIO_USER EVFILT_USER
    #define METALIO_TRIGGER NOTE_TRIGGER
    #else
    #define METALIO_USER (METALIO_MISSING + 0)
    #define METALIO_TRIGGER 0
    #endif
    #if defined(EVFILT_EXCEPT) && defined(NOTE_OOB)
    #define METALIO_EXCEPT EVFILT_EXCEPT
    #define METALIO_OOB NOTE_OOB
    #else
    #define METALIO_EXCEPT (METALIO_MISSING + 1)
    #define METALIO_OOB 0
    #endif
    /* macOS and NetBSD name the filter, and have no way to use it. */
    #if defined(EVFILT_AIO) && (defined(__FreeBSD__) || defined(__DragonFly__) || defined(KQUEUE_STAND_IN))
    #define METALIO_AIO EVFILT_AIO
    #else
    #define METALIO_AIO (METALIO_MISSING + 2)
    #endif
    #if defined(EVFILT_LIO) && (defined(__FreeBSD__) || defined(KQUEUE_STAND_IN))
    #define METALIO_LIO EVFILT_LIO
    #else
    #define METALIO_LIO (METALIO_MISSING + 3)
    #endif
    #ifdef EV_DISPATCH
    #define METALIO_DISPATCH EV_DISPATCH
    #else
    #define METALIO_DISPATCH 0
    #endif

    /* A timer of so many nanoseconds: which unit there is, and how many of those (rounded up, and not 0). */
    #ifdef NOTE_NSECONDS
    #define METALIO_UNIT NOTE_NSECONDS
    #define METALIO_UNITS(nanoseconds) ((nanoseconds) > 0 ? (nanoseconds) : 1)
    #else
    #define METALIO_UNIT 0
    #define METALIO_UNITS(nanoseconds) ((nanoseconds) > 0 ? ((nanoseconds) + 999999) / 1000000 : 1)
    #endif

    /* On macOS the end of a FIFO is never reported.  A pipe, which has no name and no device, is fine. */
    static inline int metalio_deaf_fifo(int fd) {
    #ifdef __APPLE__
        struct stat status;
        return fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode) && status.st_dev != 0;
    #else
        (void)fd;
        return 0;
    #endif
    }
    static inline int metalio_is_device(int fd) {
        struct stat status;
        return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode);
    }
    """
    ctypedef struct kevent "metalio_kevent":
        uintptr_t ident
        unsigned int flags
        unsigned int fflags
        int64_t data
    enum:
        EV_ADD
        EV_DELETE
        EV_ENABLE
        EV_DISABLE
        EV_ONESHOT
        EV_CLEAR
        EV_EOF
        EV_ERROR
        EV_DISPATCH "METALIO_DISPATCH"
        EVFILT_READ
        EVFILT_WRITE
        EVFILT_TIMER
        EVFILT_USER "METALIO_USER"
        EVFILT_EXCEPT "METALIO_EXCEPT"
        EVFILT_AIO "METALIO_AIO"
        EVFILT_LIO "METALIO_LIO"
        MISSING "METALIO_MISSING"
        NOTE_TRIGGER "METALIO_TRIGGER"
        NOTE_OOB "METALIO_OOB"
        TIMER_UNIT "METALIO_UNIT"
    int new_kqueue "metalio_kqueue"() noexcept nogil
    int fill "metalio_fill"(
        kevent *event, uintptr_t ident, int filter, int flags, unsigned int fflags, int64_t data, uint32_t generation
    ) noexcept nogil
    int filter_of "metalio_filter"(kevent *event) noexcept nogil
    uint32_t user_data "metalio_user_data"(kevent *event) noexcept nogil
    # 0, or the number of an error; the changes have their own in `data`.
    int make_changes "metalio_change"(int kq, kevent *changes, int count) noexcept nogil
    # How many events, or the negative number of an error.
    int await_events "metalio_await"(int kq, kevent *events, int count, int64_t nanoseconds) noexcept nogil
    int64_t timer_units "METALIO_UNITS"(int64_t nanoseconds) noexcept nogil
    bint deaf_fifo "metalio_deaf_fifo"(int fd) noexcept nogil
    bint is_device "metalio_is_device"(int fd) noexcept nogil


cdef class KqueueSelector(Selector):
    cdef int kq
    # Only where EVFILT_USER is missing, or a pipe is forced.
    cdef Bell bell

    cdef int list_changes(self, Record record, int filters, int flags, kevent *changes) noexcept
    cdef int begin(self, Record record, int filters, int flags) noexcept
    cdef int note_marks(self, Record record) noexcept
    cdef int judge(self, Record record, kevent *change) noexcept
    cdef int end(self, Record record) noexcept
    cdef bint knows(self, Record record) noexcept
    cdef int wanted(self, Record record) noexcept
    cdef int triggering(self, Record record) noexcept
    cdef int restore(self, Record record, int filters, int flags) noexcept
    cdef int complete(self, Events events, Record record, kevent *event) except -1
    cdef int store(self, Events events, Record record, kevent *event) noexcept
    cdef bint still_broken(self, Record record) noexcept
    cdef int ready_of(self, Record record, kevent *event) noexcept
    cdef int disarm(self, Record record, int filter) noexcept
    cdef int silence(self, kevent *event) noexcept
    cdef int start_bell(self) except -1
