"""Any Unix: poll(2).

Slow with many sources, since the kernel is told of all of them in every call, but the same to its users:

- Edges are emulated.  What was reported is not asked for again until the source says that it has been drained: a
  transfer was short, or would block.  Nobody can say so for a descriptor that is not the library's own, hence the
  `ValueError`.  A hang-up or an error is reported once, as an edge is, and mutes the descriptor: poll(2) reports those
  two even to who asks for nothing.
- Oneshot mutes the descriptor in the same way, for good.
- A thread that sleeps does so on a copy of the array, so it is rung when the array changes.
- The kernel keeps no account of what is registered.  Whether a descriptor still is the file that was registered is
  asked of fstat(2): when it is registered again, when it is deregistered, and for each event of a foreign source.
  What has no inode of its own (eventfd, timerfd, signalfd, epoll) looks the same as any other of these: deregister such
  a descriptor before it is closed.
"""

import cython
from cython.cimports.cpython.mem import PyMem_RawFree, PyMem_RawRealloc
from cython.cimports.libc.errno import EEXIST, ENOENT, EPERM
from cython.cimports.libc.stdint import uint32_t
from cython.cimports.libc.string import memcpy
from cython.cimports.metalio._sys.bell import Bell
from cython.cimports.metalio._sys.bits import (
    EDGE,
    ONESHOT,
    PRIORITY,
    READ_CLOSED,
    READABLE,
    UNASKED,
    WRITABLE,
)
from cython.cimports.metalio._sys.file_id import FileId, identify
from cython.cimports.metalio._sys.selector import Selector
from cython.cimports.metalio._sys.table import Record, is_edge
from cython.cimports.metalio._sys.user_space import OPEN


@cython.final
@cython.cclass
class PollSelector(Selector):
    """poll(2), or ppoll(2) where there is one."""

    name = "poll"
    system = "poll(2)"

    def __cinit__(self):
        self.bell = Bell()
        self.wake_key = self.bell.read_fd
        self.grow()
        self.fds[0].fd = self.bell.read_fd
        self.fds[0].events = POLLIN
        self.fds[0].revents = 0
        self.generations[0] = 0
        self.count = 1
        self.turn = 1

    def __dealloc__(self):
        PyMem_RawFree(self.fds)
        PyMem_RawFree(self.generations)
        PyMem_RawFree(self.files)

    # -- Registrations ------------------------------------------------------------------------------------------------

    def add(self, record):
        file: FileId
        error: cython.int = identify(record.fd, cython.address(file))
        if error:
            return error
        if not file.pollable:
            return EPERM
        if record.fd == self.wake_key:
            return EEXIST
        present: Record = self.table.at(record.fd)
        if present is not None:
            if self.same_file(present):
                return EEXIST
            self.renounce(present)
        if self.count == self.space:
            self.grow()
        record.position = cython.cast(cython.int, self.count)
        self.count += 1
        self.fds[record.position].revents = 0
        self.files[record.position] = file
        return self.ask(record)

    def modify(self, record):
        if record.foreign and not self.same_file(record):
            self.renounce(record)
            return ENOENT
        record.spent = record.hung = False
        return self.ask(record)

    def remove(self, record):
        error: cython.int = 0
        if record.foreign and not self.same_file(record):
            file: FileId
            error = identify(record.fd, cython.address(file))
            if error == 0:
                error = ENOENT
        self.renounce(record)
        return error

    def renew(self, record, directions):
        wanted: cython.int = record.armed | (record.interest & directions)
        if record.live and not record.spent and wanted != record.armed and self.state == OPEN:
            record.armed = wanted
            record.hung = False
            return self.ask(record)
        return 0

    def ask(self, record):
        """Tell the array what a record is armed for, and those who sleep on a copy of it."""
        place: cython.pointer[pollfd] = cython.address(self.fds[record.position])
        record.renew_short = record.renew_blocked = is_edge(record)
        # poll(2) passes over negative descriptors.  One that is asked for nothing still reports errors and hang-ups.
        mute: cython.bint = record.spent or record.hung
        place.fd = -1 - record.fd if mute else record.fd
        place.events = record.armed & (READABLE | WRITABLE | PRIORITY)
        if record.armed & READABLE:
            place.events |= POLLRDHUP
        self.generations[record.position] = record.generation
        if self.sleepers:
            # Whoever wakes up with an outdated copy passes it on.
            self.instance += 1
            self.bell.ring()
        return 0

    def renounce(self, record):
        """Give up a record's place, to the last one."""
        last: cython.Py_ssize_t = self.count - 1
        position: cython.int = record.position
        if position <= 0:
            return 0
        record.position = 0
        self.count = last
        if position != last:
            self.fds[position] = self.fds[last]
            self.generations[position] = self.generations[last]
            self.files[position] = self.files[last]
            fd: cython.int = self.fds[last].fd
            moved: Record = self.table.at(fd if fd >= 0 else -1 - fd)
            if moved is not None:
                moved.position = position
        return 0

    def grow(self):
        space: cython.Py_ssize_t = self.space * 2 if self.space else 16
        fds: cython.p_void = PyMem_RawRealloc(self.fds, space * cython.sizeof(pollfd))
        if fds == cython.NULL:
            raise MemoryError
        self.fds = cython.cast(cython.pointer[pollfd], fds)
        generations: cython.p_void = PyMem_RawRealloc(self.generations, space * cython.sizeof(uint32_t))
        if generations == cython.NULL:
            raise MemoryError
        self.generations = cython.cast(cython.pointer[uint32_t], generations)
        files: cython.p_void = PyMem_RawRealloc(self.files, space * cython.sizeof(FileId))
        if files == cython.NULL:
            raise MemoryError
        self.files = cython.cast(cython.pointer[FileId], files)
        self.space = space
        return 0

    def same_file(self, record):
        file: FileId
        known: cython.pointer[FileId] = cython.address(self.files[record.position])
        return (
            record.position > 0
            and identify(record.fd, cython.address(file)) == 0
            and file.device == known.device
            and file.inode == known.inode
        )

    # -- Waiting ------------------------------------------------------------------------------------------------------

    def prepare(self, events):
        count: cython.Py_ssize_t = self.count
        events.reserve(count * (cython.sizeof(pollfd) + cython.sizeof(uint32_t)))
        memcpy(events.scratch, self.fds, count * cython.sizeof(pollfd))
        memcpy(
            cython.cast(cython.pointer[pollfd], events.scratch) + count,
            self.generations,
            count * cython.sizeof(uint32_t),
        )
        events.scratch_count = count
        return 0

    def wait(self, events, timeout):
        return poll_for(cython.cast(cython.pointer[pollfd], events.scratch), events.scratch_count, timeout)

    def collect(self, events, count, exact):
        total: cython.Py_ssize_t = events.scratch_count
        fds: cython.pointer[pollfd] = cython.cast(cython.pointer[pollfd], events.scratch)
        generations: cython.pointer[uint32_t] = cython.cast(cython.pointer[uint32_t], fds + total)
        left: cython.int = count
        if fds[0].revents:
            self.bell.drain()
            events.count += self.add_wake(events.entries)
            left -= 1
        index: cython.Py_ssize_t = self.turn if self.turn < total else 1
        unseen: cython.Py_ssize_t = total - 1
        while unseen and left and events.count < events.limit:
            unseen -= 1
            if fds[index].revents:
                left -= 1
                self.report(events, cython.address(fds[index]), generations[index])
            index = index + 1 if index + 1 < total else 1
        self.turn = index
        return 0

    def report(self, events, place, generation):
        """Store one event, and take away from what the record is armed for what it has reported."""
        record: Record = self.table.at(place.fd)
        if record is None or record.generation != generation or record.spent:
            return 0
        ready: cython.int = place.revents & (record.armed | UNASKED)
        if place.revents & POLLRDHUP and record.armed & READABLE:
            ready |= READ_CLOSED
        if place.revents & POLLNVAL or (record.foreign and not self.same_file(record)):
            # Closed, and perhaps another file by now: nobody has registered that one.
            ready = 0
            record.hung = True
            self.ask(record)
        if ready == 0:
            return 0
        if record.options & ONESHOT:
            record.spent = True
            self.ask(record)
        elif record.options & EDGE:
            record.armed &= ~ready
            if ready & UNASKED:
                record.armed = 0
                record.hung = True
            self.ask(record)
        events.add(record.fd, generation, ready)
        return 0

    # -- The bell -----------------------------------------------------------------------------------------------------

    def ring(self):
        return self.bell.ring()

    def shut(self):
        if self.bell is not None:
            self.bell.close()
        return 0
