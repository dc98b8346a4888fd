"""What a timeout costs beside a million that are pending: to schedule, to cancel, and to go off.

`heapq` is the idiom of its documentation: a heap of entries, a dictionary to find them by, and a mark on those that
were cancelled, which stay in the heap until their time comes.  asyncio does the same.  So to cancel is measured twice:
with what is left to do when the time comes, and the call alone.

An event loop calls what goes off; the others call it from a loop in Python.
"""

import random
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from itertools import count as counter
from time import monotonic, sleep

from metalio.bench.case import Case
from metalio.bench.common import LAPS, LOOPS, clock_ns
from metalio.timer import Timer

# What is pending is due between a minute and an hour after that.
SOONEST = 60.0
SPAN = 3600.0
# What goes off in a lap is due within this time.
MOMENT = 0.02


class Metalio:
    def __init__(self):
        self.timer = Timer()

    def close(self):
        self.timer.close()

    def schedule(self, delays, states):
        """Schedule a timeout for each state: what to cancel them by."""
        set_timeout = self.timer.set_timeout
        return [set_timeout(delay, state) for delay, state in zip(delays, states, strict=True)]

    def cancel(self, timeouts):
        cancel_timeout = self.timer.cancel_timeout
        for timeout in timeouts:
            cancel_timeout(timeout)

    def expire(self, callback, count):
        """Call what is due, which are so many."""
        poll = self.timer.poll
        while (state := poll()) is not None:
            callback(state)


class Heap:
    REMOVED = object()

    def __init__(self):
        self.heap = []
        self.entries = {}
        self.counter = counter()

    def close(self):
        self.heap.clear()
        self.entries.clear()

    def schedule(self, delays, states):
        heap, entries, counter = self.heap, self.entries, self.counter
        for delay, state in zip(delays, states, strict=True):
            entry = [monotonic() + delay, next(counter), state]
            entries[state] = entry
            heappush(heap, entry)
        return states

    def cancel(self, states):
        entries, removed = self.entries, self.REMOVED
        for state in states:
            entries.pop(state)[-1] = removed

    def expire(self, callback, count):
        heap, entries, removed = self.heap, self.entries, self.REMOVED
        while heap and heap[0][0] <= monotonic():
            _, _, state = heappop(heap)
            if state is not removed:
                del entries[state]
                callback(state)


class Loop:
    def __init__(self, new_loop):
        self.loop = new_loop()
        self.left = 0
        self.callback = None

    def close(self):
        self.loop.close()

    def schedule(self, delays, states):
        call_later, fire = self.loop.call_later, self.fire
        return [call_later(delay, fire, state) for delay, state in zip(delays, states, strict=True)]

    def cancel(self, handles):
        for handle in handles:
            handle.cancel()

    def fire(self, state):
        self.callback(state)
        self.left -= 1
        if self.left == 0:
            self.loop.stop()

    def expire(self, callback, count):
        self.callback = callback
        self.left = count
        if count == 0:
            self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()


@dataclass
class Crowd:
    """Timeouts that are pending, and what to schedule beside them."""

    contender: object
    pending: int
    count: int

    def __post_init__(self):
        random.seed(1)
        delays = [SOONEST + random.random() * SPAN for _ in range(self.pending)]
        self.handles = self.contender.schedule(delays, states(self.pending))
        self.delays = delays[: self.count]
        self.states = states(self.count)

    def schedule(self):
        return self.contender.schedule(self.delays, self.states)


def states(count):
    return [object() for _ in range(count)]


def soon(count):
    return [random.random() * MOMENT for _ in range(count)]


def shuffled(handles):
    return random.sample(handles, len(handles))


def ns_each(count, lap):
    """The nanoseconds of each of `count` items.  `lap()` prepares a lap, and returns what is measured of it."""
    figures = []
    for _ in range(LAPS):
        run = lap()
        begin = clock_ns()
        run()
        figures.append((clock_ns() - begin) / count)
    return min(figures)


def schedule(new, pending, count):
    with closing(new()) as contender:
        crowd = Crowd(contender, pending, count)
        scheduled = []

        def lap():
            contender.cancel(scheduled)
            scheduled.clear()
            return lambda: scheduled.extend(crowd.schedule())

        return ns_each(count, lap)


def cancel(new, pending, count):
    """As requests are answered before their time is up, which it is later on."""
    with closing(new()) as contender:
        crowd = Crowd(contender, pending, count)
        delays = soon(count)
        fired = []

        def lap():
            handles = shuffled(contender.schedule(delays, crowd.states))

            def run():
                contender.cancel(handles)
                # It is the processor's time that is measured.
                sleep(2 * MOMENT)
                contender.expire(fired.append, 0)

            return run

        figure = ns_each(count, lap)
        verify(len(fired), 0)
        return figure


def call_cancel(new, pending, count):
    """Those that were scheduled last."""
    with closing(new()) as contender:
        crowd = Crowd(contender, pending, count)
        return ns_each(count, lambda: partial(contender.cancel, shuffled(crowd.schedule())))


def call_cancel_any(new, pending, count):
    """Any of those that are pending."""
    with closing(new()) as contender:
        crowd = Crowd(contender, pending, count)
        handles = shuffled(crowd.handles)
        shares = iter(range(0, pending, count))

        def lap():
            # As many as the lap before has cancelled.
            contender.schedule(crowd.delays, states(count))
            begin = next(shares)
            return partial(contender.cancel, handles[begin : begin + count])

        return ns_each(count, lap)


def expire(new, pending, count):
    with closing(new()) as contender:
        crowd = Crowd(contender, pending, count)
        delays = soon(count)
        fired = []

        def lap():
            verify(len(fired), count if fired else 0)
            fired.clear()
            contender.schedule(delays, crowd.states)
            sleep(2 * MOMENT)
            return lambda: contender.expire(fired.append, count)

        figure = ns_each(count, lap)
        verify(len(fired), count)
        return figure


def verify(fired, expected):
    """A timeout that does not go off costs nothing."""
    if fired != expected:
        raise RuntimeError(f"{fired} timeouts went off instead of {expected}")


CONTENDERS = {
    "metalio": Metalio,
    "heapq": Heap,
    **{name: partial(Loop, new_loop) for name, new_loop in LOOPS.items()},
}

CASES = tuple(
    Case(
        title=f"{title}, beside 1,000,000 that are pending",
        unit="ns/timeout",
        contenders={name: partial(measure, new) for name, new in CONTENDERS.items()},
        params={"pending": 1_000_000, "count": 100_000},
        quick={"count": 20_000},
    )
    for title, measure in (
        ("schedule", schedule),
        ("cancel, and be rid of it", cancel),
        ("cancel, the call alone", call_cancel),
        ("cancel any of them, the call alone", call_cancel_any),
        ("go off", expire),
    )
)
