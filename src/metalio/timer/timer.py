"""Timer: a source that is readable when a timeout is due."""

import cython
from cython.cimports.cpython.float import PyFloat_AS_DOUBLE
from cython.cimports.libc.math import ceil, floor
from cython.cimports.libc.stdint import INT64_MAX
from cython.cimports.metalio._sys.clock import now
from cython.cimports.metalio.timer.timeout import Timeout, new_timeout
from cython.cimports.metalio.timer.wheel import Wheel, highest
from cython.cimports.metalio.user_source import UserSource

from metalio._sys.errors import closed_error
from metalio.timer.errors import TimerFull


@cython.final
@cython.no_gc_clear
@cython.cclass
class Timer(UserSource):
    """Timeouts, each with a state that says what it is for: any object but `None`.

    Registered with a `Poll` it is readable while a timeout is due.  The poll wakes up for the next one and for nothing
    else, and needs no thread and no timer of the kernel for it.  Take what is due by `poll()` until that gives `None`.
    Without a `Poll` it works as well: `next_timeout()` tells how long to wait.

    Time goes by ticks of `tick` seconds (0.001 by default).  A timeout is due at the first tick that begins when its
    delay has passed: never before, and at most one tick after it.  Those of an earlier tick come first, those of one
    tick in the order in which they were scheduled, also after a stall.

    Scheduling and cancelling are O(1), however many are pending, and allocate nothing once as many have been pending
    before.  A pending timeout takes 32 bytes, and 32 as long as its `Timeout` is kept.  `len(timer)` is how many there
    are, with those that are due and were not taken.

    `capacity` is how many it takes at the most (`None`: some four billion).  It is a timing wheel of several levels
    with `slots` slots each (512 by default; up to 65,536, rounded up to a power of two): with more of them, a
    timeout is moved less often before it is due, and the wheel takes some more memory.

    `close()`, or dropping it, deregisters it and drops all states.  Safe to use from any thread; no code of the states
    (finalisers) runs while it is locked.
    """

    def __cinit__(self, *, tick=0.001, slots=512, capacity=None):
        seconds: cython.double = tick
        size: cython.Py_ssize_t = slots
        if not (1e-9 <= seconds <= 1e9):
            raise ValueError(f"the tick of a Timer is from a nanosecond to 1e9 seconds: {tick!r}")
        if size < 1 or size > 65536:
            raise ValueError(f"a Timer has from 1 to 65,536 slots on a level: {slots!r}")
        if capacity is not None and capacity < 1:
            raise ValueError("the capacity of a Timer is at least 1")
        size = 4 if size <= 4 else 1 << (highest(size - 1) + 1)
        self.states = [None]
        length: cython.longlong = cython.cast(cython.longlong, seconds * 1e9 + 0.5)
        self.node = self.wheel = Wheel.__new__(Wheel, now(), length, size, _MOST if capacity is None else capacity)

    def set_timeout(self, delay, state):
        """Schedule a timeout: its `Timeout`.  In `delay` seconds, `poll()` gives `state`.

        A negative delay counts as 0.  One that ends in more than some 290 years, or infinity, never does.  From another
        thread it wakes a poll that waits, if this timeout is the next one.

        Raises `TimerFull`; `TypeError` for a state of `None`; `ValueError` for a delay that is not a number, and if the
        timer is closed; `OSError` if the poll cannot be woken.
        """
        if state is None:
            raise TypeError("the state of a timeout may be anything but None, which poll() gives where nothing is due")
        span: cython.longlong = _nanoseconds(delay)
        timeout: Timeout = new_timeout()
        wheel: Wheel = self.wheel
        moment: cython.longlong = now()
        changed: cython.bint = False
        with cython.critical_section(wheel):
            if self.shut:
                raise closed_error(self)
            before: cython.longlong = wheel.deadline
            if moment >= wheel.until and wheel.advance(moment):
                changed = True
                wheel.tell(True)
            if wheel.is_full():
                raise TimerFull(f"a Timer with {wheel.count} timeouts has no room for another")
            due: cython.longlong = wheel.due_after(moment, span)
            place: cython.uint = wheel.reserve(due)
            if place < cython.cast(cython.size_t, len(self.states)):
                self.states[place] = state
            else:
                self.states.append(state)
            timeout.wheel = wheel.identity
            timeout.place = place
            timeout.number = wheel.number + 1
            wheel.schedule(place, due)
            changed |= wheel.deadline != before
        if changed:
            wheel.reschedule()
        return timeout

    def cancel_timeout(self, timeout):
        """Cancel a timeout: its state, or `None` if `poll()` gave it or it was cancelled before.

        What is due and was not taken yet can be cancelled, and is not given by `poll()` then.  After `close()` it is
        `None`.  Raises `ValueError` for a timeout of another timer.
        """
        if not isinstance(timeout, Timeout):
            raise TypeError(f"expected a Timeout, not {type(timeout).__name__}")
        handle: Timeout = cython.cast(Timeout, timeout)
        wheel: Wheel = self.wheel
        state: object = None
        changed: cython.bint = False
        with cython.critical_section(wheel):
            if handle.wheel != wheel.identity:
                raise ValueError("this Timeout is of another Timer")
            place: cython.uint = handle.place
            if wheel.number_at(place) == handle.number:
                state = self.states[place]
                self.states[place] = None
                before: cython.longlong = wheel.deadline
                wheel.cancel(place)
                changed = wheel.deadline != before
        if changed:
            wheel.reschedule()
        return state

    @cython.always_allow_keywords(False)
    def poll(self):
        """Take the timeout that is due next: its state, or `None` if none is due.

        Raises `ValueError` if the timer is closed.
        """
        wheel: Wheel = self.wheel
        state: object = None
        changed: cython.bint = False
        with cython.critical_section(wheel):
            if self.shut:
                raise closed_error(self)
            if wheel.due.first == 0:
                before: cython.longlong = wheel.deadline
                wheel.advance(now())
                changed = wheel.deadline != before
                if wheel.due.first != wheel.due.last:
                    # Before anything is taken, which would be lost if the poll cannot be told.
                    wheel.tell(True)
            place: cython.uint = wheel.due.first
            if place:
                state = self.states[place]
                self.states[place] = None
                wheel.take_due()
        if changed:
            wheel.reschedule()
        return state

    def next_timeout(self):
        """The seconds from now until the next timeout is due: 0.0 if one is, `None` if none is pending.

        Raises `ValueError` if the timer is closed.
        """
        wheel: Wheel = self.wheel
        deadline: cython.longlong = 0
        with cython.critical_section(wheel):
            if self.shut:
                raise closed_error(self)
            if wheel.due.first == 0:
                deadline = wheel.next_deadline()
        if deadline == INT64_MAX:
            return None
        return max(deadline - now(), 0) / 1e9 if deadline else 0.0

    def __len__(self):
        return self.wheel.count

    @property
    def capacity(self):
        """How many timeouts it takes at the most, or `None`."""
        return None if self.wheel.capacity == _MOST else self.wheel.capacity

    def close(self):
        """Deregister it, drop its token and all states.  May be called again."""
        UserSource.close(self)
        wheel: Wheel = self.wheel
        states: list = [None]
        if wheel is not None:
            with cython.critical_section(wheel):
                self.states, states = states, self.states
                wheel.empty()

    def __repr__(self):
        return "<Timer closed>" if self.shut else f"<Timer: {self.wheel.count}>"


# As many places as the wheel has numbers for.
_MOST = cython.declare(cython.Py_ssize_t, 0xFFFFFFFE)


@cython.cfunc
@cython.inline
@cython.exceptval(-1)
def _nanoseconds(delay) -> cython.longlong:
    seconds: cython.double
    if isinstance(delay, float):
        seconds = PyFloat_AS_DOUBLE(delay)
    else:
        try:
            seconds = delay
        except OverflowError:
            seconds = 1e300 if delay > 0 else 0
    if seconds != seconds:
        raise ValueError(f"a delay is a number of seconds: {delay!r}")
    if seconds <= 0:
        return 0
    if seconds >= 9.2e9:
        return INT64_MAX
    # Apart, so that nothing is rounded down.
    whole: cython.double = floor(seconds)
    return cython.cast(cython.longlong, whole) * 1_000_000_000 + cython.cast(
        cython.longlong, ceil((seconds - whole) * 1e9)
    )
