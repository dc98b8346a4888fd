/* kqueue(2) for tests on Linux, over epoll(7).

   A kqueue is an epoll set, which has in it: a set each for EVFILT_READ, EVFILT_WRITE and EVFILT_EXCEPT, so that the
   filters of a descriptor are triggered apart from each other; an eventfd that is readable while an EVFILT_USER filter
   is active; a timerfd for each EVFILT_TIMER; and a pidfd for each EVFILT_PROC.  So it can be polled itself, as a
   kqueue can.

   What it takes from the manual pages and from FreeBSD, and what programs stumble over:
   - Filters are level-triggered; EV_CLEAR makes them report changes of state only.
   - There is one filter of a kind for each ident: EV_ADD changes one that exists (its user data, not how it is
     triggered), without EV_ADD there is ENOENT.  Changing one looks anew at what is ready.
   - EV_DISPATCH disables the one filter, EV_ONESHOT deletes it.
   - Errors are events with EV_ERROR, or else -1 where there is no room.  EV_RECEIPT has all changes reported like that,
     and then nothing else is.
   - EV_EOF on EVFILT_READ and EVFILT_WRITE, with an error in fflags where there is one; an error alone is no EV_EOF.
   - EVFILT_WRITE on a pipe whose reader has gone is EPIPE.  A kqueue can be read, not written, and not be in itself.
   - Closing a descriptor removes its filters, whoever keeps the file open.  Linux tells nobody of that, so close(),
     dup2(), dup3() and close_range() are replaced: have this library preloaded (LD_PRELOAD).  A child of vfork() closes
     descriptors of its own.
   - A child of fork() does not inherit a kqueue: it is closed there.
   - EVFILT_PROC has NOTE_EXIT only, once, and the status of a process in it that somebody else has waited for (waitpid()
     and wait4() are replaced for that).  NOTE_EXITSTATUS is for the parent only, as on macOS.  A zombie is reported at
     once, without its status, as old releases of FreeBSD do, or (KQUEUE_ZOMBIES=refused) is ESRCH, as elsewhere.

   - EVFILT_AIO and EVFILT_LIO are not for kevent() to add: kqueue_complete() pretends that a request was done, which then
     is reported until it is deleted.
   - In the environment: KQUEUE_WITHOUT_USER, KQUEUE_WITHOUT_EXCEPT have it refuse those filters, as systems do that have
     none; KQUEUE_PIPE_EBADF makes the EPIPE above EBADF, as on NetBSD.

   What it cannot do: disable an EVFILT_PROC; tell which error is pending without taking it away (fflags is ECONNRESET); be in sets that are
   nested more than two deep; report EV_EOF for writing after one's own shutdown(2). */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { READ, WRITE, EXCEPT, SETS, ALERT = SETS, TIMER, PROC, AIO, LIO, KINDS };

struct filter {
    struct kevent event;
    uint32_t serial;
    int enabled;
    /* For EVFILT_USER, EVFILT_AIO, EVFILT_LIO. */
    int active;
    /* A timerfd or pidfd of its own, or -1. */
    int own;
    /* For EVFILT_PROC: whether it is known, and what waitpid() says. */
    int known, status;
    int file_kind;
    struct filter *next;
};

struct queue {
    int fd;
    int sets[SETS];
    int alert, alerted;
    /* Of user events and timers. */
    struct filter *others;
    /* Of descriptors, by set and number. */
    struct filter **by_fd[SETS];
    int known;
    unsigned turn;
    struct queue *next;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct queue *queues;
static uint32_t serial;
static pid_t owner;

/* Whether closing a descriptor may concern anybody. */
#define MARKS 65536
static unsigned char marks[MARKS];

static int really_close(int fd) { return (int)syscall(SYS_close, fd); }

static struct queue *find_queue(int fd) {
    struct queue *queue = queues;
    while (queue && queue->fd != fd) queue = queue->next;
    return queue;
}

static void mark(int fd) {
    if (fd < MARKS) __atomic_store_n(&marks[fd], 1, __ATOMIC_SEQ_CST);
}

/* -- Filters ------------------------------------------------------------------------------------------------------- */

static int set_of(int filter) {
    switch (filter) {
    case EVFILT_READ: return READ;
    case EVFILT_WRITE: return WRITE;
    case EVFILT_EXCEPT: return EXCEPT;
    default: return -1;
    }
}

static struct filter **find(struct queue *queue, uintptr_t ident, int filter) {
    int set = set_of(filter);
    static struct filter *nothing;
    if (set >= 0) {
        nothing = NULL;
        return ident < (uintptr_t)queue->known ? &queue->by_fd[set][ident] : &nothing;
    }
    struct filter **place = &queue->others;
    while (*place && ((*place)->event.ident != ident || (*place)->event.filter != filter)) place = &(*place)->next;
    return place;
}

static int grow(struct queue *queue, int size) {
    if (size <= queue->known) return 0;
    size += size / 2 + 16;
    for (int set = 0; set < SETS; set++) {
        struct filter **more = realloc(queue->by_fd[set], size * sizeof *more);
        if (!more) return ENOMEM;
        memset(more + queue->known, 0, (size - queue->known) * sizeof *more);
        queue->by_fd[set] = more;
    }
    queue->known = size;
    return 0;
}

/* Whether the eventfd says what the user events are. */
static void update_alert(struct queue *queue) {
    int active = 0;
    uint64_t count = 1;
    for (struct filter *filter = queue->others; filter; filter = filter->next)
        active = active || (filter->active && filter->enabled);
    if (active == queue->alerted) return;
    queue->alerted = active;
    if (active) {
        if (write(queue->alert, &count, sizeof count) < 0 && errno != EAGAIN) abort();
    } else if (read(queue->alert, &count, sizeof count) < 0 && errno != EAGAIN) {
        abort();
    }
}

/* Enable a filter of a descriptor, or look at it anew; disable it. */
static int arm(struct queue *queue, struct filter *filter, int op) {
    static const uint32_t masks[SETS] = {EPOLLIN | EPOLLRDHUP, EPOLLOUT, EPOLLPRI};
    int set = set_of(filter->event.filter);
    struct epoll_event event = {0};
    event.events = masks[set] | (filter->event.flags & EV_CLEAR ? EPOLLET : 0);
    event.data.u64 = (uint64_t)filter->event.ident << 32 | filter->serial;
    return epoll_ctl(queue->sets[set], op, (int)filter->event.ident, &event) < 0 ? errno : 0;
}

static int set_timer(struct filter *filter) {
    struct itimerspec when;
    memset(&when, 0, sizeof when);
    int64_t nanoseconds = filter->event.data;
    if (!(filter->event.fflags & NOTE_NSECONDS)) nanoseconds *= 1000000;
    if (nanoseconds <= 0) nanoseconds = 1;
    when.it_value.tv_sec = nanoseconds / 1000000000;
    when.it_value.tv_nsec = nanoseconds % 1000000000;
    if (!(filter->event.flags & EV_ONESHOT)) when.it_interval = when.it_value;
    return timerfd_settime(filter->own, 0, &when, NULL) < 0 ? errno : 0;
}

static void drop(struct queue *queue, struct filter **place) {
    struct filter *filter = *place;
    int set = set_of(filter->event.filter);
    *place = filter->next;
    if (set >= 0 && filter->enabled) epoll_ctl(queue->sets[set], EPOLL_CTL_DEL, (int)filter->event.ident, NULL);
    if (filter->own >= 0) really_close(filter->own);
    free(filter);
    if (set < 0) update_alert(queue);
}

/* How the child of a pidfd, or of that number, has ended: 1, 0 if it has not, or -1. */
static int status_of(int type, id_t ident, int options, int *status) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    if (syscall(SYS_waitid, type, ident, &info, WEXITED | WNOWAIT | options, NULL) < 0) return -1;
    if (info.si_pid == 0) return 0;
    *status = info.si_code == CLD_EXITED ? (info.si_status & 0xFF) << 8 : info.si_status & 0x7F;
    return 1;
}

static int readable(int fd) {
    struct pollfd look = {fd, POLLIN, 0};
    return poll(&look, 1, 0) > 0;
}

/* The pidfd of a process; or the negative number of an error. */
static int open_process(struct filter *filter) {
    const char *zombies = getenv("KQUEUE_ZOMBIES");
    int fd = (int)syscall(SYS_pidfd_open, (pid_t)filter->event.ident, 0), error = 0, status;
    /* EINVAL is a thread. */
    if (fd < 0) return errno == EINVAL ? -ESRCH : -errno;
    if (status_of(P_PIDFD, fd, WNOHANG, &status) < 0 && filter->event.fflags & NOTE_EXITSTATUS) error = EACCES;
    if (readable(fd)) {
        filter->known = 1;
        if (zombies && strcmp(zombies, "refused") == 0) error = ESRCH;
    }
    if (error) really_close(fd);
    return error ? -error : fd;
}

static int create(struct queue *queue, const struct kevent *change, struct filter **made) {
    int set = set_of(change->filter);
    struct stat status = {0};
    if (set >= 0) {
        if (change->ident > 0x7FFFFFFF || fstat((int)change->ident, &status) < 0) return EBADF;
        if (find_queue((int)change->ident) && (set != READ || (int)change->ident == queue->fd)) return EINVAL;
        struct pollfd look = {(int)change->ident, POLLOUT, 0};
        if (set == EXCEPT && getenv("KQUEUE_WITHOUT_EXCEPT")) return EINVAL;
        if (set == WRITE && S_ISFIFO(status.st_mode) && poll(&look, 1, 0) > 0 && look.revents & POLLERR)
            return getenv("KQUEUE_PIPE_EBADF") ? EBADF : EPIPE;
        int error = grow(queue, (int)change->ident + 1);
        if (error) return error;
    } else if (change->filter != EVFILT_USER && change->filter != EVFILT_TIMER &&
               change->filter != EVFILT_PROC) {
        return EINVAL;
    } else if (change->filter == EVFILT_USER && getenv("KQUEUE_WITHOUT_USER")) {
        return EINVAL;
    }
    struct filter *filter = calloc(1, sizeof *filter);
    if (!filter) return ENOMEM;
    filter->event = *change;
    filter->event.flags &= EV_CLEAR | EV_ONESHOT | EV_DISPATCH;
    filter->event.fflags &= ~NOTE_TRIGGER;
    filter->serial = ++serial;
    filter->own = -1;
    filter->file_kind = status.st_mode & S_IFMT;
    int error = 0;
    if (change->filter == EVFILT_TIMER) {
        struct epoll_event event = {EPOLLIN, {.u64 = TIMER}};
        filter->own = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (filter->own < 0 || epoll_ctl(queue->fd, EPOLL_CTL_ADD, filter->own, &event) < 0) error = errno;
        if (!error) error = set_timer(filter);
    } else if (change->filter == EVFILT_PROC) {
        struct epoll_event event = {EPOLLIN, {.u64 = PROC}};
        filter->event.flags |= EV_ONESHOT;
        filter->own = open_process(filter);
        if (filter->own < 0) {
            error = -filter->own;
            filter->own = -1;
        } else if (epoll_ctl(queue->fd, EPOLL_CTL_ADD, filter->own, &event) < 0) {
            error = errno;
        }
    } else if (set >= 0) {
        error = arm(queue, filter, EPOLL_CTL_ADD);
    }
    if (error) {
        if (filter->own >= 0) really_close(filter->own);
        free(filter);
        return error;
    }
    filter->enabled = 1;
    struct filter **place = find(queue, change->ident, change->filter);
    *place = filter;
    if (set >= 0) mark((int)change->ident);
    *made = filter;
    return 0;
}

static int make_change(struct queue *queue, const struct kevent *change) {
    int set = set_of(change->filter);
    struct filter **place = find(queue, change->ident, change->filter);
    struct filter *filter = *place;
    int error = 0, anew = 1;
    if (!filter) {
        if (!(change->flags & EV_ADD)) {
            if (set < 0) return ENOENT;
            return change->ident > 0x7FFFFFFF || fcntl((int)change->ident, F_GETFD) < 0 ? EBADF : ENOENT;
        }
        error = create(queue, change, &filter);
        if (error) return error;
        anew = 0;
    } else if (change->flags & EV_DELETE) {
        drop(queue, place);
        return 0;
    } else {
        filter->event.udata = change->udata;
        if (set >= 0) filter->event.fflags = change->fflags;
    }
    if (change->filter == EVFILT_USER && change->fflags & NOTE_TRIGGER) filter->active = 1;
    if (change->flags & EV_DISABLE) {
        if (filter->enabled && set >= 0)
            epoll_ctl(queue->sets[set], EPOLL_CTL_DEL, (int)filter->event.ident, NULL);
        filter->enabled = 0;
    } else if (set >= 0 && !filter->enabled && change->flags & EV_ENABLE) {
        error = arm(queue, filter, EPOLL_CTL_ADD);
        filter->enabled = !error;
    } else if (set >= 0 && filter->enabled && anew) {
        error = arm(queue, filter, EPOLL_CTL_MOD);
    } else if (change->flags & EV_ENABLE) {
        filter->enabled = 1;
    }
    if (set < 0) update_alert(queue);
    return error;
}

/* -- Reporting ----------------------------------------------------------------------------------------------------- */

/* After a filter was reported. */
static void reported(struct queue *queue, struct filter *filter) {
    if (filter->event.flags & EV_ONESHOT) {
        drop(queue, find(queue, filter->event.ident, filter->event.filter));
    } else if (filter->event.flags & EV_DISPATCH) {
        int set = set_of(filter->event.filter);
        if (set >= 0) epoll_ctl(queue->sets[set], EPOLL_CTL_DEL, (int)filter->event.ident, NULL);
        filter->enabled = 0;
    }
}

static void describe(struct filter *filter, int set, uint32_t ready, struct kevent *event) {
    *event = filter->event;
    event->data = 0;
    int fifo = filter->file_kind == S_IFIFO, end;
    if (set == EXCEPT) {
        event->fflags = ready & EPOLLPRI ? NOTE_OOB : 0;
        end = ready & EPOLLHUP;
    } else {
        end = ready & EPOLLHUP || (set == READ && ready & EPOLLRDHUP) || (fifo && ready & EPOLLERR);
        event->fflags = end && !fifo && ready & EPOLLERR ? ECONNRESET : 0;
    }
    if (end) event->flags |= EV_EOF;
    int bytes = 0;
    if (set == READ && ioctl((int)filter->event.ident, FIONREAD, &bytes) == 0) event->data = bytes;
}

#define MOST 16384

/* One look and no more: a second one would find again what is triggered by level. */
static int scan_set(struct queue *queue, int set, struct kevent *events, int room) {
    int count = 0;
    if (room > MOST) room = MOST;
    struct epoll_event *ready = malloc(room * sizeof *ready);
    int got = ready ? epoll_wait(queue->sets[set], ready, room, 0) : 0;
    for (int i = 0; i < got; i++) {
        uint32_t ident = ready[i].data.u64 >> 32;
        struct filter *filter = ident < (uint32_t)queue->known ? queue->by_fd[set][ident] : NULL;
        if (!filter || filter->serial != (uint32_t)ready[i].data.u64) continue;
        describe(filter, set, ready[i].events, &events[count++]);
        reported(queue, filter);
    }
    free(ready);
    return count;
}

static int scan_others(struct queue *queue, int kind, struct kevent *events, int room) {
    int count = 0;
    struct filter *next;
    for (struct filter *filter = queue->others; filter && count < room; filter = next) {
        uint64_t times = 1;
        next = filter->next;
        if (filter->event.filter != kind || !filter->enabled) continue;
        if (filter->own < 0 && !filter->active) continue;
        if (kind == EVFILT_TIMER && read(filter->own, &times, sizeof times) < 0) continue;
        if (kind == EVFILT_PROC) {
            if (!readable(filter->own)) continue;
            if (!filter->known) status_of(P_PIDFD, filter->own, WNOHANG, &filter->status);
            events[count] = filter->event;
            events[count].flags |= EV_EOF;
            events[count++].data = filter->event.fflags & NOTE_EXITSTATUS ? filter->status : 0;
            reported(queue, filter);
            continue;
        }
        events[count] = filter->event;
        events[count++].data = kind == EVFILT_TIMER ? (intptr_t)times : 0;
        if (filter->event.flags & EV_CLEAR) filter->active = 0;
        reported(queue, filter);
    }
    update_alert(queue);
    return count;
}

/* In turn, so that where there is little room none of them comes first for ever. */
static int scan(struct queue *queue, struct kevent *events, int room) {
    int count = 0;
    unsigned turn = queue->turn++;
    static const int others[KINDS] = {[ALERT] = EVFILT_USER, [TIMER] = EVFILT_TIMER, [PROC] = EVFILT_PROC,
                                     [AIO] = EVFILT_AIO, [LIO] = EVFILT_LIO};
    for (unsigned i = 0; i < KINDS; i++) {
        int what = (turn + i) % KINDS;
        if (count == room) break;
        if (what < SETS)
            count += scan_set(queue, what, events + count, room - count);
        else
            count += scan_others(queue, others[what], events + count, room - count);
    }
    return count;
}

/* -- The two calls ------------------------------------------------------------------------------------------------- */

static void destroy(struct queue *queue) {
    struct queue **place = &queues;
    while (*place != queue) place = &(*place)->next;
    *place = queue->next;
    for (int set = 0; set < SETS; set++) {
        for (int fd = 0; fd < queue->known; fd++) free(queue->by_fd[set][fd]);
        free(queue->by_fd[set]);
        if (queue->sets[set] >= 0) really_close(queue->sets[set]);
    }
    while (queue->others) {
        struct filter *filter = queue->others;
        queue->others = filter->next;
        if (filter->own >= 0) really_close(filter->own);
        free(filter);
    }
    if (queue->alert >= 0) really_close(queue->alert);
    free(queue);
}

static void before_fork(void) { pthread_mutex_lock(&mutex); }

static void after_fork(void) { pthread_mutex_unlock(&mutex); }

static void in_child(void) {
    while (queues) {
        int fd = queues->fd;
        destroy(queues);
        really_close(fd);
    }
    memset(marks, 0, sizeof marks);
    owner = getpid();
    pthread_mutex_init(&mutex, NULL);
}

static void start(void) {
    owner = getpid();
    pthread_atfork(before_fork, after_fork, in_child);
}

EXPORT int kqueue(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start);
    struct queue *queue = calloc(1, sizeof *queue);
    if (!queue) return -1;
    pthread_mutex_lock(&mutex);
    queue->next = queues;
    queues = queue;
    int number = 0, failed = 0;
    queue->fd = epoll_create1(0);
    queue->alert = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    failed = queue->fd < 0 || queue->alert < 0;
    for (int set = 0; set <= ALERT; set++) {
        struct epoll_event event = {EPOLLIN, {.u64 = set}};
        if (set < SETS) queue->sets[set] = epoll_create1(EPOLL_CLOEXEC);
        int fd = set < SETS ? queue->sets[set] : queue->alert;
        failed = failed || fd < 0 || epoll_ctl(queue->fd, EPOLL_CTL_ADD, fd, &event) < 0;
    }
    number = errno;
    int fd = queue->fd;
    if (failed) {
        destroy(queue);
        if (fd >= 0) really_close(fd);
        fd = -1;
    } else {
        mark(fd);
    }
    pthread_mutex_unlock(&mutex);
    errno = number;
    return fd;
}

EXPORT int kevent(int kq, const struct kevent *changes, int nchanges, struct kevent *events, int nevents,
                  const struct timespec *timeout) {
    int count = 0;
    pthread_mutex_lock(&mutex);
    struct queue *queue = find_queue(kq);
    if (!queue) {
        pthread_mutex_unlock(&mutex);
        errno = EBADF;
        return -1;
    }
    for (int i = 0; i < nchanges; i++) {
        /* Both may be the same array. */
        struct kevent change = changes[i];
        int error = make_change(queue, &change);
        if (!error && !(change.flags & EV_RECEIPT)) continue;
        if (count == nevents) {
            if (!error) continue;
            pthread_mutex_unlock(&mutex);
            errno = error;
            return -1;
        }
        change.flags |= EV_ERROR;
        change.data = error;
        events[count++] = change;
    }
    pthread_mutex_unlock(&mutex);
    if (count || nevents == 0) return count;

    struct timespec end = {0}, left = {0};
    if (timeout) {
        if (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec > 999999999 ||
            timeout->tv_sec > 100000000) {
            errno = EINVAL;
            return -1;
        }
        clock_gettime(CLOCK_MONOTONIC, &end);
        end.tv_sec += timeout->tv_sec;
        end.tv_nsec += timeout->tv_nsec;
        if (end.tv_nsec > 999999999) end.tv_sec++, end.tv_nsec -= 1000000000;
    }
    for (;;) {
        pthread_mutex_lock(&mutex);
        /* It may have been closed. */
        queue = find_queue(kq);
        count = queue ? scan(queue, events, nevents) : -1;
        pthread_mutex_unlock(&mutex);
        if (!queue) errno = EBADF;
        if (count) return count;
        if (timeout) {
            clock_gettime(CLOCK_MONOTONIC, &left);
            left.tv_sec = end.tv_sec - left.tv_sec;
            left.tv_nsec = end.tv_nsec - left.tv_nsec;
            if (left.tv_nsec < 0) left.tv_sec--, left.tv_nsec += 1000000000;
            if (left.tv_sec < 0 || (left.tv_sec == 0 && left.tv_nsec == 0)) return 0;
            if (timeout->tv_sec == 0 && timeout->tv_nsec == 0) return 0;
        }
        struct epoll_event event;
        int got = (int)syscall(SYS_epoll_pwait2, kq, &event, 1, timeout ? &left : NULL, NULL, 0);
        if (got < 0) return -1;
    }
}

EXPORT int kqueue_complete(int kq, int kind, uintptr_t ident, uintptr_t udata, int flags) {
    int error = ENOMEM;
    pthread_mutex_lock(&mutex);
    struct queue *queue = find_queue(kq);
    struct filter *filter = queue ? calloc(1, sizeof *filter) : NULL;
    if (filter) {
        filter->event = (struct kevent){ident, kind, flags, 0, 0, (void *)udata};
        filter->own = -1;
        filter->active = filter->enabled = 1;
        filter->next = queue->others;
        queue->others = filter;
        update_alert(queue);
        error = 0;
    }
    pthread_mutex_unlock(&mutex);
    return error;
}

/* -- What closes descriptors --------------------------------------------------------------------------------------- */

static void forget(int fd) {
    if (fd < 0 || (fd < MARKS && !__atomic_load_n(&marks[fd], __ATOMIC_SEQ_CST)) || getpid() != owner) return;
    pthread_mutex_lock(&mutex);
    if (fd < MARKS) marks[fd] = 0;
    struct queue *closed = find_queue(fd);
    if (closed) destroy(closed);
    for (struct queue *queue = queues; queue; queue = queue->next)
        for (int set = 0; set < SETS && fd < queue->known; set++)
            if (queue->by_fd[set][fd]) drop(queue, &queue->by_fd[set][fd]);
    pthread_mutex_unlock(&mutex);
}

EXPORT int close(int fd) {
    forget(fd);
    return really_close(fd);
}

EXPORT int dup2(int fd, int to) {
    if (fd != to && fcntl(fd, F_GETFD) >= 0) forget(to);
    if (fd == to) return fcntl(fd, F_GETFD) < 0 ? -1 : fd;
    return (int)syscall(SYS_dup3, fd, to, 0);
}

EXPORT int dup3(int fd, int to, int flags) {
    if (fd != to && fcntl(fd, F_GETFD) >= 0) forget(to);
    return (int)syscall(SYS_dup3, fd, to, flags);
}

EXPORT int close_range(unsigned first, unsigned last, int flags) {
    if (!flags)
        for (unsigned fd = first; fd <= last && fd < MARKS; fd++) forget((int)fd);
    return (int)syscall(SYS_close_range, first, last, flags);
}

/* -- What waits for processes -------------------------------------------------------------------------------------- */

/* Nobody can ask for it later. */
static void note_status(pid_t pid, int status) {
    pthread_mutex_lock(&mutex);
    for (struct queue *queue = queues; queue; queue = queue->next) {
        struct filter *filter = *find(queue, pid, EVFILT_PROC);
        if (filter && !filter->known) {
            filter->known = 1;
            filter->status = status;
        }
    }
    pthread_mutex_unlock(&mutex);
}

EXPORT pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage) {
    int found;
    if (getpid() != owner || options & ~WNOHANG) return (pid_t)syscall(SYS_wait4, pid, status, options, usage);
    if (pid > 0) {
        int ended = status_of(P_PID, pid, options & WNOHANG, &found);
        if (ended <= 0) return ended;
        note_status(pid, found);
    }
    pid_t waited = (pid_t)syscall(SYS_wait4, pid, &found, options, usage);
    if (waited > 0) note_status(waited, found);
    if (waited > 0 && status) *status = found;
    return waited;
}

EXPORT pid_t waitpid(pid_t pid, int *status, int options) { return wait4(pid, status, options, NULL); }
