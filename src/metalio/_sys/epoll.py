"""Linux: epoll(7).

The kernel's set holds open files, not descriptors.  That is what most of this file is about: a descriptor that was
closed while a duplicate of it (in this process or a child) keeps the file open stays in the set, goes on being
reported, and cannot be removed, since there is no descriptor left to name it by, or the number names another file.

- Such events find no record of their generation and are dropped.
- Where nothing is registered under the number, removing it may still work: the descriptor may be open all the same.
- Otherwise the whole set is replaced by one made from the table.  Which of the table's records the kernel still knows
  is asked of the old set, because a descriptor that was closed and reused behind our back must not enter the new one.

Edges need no emulation here, with one exception: a TCP stream stops reading at the mark of urgent data, and then a
short read is not the end.  So the streams also ask for EPOLLPRI (which costs nothing until there is such data), and a
stream on which it was seen renews its registration after a short read.
"""

import cython
from cython.cimports.libc.errno import EBADF, EINVAL, ENOENT, ENOSYS, EPERM, errno
from cython.cimports.libc.limits import INT_MAX
from cython.cimports.libc.stdint import INT64_MAX, uint32_t, uint64_t
from cython.cimports.metalio._sys.bell import Bell
from cython.cimports.metalio._sys.bits import AIO, EDGE, EXCLUSIVE, LIO, ONESHOT, PRIORITY, READABLE, WRITABLE
from cython.cimports.metalio._sys.linux import (
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLL_PACKED,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLRDHUP,
    O_CLOEXEC,
    dup3,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_pwait2,
    epoll_wait,
    new_timer,
    set_timer,
)
from cython.cimports.metalio._sys.native import prefetch
from cython.cimports.metalio._sys.selector import Selector
from cython.cimports.metalio._sys.table import ALWAYS, Record, Slot, is_edge
from cython.cimports.metalio._sys.user_space import OPEN
from cython.cimports.metalio.events import Events, Ready
from cython.cimports.posix.unistd import close

from metalio._sys.errors import os_error

# No descriptor has these keys.
_BELL = cython.declare(uint64_t, 0xFFFFFFFF)
_CLOCK = cython.declare(uint64_t, 0xFFFFFFFE)
_MILLISECOND = cython.declare(cython.longlong, 1_000_000)
# Below this a part of a millisecond matters enough to pay for the dearer system call; above it is rounded up, unless it
# is for a timer, which promises more.
_FINE = cython.declare(cython.longlong, 100 * 1_000_000)
_has_pwait2 = cython.declare(cython.bint, True)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _raw(events: Events) -> cython.pointer[epoll_event]:
    """Where the kernel writes: where the events are to be stored, if it lays them out as Ready is, else beside."""
    if EPOLL_PACKED:
        return cython.cast(cython.pointer[epoll_event], events.entries)
    return cython.cast(cython.pointer[epoll_event], events.scratch)


@cython.final
@cython.cclass
class EpollSelector(Selector):
    """epoll_create1(2), epoll_ctl(2), epoll_wait(2), and epoll_pwait2(2) for fractions of a millisecond."""

    name = "epoll"

    def __cinit__(self):
        self.clock = -1
        self.epfd = epoll_create1(EPOLL_CLOEXEC)
        if self.epfd < 0:
            raise os_error(errno)
        self.bell = Bell()
        self.wake_key = self.bell.read_fd
        error: cython.int = self.watch(self.epfd, self.bell.read_fd, _BELL)
        if error:
            raise os_error(error)

    def __dealloc__(self):
        if self.epfd >= 0:
            close(self.epfd)
        if self.clock >= 0:
            close(self.clock)

    # -- Registrations ------------------------------------------------------------------------------------------------

    def control(self, epfd, op, record):
        event: epoll_event
        mask: uint32_t = record.armed & (READABLE | WRITABLE | PRIORITY)
        if record.options & EXCLUSIVE:
            # The kernel refuses EPOLLRDHUP beside it.
            mask |= EPOLLEXCLUSIVE
        elif mask & READABLE:
            mask |= EPOLLRDHUP
            if not record.foreign and is_edge(record):
                mask |= PRIORITY
        if record.options & EDGE:
            mask |= EPOLLET
        if record.options & ONESHOT:
            mask |= EPOLLONESHOT
            if record.spent:
                mask = EPOLLONESHOT
        event.events = mask
        event.data.u64 = cython.cast(uint64_t, record.generation) << 32 | cython.cast(uint32_t, record.fd)
        return errno if epoll_ctl(epfd, op, record.fd, cython.address(event)) < 0 else 0

    def supports(self, interest, options, foreign):
        if interest & (AIO | LIO):
            raise NotImplementedError("Interest.AIO and Interest.LIO need kqueue; epoll has neither")
        return 0

    def add(self, record):
        return self.control(self.epfd, EPOLL_CTL_ADD, record)

    def modify(self, record):
        spent: cython.bint = record.spent
        record.spent = False
        error: cython.int = self.control(self.epfd, EPOLL_CTL_MOD, record)
        if error == EINVAL:
            # To or from EPOLLEXCLUSIVE, which the kernel does not modify.
            error = epoll_ctl(self.epfd, EPOLL_CTL_DEL, record.fd, cython.NULL)
            error = errno if error < 0 else self.control(self.epfd, EPOLL_CTL_ADD, record)
        if error:
            record.spent = spent
        return error

    def remove(self, record):
        return errno if epoll_ctl(self.epfd, EPOLL_CTL_DEL, record.fd, cython.NULL) < 0 else 0

    def renew(self, record, directions):
        if record.live and not record.spent and self.state == OPEN:
            return self.modify(record)
        return 0

    # -- Waiting ------------------------------------------------------------------------------------------------------

    def prepare(self, events):
        if EPOLL_PACKED:
            return 0
        return events.reserve(events.capacity * cython.sizeof(epoll_event))

    def wait(self, events, timeout):
        global _has_pwait2
        into: cython.pointer[epoll_event] = _raw(events)
        most: cython.int = cython.cast(cython.int, events.limit)
        count: cython.int
        if timeout <= 0:
            count = epoll_wait(self.epfd, into, most, 0 if timeout == 0 else -1)
            return count if count >= 0 else -errno
        milliseconds: cython.longlong = (timeout + _MILLISECOND - 1) // _MILLISECOND
        if _has_pwait2 and timeout % _MILLISECOND and (timeout < _FINE or self.alarm != INT64_MAX):
            count = epoll_pwait2(self.epfd, into, most, timeout)
            if count >= 0:
                return count
            # Old kernels do not know it; the filters of old container runtimes forbid what they do not know.
            if errno != ENOSYS and errno != EPERM:
                return -errno
            _has_pwait2 = False
        # What is more than the kernel can count is waited for again.
        count = epoll_wait(self.epfd, into, most, cython.cast(cython.int, min(milliseconds, INT_MAX)))
        return count if count >= 0 else -errno

    def collect(self, events, count, exact):
        raw: cython.pointer[epoll_event] = _raw(events)
        slots: cython.pointer[Slot] = self.table.slots
        known: cython.size_t = self.table.size
        replace: cython.bint = False
        entry: cython.pointer[Ready] = events.entries
        usual: cython.int = 0
        index: cython.int
        if EPOLL_PACKED:
            # Most often all of them are where they belong, and there is nothing to review.
            while (
                usual < count
                and entry.key < known
                and slots[entry.key].generation == entry.generation
                and not entry.ready & slots[entry.key].special
            ):
                # It is somewhere in memory, and can be fetched until it is wanted.
                prefetch(slots[entry.key].token)
                entry += 1
                usual += 1
        for index in range(usual, count):
            key: uint32_t = cython.cast(uint32_t, raw[index].data.u64)
            generation: uint32_t = cython.cast(uint32_t, raw[index].data.u64 >> 32)
            ready: cython.int = cython.cast(cython.int, raw[index].events)
            if key < known and slots[key].generation == generation:
                if ready & slots[key].special:
                    ready = self.review(cython.cast(Record, self.table.records[key]), ready)
                    if ready == 0:
                        continue
                entry.ready = ready
                entry.key = key
                entry.generation = generation
                entry += 1
            elif key == _BELL:
                if self.bell.needs_drain:
                    self.bell.drain()
                entry += self.add_wake(entry)
            elif key == _CLOCK:
                # What is due was looked for before the kernel was asked, or will be after.
                continue
            elif exact and self.silence(key):
                replace = True
        events.count = entry - events.entries
        if replace:
            try:
                self.rebuild()
            except OSError:
                # Out of descriptors, most likely.  The next poll tries again; what was collected is not to be lost.
                if events.count == 0:
                    raise
        return 0

    def review(self, record, ready):
        """What to report of an event that changes something about its record."""
        if ready & PRIORITY and not record.interest & PRIORITY:
            record.renew_short = ALWAYS
            ready &= ~PRIORITY
        if record.options & ONESHOT:
            record.spent = True
        return ready

    def silence(self, key):
        """Stop the kernel from reporting what nobody has registered; whether that takes a new set."""
        if self.table.at(key) is not None:
            return 1
        return epoll_ctl(self.epfd, EPOLL_CTL_DEL, key, cython.NULL) < 0

    def rebuild(self):
        fresh: cython.int = epoll_create1(EPOLL_CLOEXEC)
        if fresh < 0:
            raise os_error(errno, "an epoll set with a closed descriptor in it cannot be replaced")
        error: cython.int = self.watch(fresh, self.bell.read_fd, _BELL)
        if error == 0 and self.clock >= 0:
            error = self.watch(fresh, self.clock, _CLOCK)
        for entry in self.table.records:
            record: Record = entry
            if error:
                break
            if record is None or record is self.waker:
                continue
            error = self.probe(record)
            if error == 0:
                error = self.control(fresh, EPOLL_CTL_ADD, record)
            elif error in (ENOENT, EBADF):
                error = 0
        if error:
            close(fresh)
            raise os_error(error, "an epoll set with a closed descriptor in it cannot be replaced")
        # Under the same number: others may know this poll by it.  (os.dup2 would let go of the GIL, and of what another
        # thread registers with the old set meanwhile.)
        dup3(fresh, self.epfd, O_CLOEXEC)
        close(fresh)
        self.instance += 1
        if self.sleepers:
            self.bell.ring()
        return 0

    def probe(self, record):
        """Whether the kernel's set still knows a record: 0, or the number of the error that says no."""
        event: epoll_event
        if not record.options & EXCLUSIVE:
            return self.control(self.epfd, EPOLL_CTL_MOD, record)
        # An exclusive one cannot be modified, which is said (EINVAL) only where there is one; asking for EPOLLEXCLUSIVE
        # here would be refused before anything is looked up.
        event.events = 0
        event.data.u64 = 0
        if epoll_ctl(self.epfd, EPOLL_CTL_MOD, record.fd, cython.address(event)) == 0 or errno == EINVAL:
            return 0
        return errno

    # -- Bell and clock -----------------------------------------------------------------------------------------------

    def watch(self, epfd, fd, key):
        event: epoll_event
        # Every ring is an edge of its own, and so is every time that the clock is set to: neither has to be read.
        event.events = EPOLLIN | EPOLLET
        event.data.u64 = key
        return errno if epoll_ctl(epfd, EPOLL_CTL_ADD, fd, cython.address(event)) < 0 else 0

    def set_clock(self, deadline):
        error: cython.int = 0
        if self.clock < 0:
            if deadline == INT64_MAX:
                return 0
            clock: cython.int = new_timer()
            error = errno if clock < 0 else self.watch(self.epfd, clock, _CLOCK)
            if error == 0:
                self.clock = clock
            elif clock >= 0:
                close(clock)
        if error == 0 and set_timer(self.clock, deadline) < 0:
            error = errno
        if error:
            raise os_error(error, "a poll within a poll needs a timerfd for its timers")
        return 0

    def ring(self):
        return self.bell.ring()

    def shut(self):
        if self.epfd >= 0:
            close(self.epfd)
            self.epfd = -1
        if self.clock >= 0:
            close(self.clock)
            self.clock = -1
        if self.bell is not None:
            self.bell.close()
        return 0

    def descriptor(self):
        return self.epfd
