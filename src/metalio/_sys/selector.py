"""What every selector does; a subclass brings what its kernel facility needs.

A selector is entered by several threads at once: they register, wake and poll.  Each of these holds the critical
section of the table, except while it sleeps in the kernel.  A sleeper finds out what changed in two ways: the kernel
tells it (epoll, kqueue: a new registration is seen by those who wait already), or somebody rings (poll(2), which waits
on a copy; and `close()`).  Descriptors are closed by the last one to leave, never under a sleeper.
"""

import os
import threading
import weakref

import cython
from cython.cimports.cpython.exc import PyErr_CheckSignals
from cython.cimports.libc.errno import EINTR, ENOENT
from cython.cimports.libc.stdint import INT64_MAX
from cython.cimports.metalio._sys.bits import AIO, EDGE, EXCLUSIVE, LIO, ONESHOT, READABLE
from cython.cimports.metalio._sys.clock import now
from cython.cimports.metalio._sys.native import claim, exchange, release
from cython.cimports.metalio._sys.table import Record, check_request, take_token
from cython.cimports.metalio._sys.user_space import CLOSED, FORKED, OPEN, UserSpace
from cython.cimports.metalio.events import LOOKS

from metalio._sys.errors import os_error, registration_error, unseen_drain_error

# A thread that computes keeps the GIL for sys.getswitchinterval(), which is 5 milliseconds.  Waiting this much for it
# (in nanoseconds) says that there is such a thread; then looking for this much longer is worth while: a hundredth of
# what the next sleep would cost.
_CONTENTION = cython.declare(cython.longlong, 1_000_000)
_PATIENCE = cython.declare(cython.longlong, 50_000)
# After such a wait for the GIL so many looks may be in vain: one that finds something spares another wait.
_WARY_LOOKS = cython.declare(cython.int, 1000)
# A sleep that took no longer, in nanoseconds, was none: a look would have found the same.
_NO_SLEEP = cython.declare(cython.longlong, 2_000)
# How many wakes keep the GIL after one that had to wait so long for it: it then costs each of them a few microseconds.
_WARY = cython.declare(cython.int, 1000)

# Every open selector of the process, for the child of a fork.
_alive: dict = {}


@cython.cclass
class Selector(UserSpace):
    """The abstract selector: a table of registrations and a way to wait for them."""

    name = "none"
    # What messages call it.
    system = "none"

    def __cinit__(self):
        self.identity = id(self)
        _alive[self.identity] = weakref.ref(self)

    def __del__(self):
        # Without a table it was never finished.
        if self.table is not None:
            self.close()

    # -- What a platform brings ---------------------------------------------------------------------------------------
    #
    # add(), modify() and remove() return 0 or the number of an error.

    def supports(self, interest, options, foreign):
        """Raise for what this selector cannot do: here, one that has to emulate edges."""
        if interest & (AIO | LIO):
            raise NotImplementedError(f"Interest.AIO and Interest.LIO need kqueue; {self.system} has neither")
        if options & EXCLUSIVE:
            raise NotImplementedError(f"PollOpt.EXCLUSIVE needs epoll; {self.system} has nothing like it")
        if foreign and options & EDGE and not options & ONESHOT:
            raise unseen_drain_error(self.system)
        return 0

    def add(self, record):
        """Begin to watch a record."""
        raise NotImplementedError

    def modify(self, record):
        """Watch a record for something else, and report what is ready by now."""
        raise NotImplementedError

    def remove(self, record):
        """Watch a record no longer."""
        raise NotImplementedError

    def renew(self, record, directions):
        """Report again what is ready in these directions: a transfer was short, would block, or failed for now."""
        raise NotImplementedError

    def prepare(self, events):
        """Make ready for wait(); the lock is held."""
        raise NotImplementedError

    def attend(self, exact):
        """Have a signal that comes from now on end the next wait() of the main thread, where the kernel does not.

        Unless it is to be exact, one that came just before may end it as well.
        """
        return 0

    def wait(self, events, timeout):
        """Wait for nanoseconds, or for ever (-1); how many the kernel reported, or the negative number of an error."""
        return 0

    def collect(self, events, count, exact):
        """Store what wait() brought; the lock is held.

        What is stale is dropped.  `exact` says that the lock was held since before wait(): then it is stale because the
        kernel goes on reporting it, and has to be made to stop.
        """
        raise NotImplementedError

    def shut(self):
        """Close all descriptors."""
        return 0

    def descriptor(self):
        """The descriptor by which this selector can be polled itself, or -1."""
        return -1

    # -- Registrations ------------------------------------------------------------------------------------------------

    def check(self):
        if self.state == OPEN:
            return 0
        if self.state == FORKED:
            raise RuntimeError("this Poll belongs to the parent process: make a new one after the fork")
        raise ValueError("this Poll is closed")

    def enter(self, record):
        check_request(record.interest, record.options)
        self.supports(record.interest, record.options, record.foreign)
        displaced: Record = None
        with cython.critical_section(self.table):
            self.check()
            record.generation = self.table.next_generation()
            error: cython.int = self.add(record)
            if error == 0:
                displaced = self.table.put(record)
        if error:
            raise registration_error(error)
        if displaced is not None:
            take_token(displaced)
        return 0

    def change(self, record, token, interest, options):
        check_request(interest, options)
        self.supports(interest, options, record.foreign)
        error: cython.int = 0
        old = token
        with cython.critical_section(self.table):
            self.check()
            if not record.live:
                error = ENOENT
            else:
                old_interest: cython.int = record.interest
                old_options: cython.int = record.options
                old_generation = record.generation
                record.interest = record.armed = interest
                record.options = options
                # What was on its way for the old registration is stale; the kernel reports afresh what is ready.
                record.generation = self.table.next_generation()
                error = self.modify(record)
                if error == 0:
                    record.spent = False
                    old = take_token(record)
                    record.token = token
                    self.table.note(record)
                    self.table.departures += 1
                elif error == ENOENT:
                    self.table.drop(record)
                    old = take_token(record)
                else:
                    record.interest = record.armed = old_interest
                    record.options = old_options
                    record.generation = old_generation
        if error:
            raise registration_error(error)
        return 0

    def leave(self, record, forgiving):
        error: cython.int = ENOENT
        token: object = None
        with cython.critical_section(self.table):
            if record.live:
                self.table.drop(record)
                token = take_token(record)
                error = self.remove(record) if self.state == OPEN else 0
        if error and not forgiving:
            # Another thread may have closed the poll meanwhile, and with it the registration.
            self.check()
            raise registration_error(error)
        return 0

    # -- Waking -------------------------------------------------------------------------------------------------------

    def attach_waker(self, record):
        displaced: Record = None
        with cython.critical_section(self.table):
            self.check()
            if self.waker is not None:
                raise RuntimeError("this Poll has a Waker already: share that one, or use metalio.readiness")
            record.generation = self.table.next_generation()
            displaced = self.table.put(record)
            self.waker = record
            exchange(cython.address(self.wake_pending), 0)
        if displaced is not None:
            take_token(displaced)
        return 0

    def detach_waker(self, record):
        token: object = None
        with cython.critical_section(self.table):
            if self.waker is record:
                self.waker = None
                if record.live:
                    self.table.drop(record)
                token = take_token(record)
        return 0

    def wake(self):
        # The flag is cleared after the ring was heard and before its event is delivered.  So a wake that finds it set
        # happened before that delivery, and whatever its thread did before is seen by whoever gets the event; a wake
        # that finds it clear rings, and is heard by the next poll.
        if exchange(cython.address(self.wake_pending), 1):
            return 0
        error: cython.int = 0
        outside: cython.bint = False
        with cython.critical_section(self.table):
            self.check()
            # Whoever sleeps is about to want the GIL, and waits for it once more if it is kept meanwhile.  But where
            # some other thread took it and kept it the last time, it is not given up for a while.
            outside = self.sleepers > 0 and self.wary == 0
            if outside:
                # As a sleeper does, so that the descriptors stay open.
                self.sleepers += 1
            else:
                self.wary -= self.wary > 0
                error = self.ring()
        if outside:
            error = self.ring_outside()
        if error:
            exchange(cython.address(self.wake_pending), 0)
            raise os_error(error)
        return 0

    def ring_outside(self):
        """Ring without the GIL; the number of an error, or 0."""
        error: cython.int
        rung: cython.longlong
        with cython.nogil:
            error = self.ring()
            rung = now()
        slow: cython.bint = now() - rung > _CONTENTION
        with cython.critical_section(self.table):
            self.wake_up()
            if slow:
                self.wary = _WARY
            if self.state != OPEN:
                self.last_one_out()
        return error

    def add_wake(self, entry):
        """Fill an entry with the event of the waker, if it was woken; how many entries that were."""
        if exchange(cython.address(self.wake_pending), 0) == 0 or self.waker is None:
            return 0
        entry.key = self.waker.fd
        entry.generation = self.waker.generation
        entry.ready = READABLE
        return 1

    # -- Polling ------------------------------------------------------------------------------------------------------

    def select(self, events, timeout, interruptible):
        self.check()
        if claim(cython.address(events.busy)):
            raise RuntimeError("these Events are being filled by another poll: give each thread its own")
        try:
            events.count = 0
            events.limit = events.capacity
            if events.table is not self.table:
                events.table = self.table
            count: cython.int = self.fill(events, timeout, interruptible)
            events.hot = count != 0
            return count
        finally:
            release(cython.address(events.busy))

    def look(self, events):
        # The lock is kept from before the kernel is asked until its answer is stored, so what is stale here is reported
        # by the kernel and not merely under way; collect() ends that, so that this loop ends too.
        count: cython.int = 1
        while count > 0 and events.count == 0:
            with cython.critical_section(self.table):
                self.check()
                events.limit = self.room(events) if self.has_ready() else events.capacity
                self.prepare(events)
                count = 1
                if events.limit:
                    count = self.wait(events, 0)
                    if count > 0:
                        self.collect(events, count, True)
                if self.first != cython.NULL:
                    self.gather(events)
        events.limit = events.capacity
        if count < 0 and count != -EINTR:
            raise os_error(-count)
        return cython.cast(cython.int, events.count)

    def fill(self, events, timeout, interruptible):
        if self.alarm != INT64_MAX:
            self.expire()
        # Where the last poll found events the next one is likely to: a look costs less than giving up the GIL, which
        # another thread may keep for milliseconds.  But clients that wait for an answer before they ask again leave
        # nothing to be found, and then each look is a system call in vain: so a few in a row end this.
        hot: cython.bint = events.hot and events.credit > 0
        if timeout == 0 or hot or self.has_ready():
            self.look(events)
            if hot:
                events.credit = max(events.credit, LOOKS) if events.count else events.credit - 1
            if timeout == 0 or events.count:
                return cython.cast(cython.int, events.count)
        begin: cython.longlong = now() if timeout > 0 or events.contended else 0
        deadline: cython.longlong = INT64_MAX if timeout > INT64_MAX - begin else begin + timeout
        remaining: cython.longlong = timeout
        if events.contended and events.hot:
            if self.look_longer(events, begin, timeout):
                return cython.cast(cython.int, events.count)
            if timeout > 0:
                remaining = max(deadline - now(), 0)
        count: cython.int
        slept: cython.longlong = 0
        woken: cython.longlong
        while True:
            # A signal that came since the last bytecode would not end the sleep that follows, so its handler runs now.
            self.attend(interruptible)
            PyErr_CheckSignals()
            count = 0
            with cython.critical_section(self.table):
                self.check()
                self.prepare(events)
                instance: cython.int = self.instance
                asleep: cython.bint = self.fall_asleep()
                pause: cython.longlong = self.pause(remaining)
            if asleep:
                with cython.nogil:
                    if events.credit == 0:
                        slept = now()
                    count = self.wait(events, pause)
                    woken = now()
                events.contended = now() - woken > _CONTENTION
                if events.contended:
                    events.credit = _WARY_LOOKS
                elif events.credit == 0 and woken - slept < _NO_SLEEP:
                    events.credit = LOOKS
                with cython.critical_section(self.table):
                    self.wake_up()
                    if self.state != OPEN:
                        self.last_one_out()
                    else:
                        if count > 0:
                            self.collect(events, count, False)
                        if instance != self.instance and self.sleepers:
                            # A ring wakes one of those who still wait on what was replaced; it passes the word on.  Not
                            # before collect(), which takes a ring away.
                            self.ring()
                        if self.has_ready():
                            self.gather(events)
                self.check()
                if events.count:
                    return cython.cast(cython.int, events.count)
            if count == -EINTR:
                PyErr_CheckSignals()
                if interruptible and threading.current_thread() is threading.main_thread():
                    raise InterruptedError(EINTR, "interrupted by a signal")
            elif count < 0:
                raise os_error(-count)
            if self.alarm != INT64_MAX:
                self.expire()
            if count > 0 or self.has_ready():
                # A ring, or something stale.  If it is the latter the kernel would report it for ever: look.
                self.look(events)
                if events.count:
                    return cython.cast(cython.int, events.count)
            if timeout > 0:
                remaining = deadline - now()
                if remaining <= 0:
                    # A signal handler, or another thread, may have closed it meanwhile.
                    self.check()
                    return 0

    def pause(self, timeout):
        """How long to sleep at the most: until the timeout, or the next deadline of a source."""
        if self.alarm == INT64_MAX:
            return timeout
        left: cython.longlong = max(self.alarm - now(), 0)
        return left if timeout < 0 or left < timeout else timeout

    def look_longer(self, events, begin, timeout):
        """Where giving up the GIL was expensive, give those who are about to answer a moment first."""
        patience: cython.longlong = _PATIENCE if timeout < 0 or timeout > _PATIENCE else timeout
        while events.count == 0 and now() - begin < patience:
            self.look(events)
        return events.count != 0

    # -- The end ------------------------------------------------------------------------------------------------------

    def close(self):
        records: list = []
        # At the very end of the interpreter the globals are gone before the last object is.
        if _alive is not None:
            _alive.pop(self.identity, None)
        with cython.critical_section(self.table):
            if self.state != CLOSED:
                forked: cython.bint = self.state == FORKED
                self.state = CLOSED
                records = self.table.clear()
                records += self.close_nodes()
                self.waker = None
                if not forked:
                    self.last_one_out()
        for entry in records:
            if isinstance(entry, Record):
                take_token(cython.cast(Record, entry))
        return 0

    def last_one_out(self):
        if self.state == FORKED:
            return 0
        if self.sleepers:
            self.ring()
        else:
            self.shut()
        return 0

    def forget(self):
        """In the child of a fork: the kernel's set is the parent's, and so are those who sleep on it."""
        self.state = FORKED
        self.forget_nodes()
        # Sources that the child goes on using can be registered anew; the tokens stay until this is closed.
        for entry in self.table.records:
            record: Record = entry
            if record is not None:
                record.live = False
        self.shut()
        return 0


def _forget_all():
    for reference in list(_alive.values()):
        selector: Selector = reference()
        if selector is not None:
            selector.forget()
    _alive.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
