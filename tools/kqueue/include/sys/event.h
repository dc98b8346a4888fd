/* kqueue(2) for tests on Linux: the part of <sys/event.h> that ../../kqueue.c implements, with the types of macOS. */

#ifndef METALIO_SYS_EVENT_H
#define METALIO_SYS_EVENT_H

#include <stdint.h>
#include <time.h>

#define EVFILT_READ (-1)
#define EVFILT_WRITE (-2)
#define EVFILT_AIO (-3)
#define EVFILT_PROC (-5)
#define EVFILT_TIMER (-7)
#define EVFILT_USER (-10)
#define EVFILT_LIO (-12)
#define EVFILT_EXCEPT (-15)

#define EV_ADD 0x0001
#define EV_DELETE 0x0002
#define EV_ENABLE 0x0004
#define EV_DISABLE 0x0008
#define EV_ONESHOT 0x0010
#define EV_CLEAR 0x0020
#define EV_RECEIPT 0x0040
#define EV_DISPATCH 0x0080
#define EV_ERROR 0x4000
#define EV_EOF 0x8000

#define NOTE_OOB 0x0002
#define NOTE_NSECONDS 0x0004
#define NOTE_TRIGGER 0x01000000
#define NOTE_EXIT 0x80000000u
#define NOTE_EXITSTATUS 0x04000000u

struct kevent {
    uintptr_t ident;
    int16_t filter;
    uint16_t flags;
    uint32_t fflags;
    intptr_t data;
    void *udata;
};

int kqueue(void);
int kevent(int kq, const struct kevent *changes, int nchanges, struct kevent *events, int nevents,
           const struct timespec *timeout);

/* What only this one has: as if a request of asynchronous I/O were done. */
#define KQUEUE_STAND_IN 1
int kqueue_complete(int kq, int filter, uintptr_t ident, uintptr_t udata, int flags);

#endif
