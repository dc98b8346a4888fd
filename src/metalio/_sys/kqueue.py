"""macOS and the BSDs: kqueue(2).

The kernel keeps one record for each descriptor and filter, and forgets them when the descriptor is closed, whatever
else keeps its file open.  What follows from that:

- A registration is up to three filters: EVFILT_READ, EVFILT_WRITE, and EVFILT_EXCEPT for urgent data.  Those of them
  that come in one batch are merged into one event.
- Oneshot disarms one filter by itself (EV_DISPATCH); the others of the registration are disabled after it.
- There is no "exists already": EV_ADD changes what it finds.  Whether a descriptor of the table is registered still, or
  was closed and its number used again, is asked of the kernel by a change without EV_ADD, which then fails.
- Whether adding a filter again reports afresh what is ready, and whether it changes how the filter is triggered, is a
  matter of the system.  So changing a registration is removing its filters and adding them, in one call.
- A kqueue is not inherited by the child of a fork: its number is free there, and must not be closed.

Edges need no emulation, with one exception: a TCP stream stops reading at the mark of urgent data, and then a short
read is not the end.  So streams with edges also have EVFILT_EXCEPT, where there is one, and one on which it was
reported renews its registration after a short read.  Where there is none they are `marked`: after a short read they
look whether they stand at the mark, and renew their registration if they do.

The writing end of a pipe whose reader has gone is refused (EPIPE; NetBSD says EBADF), and no filter will ever say so.
An EVFILT_USER filter of the same number, triggered at once, stands in for it; where there is none, the error is handed
on.

Asynchronous I/O (FreeBSD, DragonFly BSD) is not registered by kevent(2), but by each request: `sigev_notify` is
SIGEV_KEVENT, `sigev_notify_kqueue` is `Poll.fileno()`, and `sigev_value` is a descriptor that was registered with
`Interest.AIO` or `Interest.LIO`, under whose token the event then comes.  The kernel would repeat it until the result
is fetched; unless that is asked for (`PollOpt.LEVEL`) its filter is deleted when it is seen.
"""

import cython
from cython.cimports.libc.errno import EBADF, EEXIST, EINVAL, ENOENT, EPERM, EPIPE, errno
from cython.cimports.libc.stdint import INT64_MAX, uint32_t
from cython.cimports.metalio._sys.bell import Bell
from cython.cimports.metalio._sys.bits import (
    AIO,
    EDGE,
    EXCLUSIVE,
    FAILED,
    HANGUP,
    LIO,
    ONESHOT,
    PRIORITY,
    READ_CLOSED,
    READABLE,
    WRITABLE,
    WRITE_CLOSED,
)
from cython.cimports.metalio._sys.clock import now
from cython.cimports.metalio._sys.file_id import FileId, identify
from cython.cimports.metalio._sys.selector import Selector
from cython.cimports.metalio._sys.table import ALWAYS, AT_MARK, NEVER, Record, Slot, is_edge
from cython.cimports.metalio._sys.user_space import FORKED, OPEN
from cython.cimports.metalio.events import Ready
from cython.cimports.posix.unistd import close

from metalio._sys import bell
from metalio._sys.choice import chosen
from metalio._sys.errors import os_error

# Among the filters of a record: the one that stands in for a pipe whose reader has gone.
_BROKEN = cython.declare(cython.int, HANGUP)
# The longest wait in one call, in nanoseconds: some systems refuse three years.
_LONGEST = cython.declare(cython.longlong, 100_000 * 1_000_000_000)


def waker_kinds():
    """The names of what can wake a new selector, the best first."""
    return bell.kinds() if EVFILT_USER >= MISSING else ("EVFILT_USER", *bell.kinds())


@cython.final
@cython.cclass
class KqueueSelector(Selector):
    """kqueue(2) and kevent(2)."""

    name = "kqueue"

    def __cinit__(self):
        self.kq = new_kqueue()
        if self.kq < 0:
            raise os_error(errno)
        self.start_bell()

    def __dealloc__(self):
        if self.kq >= 0:
            close(self.kq)

    # -- Filters ------------------------------------------------------------------------------------------------------

    def list_changes(self, record, filters, flags, changes):
        """Fill an array with one change for each of these filters; how many."""
        count: cython.int = 0
        fd: cython.int = record.fd
        if filters & READABLE:
            fill(changes + count, fd, EVFILT_READ, flags, 0, 0, record.generation)
            count += 1
        if filters & WRITABLE:
            fill(changes + count, fd, EVFILT_WRITE, flags, 0, 0, record.generation)
            count += 1
        if filters & PRIORITY:
            fill(changes + count, fd, EVFILT_EXCEPT, flags, NOTE_OOB, 0, record.generation)
            count += 1
        if filters & _BROKEN:
            fill(changes + count, fd, EVFILT_USER, flags, 0, 0, record.generation)
            count += 1
        return count

    def begin(self, record, filters, flags):
        """Add filters to the kernel's set: all of them, or none; 0 or the number of an error."""
        changes = cython.declare(kevent[4])
        count: cython.int = self.list_changes(record, filters, flags | EV_ADD | EV_ENABLE, changes)
        record.filters = filters
        record.flags = flags
        error: cython.int = make_changes(self.kq, changes, count)
        index: cython.int
        for index in range(count):
            if error == 0:
                error = self.judge(record, cython.address(changes[index]))
        if error:
            self.end(record)
        self.note_marks(record)
        return error

    def note_marks(self, record):
        """Whether it stops reading where this selector cannot see it."""
        if record.renew_short != ALWAYS:
            unseen: cython.bint = record.filters & (READABLE | PRIORITY) == READABLE
            record.renew_short = AT_MARK if unseen and record.flags & EV_CLEAR and not record.foreign else NEVER
        return 0

    def judge(self, record, change):
        """What an added filter's error means for its registration: 0, or the error."""
        if change.data == 0:
            return 0
        filter: cython.int = filter_of(change)
        error: cython.int = cython.cast(cython.int, change.data)
        if filter == EVFILT_EXCEPT and not record.interest & PRIORITY:
            # There is nothing urgent about this kind of file.
            record.filters &= ~PRIORITY
            return 0
        if filter != EVFILT_WRITE or error not in (EPIPE, EBADF):
            return error
        file: FileId
        if error == EBADF and identify(record.fd, cython.address(file)):
            return error
        if EVFILT_USER >= MISSING:
            return EPIPE
        changes = cython.declare(kevent[2])
        record.filters = (record.filters & ~WRITABLE) | _BROKEN
        fill(changes, record.fd, EVFILT_USER, record.flags | EV_ADD | EV_ENABLE, 0, 0, record.generation)
        fill(changes + 1, record.fd, EVFILT_USER, 0, NOTE_TRIGGER, 0, record.generation)
        return EPIPE if make_changes(self.kq, changes, 2) or changes[0].data else 0

    def end(self, record):
        """Remove a record's filters; 0, or the number of the error that says that they were gone already."""
        changes = cython.declare(kevent[4])
        count: cython.int = self.list_changes(record, record.filters, EV_DELETE, changes)
        record.filters = 0
        if count == 0:
            return 0
        error: cython.int = make_changes(self.kq, changes, count)
        index: cython.int
        for index in range(count):
            if error == 0 and changes[index].data:
                error = cython.cast(cython.int, changes[index].data)
        return error

    def knows(self, record):
        """Whether the kernel's set still has a record."""
        filters: cython.int = record.filters
        if filters == 0:
            # Of asynchronous I/O, of which the kernel keeps no account; or an attempt to change it has failed.
            return self.wanted(record) == 0
        if filters == _BROKEN:
            # The kernel does not know to which descriptor it belongs.
            return self.still_broken(record)
        changes = cython.declare(kevent[4])
        flags: cython.int = record.flags | (EV_DISABLE if record.spent else EV_ENABLE)
        # One is enough: they go together.
        self.list_changes(record, filters, flags, changes)
        if make_changes(self.kq, changes, 1):
            return False
        # Another error would be one of what is there.
        return changes[0].data not in (ENOENT, EBADF)

    # -- Registrations ------------------------------------------------------------------------------------------------

    def supports(self, interest, options, foreign):
        if options & EXCLUSIVE:
            raise NotImplementedError("PollOpt.EXCLUSIVE needs epoll; kqueue has nothing like it")
        if interest & PRIORITY and EVFILT_EXCEPT >= MISSING:
            raise NotImplementedError("Interest.PRIORITY needs EVFILT_EXCEPT, which this system's kqueue does not have")
        if interest & AIO and EVFILT_AIO >= MISSING:
            raise NotImplementedError("Interest.AIO needs EVFILT_AIO, which this system's kqueue does not have")
        if interest & LIO and EVFILT_LIO >= MISSING:
            raise NotImplementedError("Interest.LIO needs EVFILT_LIO, which this system's kqueue does not have")
        return 0

    def wanted(self, record):
        filters: cython.int = record.interest & (READABLE | WRITABLE | PRIORITY)
        if filters & READABLE and not record.foreign and is_edge(record) and EVFILT_EXCEPT < MISSING:
            filters |= PRIORITY
        return filters

    def triggering(self, record):
        return (EV_CLEAR if record.options & EDGE else 0) | (EV_DISPATCH if record.options & ONESHOT else 0)

    def add(self, record):
        file: FileId
        error: cython.int = identify(record.fd, cython.address(file))
        if error:
            return error
        if not file.pollable:
            # The kernel would take it, and tell how far it is to the end of the file.
            return EPERM
        if record.fd == self.kq:
            return EINVAL
        if self.bell is not None and record.fd == self.bell.read_fd:
            return EEXIST
        if record.interest & READABLE and deaf_fifo(record.fd):
            raise os_error(
                EINVAL,
                "the kqueue of macOS never reports the end of a named pipe: "
                "read it from a thread, or use a pipe or a Unix socket",
            )
        present: Record = self.table.at(record.fd)
        if present is not None and self.knows(present):
            return EEXIST
        error = self.begin(record, self.wanted(record), self.triggering(record))
        if error == EINVAL and is_device(record.fd):
            raise os_error(
                EINVAL,
                "kqueue cannot watch this device (/dev/tty on macOS is one: open the terminal by the name that "
                "os.ttyname() gives for it)",
            )
        return error

    def modify(self, record):
        filters: cython.int = record.filters
        flags: cython.int = record.flags
        wanted: cython.int = self.wanted(record)
        changes = cython.declare(kevent[8])
        count: cython.int = self.list_changes(record, filters, EV_DELETE, changes)
        most: cython.int = count + self.list_changes(
            record, wanted, self.triggering(record) | EV_ADD | EV_ENABLE, changes + count
        )
        error: cython.int = make_changes(self.kq, changes, most)
        if error:
            return error
        record.filters = wanted
        record.flags = self.triggering(record)
        index: cython.int
        for index in range(most):
            if error:
                break
            if index >= count:
                error = self.judge(record, cython.address(changes[index]))
            elif changes[index].data:
                # Closed, and perhaps another file by now, to which filters have just been added.
                self.end(record)
                return cython.cast(cython.int, changes[index].data)
        if error:
            self.end(record)
            self.restore(record, filters, flags)
        else:
            self.note_marks(record)
        return error

    def restore(self, record, filters, flags):
        """Have the filters again that a record had before an attempt to change it."""
        generation: uint32_t = record.generation
        # Under which the events are still known.
        record.generation = self.table.slots[record.fd].generation
        if filters & _BROKEN:
            filters = (filters & ~_BROKEN) | WRITABLE
        self.begin(record, filters, flags)
        if record.spent:
            self.disarm(record, 0)
        record.generation = generation
        return 0

    def remove(self, record):
        return self.end(record)

    def renew(self, record, directions):
        if record.live and not record.spent and self.state == OPEN:
            return self.modify(record)
        return 0

    # -- Waiting ------------------------------------------------------------------------------------------------------

    def prepare(self, events):
        return events.reserve(events.capacity * cython.sizeof(kevent))

    def wait(self, events, timeout):
        # What is cut here is waited for again.
        return await_events(
            self.kq,
            cython.cast(cython.pointer[kevent], events.scratch),
            cython.cast(cython.int, events.limit),
            min(timeout, _LONGEST),
        )

    def collect(self, events, count, exact):
        raw: cython.pointer[kevent] = cython.cast(cython.pointer[kevent], events.scratch)
        slots: cython.pointer[Slot] = self.table.slots
        known: cython.size_t = self.table.size
        index: cython.int
        for index in range(count):
            event: cython.pointer[kevent] = raw + index
            filter: cython.int = filter_of(event)
            key: cython.size_t = event.ident
            generation: uint32_t = user_data(event)
            if filter == EVFILT_TIMER:
                # What is due was looked for before the kernel was asked, or will be after.
                continue
            if filter in (EVFILT_AIO, EVFILT_LIO):
                self.complete(events, self.table.at(generation), event)
                continue
            if key == cython.cast(cython.size_t, self.wake_key):
                if self.bell is not None:
                    self.bell.drain()
                events.count += self.add_wake(events.entries + events.count)
                continue
            if generation and key < known and slots[key].generation == generation:
                self.store(events, cython.cast(Record, self.table.records[key]), event)
            elif exact:
                self.silence(event)
        return 0

    def complete(self, events, record, event):
        """Store the event of a request, whose number is all there is; and end it, as far as the kernel repeats it."""
        kind: cython.int = AIO if filter_of(event) == EVFILT_AIO else LIO
        if record is None or not record.interest & kind or record.options & (EDGE | ONESHOT):
            self.silence(event)
        if record is not None:
            self.store(events, record, event)
        return 0

    def store(self, events, record, event):
        """Store one filter's part of an event, beside those of the same batch."""
        if filter_of(event) == EVFILT_USER and not self.still_broken(record):
            return 0
        ready: cython.int = self.ready_of(record, event)
        if ready == 0:
            return 0
        entry: cython.pointer[Ready] = events.entries + record.position
        if (
            record.position < events.count
            and entry.key == cython.cast(uint32_t, record.fd)
            and entry.generation == record.generation
        ):
            entry.ready |= ready
            return 0
        if record.spent:
            # Its one event was delivered, perhaps to another thread.
            return 0
        if record.options & ONESHOT:
            record.spent = True
            self.disarm(record, filter_of(event))
        record.position = events.count
        events.add(record.fd, record.generation, ready)
        return 0

    def still_broken(self, record):
        """Whether a record's descriptor is still the pipe that was refused: its stand-in does not end with it."""
        changes = cython.declare(kevent[2])
        fill(changes, record.fd, EVFILT_WRITE, EV_ADD | EV_DISABLE, 0, 0, record.generation)
        file: FileId
        if make_changes(self.kq, changes, 1) or changes[0].data == EPIPE:
            return True
        if changes[0].data == EBADF and identify(record.fd, cython.address(file)) == 0:
            return True
        fill(changes, record.fd, EVFILT_WRITE, EV_DELETE, 0, 0, 0)
        fill(changes + 1, record.fd, EVFILT_USER, EV_DELETE, 0, 0, 0)
        make_changes(self.kq, changes, 2)
        return False

    def ready_of(self, record, event):
        filter: cython.int = filter_of(event)
        ready: cython.int = 0
        if event.flags & EV_ERROR:
            ready = FAILED
        elif event.flags & EV_EOF and event.fflags and filter != EVFILT_EXCEPT:
            # A connection that has failed is closed in both directions.
            ready = FAILED | HANGUP
        if filter == EVFILT_READ:
            ready |= READABLE
            if event.flags & EV_EOF:
                ready |= READ_CLOSED
        elif filter == EVFILT_WRITE:
            ready |= WRITABLE
            if event.flags & EV_EOF:
                ready |= WRITE_CLOSED
        elif filter == EVFILT_EXCEPT:
            if not record.interest & PRIORITY:
                record.renew_short = ALWAYS
            elif event.fflags & NOTE_OOB:
                ready |= PRIORITY
        elif filter == EVFILT_USER:
            ready |= WRITABLE | WRITE_CLOSED
        elif filter == EVFILT_AIO:
            ready |= AIO & record.interest
        elif filter == EVFILT_LIO:
            ready |= LIO & record.interest
        return ready

    def disarm(self, record, filter):
        """Disable the filters of a registration other than the one that has disabled itself."""
        others: cython.int = record.filters
        if EV_DISPATCH:
            if filter == EVFILT_READ:
                others &= ~READABLE
            elif filter == EVFILT_WRITE:
                others &= ~WRITABLE
            elif filter == EVFILT_EXCEPT:
                others &= ~PRIORITY
            elif filter == EVFILT_USER:
                others &= ~_BROKEN
        if others:
            changes = cython.declare(kevent[4])
            count: cython.int = self.list_changes(record, others, record.flags | EV_DISABLE, changes)
            make_changes(self.kq, changes, count)
        return 0

    def silence(self, event):
        """Stop the kernel from reporting what nobody has registered."""
        change: kevent
        fill(cython.address(change), event.ident, filter_of(event), EV_DELETE, 0, 0, 0)
        make_changes(self.kq, cython.address(change), 1)
        return 0

    # -- Bell and clock -----------------------------------------------------------------------------------------------

    def start_bell(self):
        change: kevent
        error: cython.int
        # No registered descriptor has this number.
        self.wake_key = self.kq
        if chosen("METALIO_WAKER", waker_kinds()) == "EVFILT_USER":
            fill(cython.address(change), self.kq, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, 0)
            error = make_changes(self.kq, cython.address(change), 1)
            if error == 0 and change.data == 0:
                return 0
            # Compiled on a system that has it, for one that has not.
        self.bell = Bell()
        self.wake_key = self.bell.read_fd
        fill(cython.address(change), self.bell.read_fd, EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0, 0)
        error = make_changes(self.kq, cython.address(change), 1)
        if error == 0:
            error = cython.cast(cython.int, change.data)
        if error:
            raise os_error(error)
        return 0

    def ring(self):
        if self.bell is not None:
            return self.bell.ring()
        change: kevent
        fill(cython.address(change), self.kq, EVFILT_USER, 0, NOTE_TRIGGER, 0, 0)
        error: cython.int = make_changes(self.kq, cython.address(change), 1)
        return error if error else cython.cast(cython.int, change.data)

    def set_clock(self, deadline):
        changes = cython.declare(kevent[2])
        # Setting one that runs does not everywhere start it anew.
        fill(changes, self.kq, EVFILT_TIMER, EV_DELETE, 0, 0, 0)
        count: cython.int = 1
        if deadline != INT64_MAX:
            units: cython.longlong = timer_units(min(deadline - now(), _LONGEST))
            fill(changes + 1, self.kq, EVFILT_TIMER, EV_ADD | EV_ONESHOT, TIMER_UNIT, units, 0)
            count = 2
        error: cython.int = make_changes(self.kq, changes, count)
        if error == 0 and count == 2:
            error = cython.cast(cython.int, changes[1].data)
        if error:
            raise os_error(error, "a poll within a poll needs an EVFILT_TIMER for its timers")
        return 0

    def shut(self):
        if self.kq >= 0 and self.state != FORKED:
            close(self.kq)
        self.kq = -1
        if self.bell is not None:
            self.bell.close()
        return 0

    def descriptor(self):
        return self.kq
