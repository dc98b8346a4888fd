"""Waking a thread that polls: how long it takes until it is back, and what a wake costs that is not needed any more.

In the first case two threads wake one another in turn, each asleep in a poll of its own.  In the second nobody polls,
so that all wakes but the first find one that has not been heard.
"""

import os
import select
import socket
import threading
from contextlib import ExitStack, closing
from functools import partial
from time import perf_counter_ns

from metalio import Events, Interest, Poll
from metalio import Waker as MetalioWaker
from metalio.bench.case import Case, Unavailable
from metalio.bench.common import LAPS, LOOPS, new_epoll, ns_each
from metalio.bench.native import run as run_native
from metalio.channel import channel
from metalio.readiness import Registration


class Side:
    """A thread's poll and what wakes it; `wait()` returns once it was woken, and raises unless that was once."""

    def __init__(self):
        self.poll = Poll()
        self.events = Events()

    def wait(self):
        self.poll.poll(self.events)
        verify([event.token for event in self.events])

    def close(self):
        self.poll.close()


def verify(tokens):
    if tokens != ["woken"]:
        raise RuntimeError(f"{len(tokens)} events instead of one")


class Waker(Side):
    def __init__(self):
        super().__init__()
        self.wake = MetalioWaker(self.poll.registry, "woken").wake


class Readiness(Side):
    def __init__(self):
        super().__init__()
        self.registration, self.ready = Registration.new()
        self.poll.registry.register(self.registration, "woken", Interest.READABLE)
        self.wake = partial(self.ready.set_readiness, Interest.READABLE)


class Channel(Side):
    def __init__(self):
        super().__init__()
        self.sender, self.receiver = channel()
        self.poll.registry.register(self.receiver, "woken", Interest.READABLE)
        self.wake = partial(self.sender.send, "woken")

    def wait(self):
        self.poll.poll(self.events)
        for event in self.events:
            verify([event.token])
            verify(list(self.receiver.drain()))


class EventFd:
    """The same by hand."""

    def __init__(self):
        if not hasattr(os, "eventfd"):
            raise Unavailable("not on this platform")
        self.epoll = new_epoll()
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.epoll.register(self.fd, select.EPOLLIN)
        self.wake = partial(os.eventfd_write, self.fd, 1)

    def wait(self):
        verify(["woken" for fd, _ in self.epoll.poll() if os.eventfd_read(fd)])

    def close(self):
        self.epoll.close()
        os.close(self.fd)


class SocketPair:
    """The same, where there is no eventfd."""

    def __init__(self):
        self.epoll = new_epoll()
        self.reader, self.writer = socket.socketpair()
        self.reader.setblocking(False)
        self.writer.setblocking(False)
        self.epoll.register(self.reader, select.EPOLLIN)
        self.wake = partial(self.writer.send, b"\0")

    def wait(self):
        verify(["woken" for _ in self.epoll.poll() if self.reader.recv(4096)])

    def close(self):
        self.epoll.close()
        self.reader.close()
        self.writer.close()


def c(trips):
    return run_native("wake", trips, LAPS)


def round_trip(side, trips):
    with ExitStack() as stack:
        here, there = (stack.enter_context(closing(side())) for _ in range(2))

        def answer():
            wait, wake = there.wait, here.wake
            for _ in range(total):
                wait()
                wake()

        total = trips // 10 + 1 + trips * LAPS
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        figures = []
        wait, wake = here.wait, there.wake
        for count in (trips // 10 + 1, *[trips] * LAPS):
            begin = perf_counter_ns()
            for _ in range(count):
                wake()
                wait()
            figures.append((perf_counter_ns() - begin) / count)
        thread.join()
    return min(figures[1:])


def loop_round_trip(new_loop, trips):
    """A call of a function in the other thread, which has one called here."""
    with closing(new_loop()) as here, closing(new_loop()) as there:
        left = 0

        def ping():
            nonlocal left
            if left == 0:
                here.stop()
            else:
                left -= 1
                there.call_soon_threadsafe(here.call_soon_threadsafe, ping)

        def lap(count):
            nonlocal left
            left = count
            here.call_soon(ping)
            begin = perf_counter_ns()
            here.run_forever()
            return (perf_counter_ns() - begin) / count

        thread = threading.Thread(target=there.run_forever, daemon=True)
        thread.start()
        lap(trips // 10 + 1)
        figure = min(lap(trips) for _ in range(LAPS))
        there.call_soon_threadsafe(there.stop)
        thread.join()
    return figure


def coalesced(side, calls):
    with closing(side()) as here:
        wake = here.wake

        def run(count):
            for _ in range(count):
                wake()
            return count

        figure = ns_each(run, calls)
        here.wait()
    return figure


CASES = (
    Case(
        title="two threads wake one another",
        unit="ns/round trip",
        contenders={
            "C": c,
            "metalio": partial(round_trip, Waker),
            "metalio, SetReadiness": partial(round_trip, Readiness),
            "metalio, channel": partial(round_trip, Channel),
            "select.epoll, eventfd": partial(round_trip, EventFd),
            "select.epoll, socket pair": partial(round_trip, SocketPair),
            **{f"{name}, call_soon_threadsafe": partial(loop_round_trip, new_loop) for name, new_loop in LOOPS.items()},
        },
        params={"trips": 10_000},
        quick={"trips": 1_000},
    ),
    Case(
        title="one more wake, before the first was heard",
        unit="ns/call",
        contenders={
            "metalio": partial(coalesced, Waker),
            "metalio, SetReadiness": partial(coalesced, Readiness),
            "select.epoll, eventfd": partial(coalesced, EventFd),
        },
        params={"calls": 200_000},
        quick={"calls": 20_000},
    ),
)
