"""Allocator calls of a steady cycle: poll, iterate, token, readiness, read a little, write a little.

Counted in all of CPython's domains (raw, mem, object) by a hook in C.  What the loop around the cycle and the hook
itself allocate is taken out by running it twice as long and counting the difference.
"""

import ctypes
import select
import selectors
from contextlib import closing
from functools import partial
from itertools import repeat
from math import inf

from metalio import Events, Interest, Poll
from metalio.bench.case import Case, Figure
from metalio.bench.common import LOOPS, closing_all, new_epoll, socket_pairs, stream_pair
from metalio.bench.native import build

DOMAINS = ("raw", "mem", "object")


class Counter:
    """Counts the allocator calls of a function."""

    def __init__(self):
        # PyDLL: the GIL stays held, and nothing else runs between the call and the count.
        self.library = ctypes.PyDLL(str(build("allocations.so")))
        self.library.start.restype = self.library.stop.restype = None
        self.library.counted.restype = ctypes.c_long

    def calls(self, run, cycles):
        """The calls in each domain of `run(cycles)`, and of the hook."""
        start, stop = self.library.start, self.library.stop
        start()
        try:
            run(cycles)
        finally:
            stop()
        return [self.library.counted(domain) for domain in range(len(DOMAINS))]

    def per_cycle(self, run, cycles):
        """The calls in each domain of one cycle, where `run(cycles)` does so many of them."""
        run(cycles)
        least = {number: [inf] * len(DOMAINS) for number in (cycles, 2 * cycles)}
        for number, calls in least.items():
            # To start an event loop takes a few calls, not always as many; what a cycle does shows every time.  The
            # list stays the same one, since a list more is one less on the interpreter's free list.
            for _ in range(6):
                calls[:] = map(min, calls, self.calls(run, number))
        return [(twice - once) / cycles for once, twice in zip(*least.values(), strict=True)]


def figure_of(run, cycles):
    calls = Counter().per_cycle(run, cycles)
    return Figure(sum(calls), ", ".join(f"{name} {count:g}" for name, count in zip(DOMAINS, calls, strict=True)))


def metalio(descriptors, active, cycles):
    with Poll() as poll, closing_all([]) as ends:
        for index in range(descriptors):
            reader, writer = stream_pair()
            ends += (reader, writer)
            poll.registry.register(reader, (reader.readinto, writer.write), Interest.READABLE)
            if index < active:
                writer.write(b"e")
        batch = Events()
        buffer = bytearray(64)

        def run(cycles):
            for _ in repeat(None, cycles):
                poll.poll(batch)
                for event in batch:
                    if event.is_readable():
                        readinto, write = event.token
                        readinto(buffer)
                        write(b"e")

        return figure_of(run, cycles)


def epoll(descriptors, active, cycles):
    with new_epoll() as epoll, socket_pairs(descriptors) as ends:
        table = {}
        for reader, writer in ends:
            epoll.register(reader, select.EPOLLIN)
            table[reader.fileno()] = (reader.recv_into, writer.send)
        start(ends, active)
        buffer = bytearray(64)
        readable = select.EPOLLIN

        def run(cycles):
            for _ in repeat(None, cycles):
                for fd, flags in epoll.poll():
                    if flags & readable:
                        recv_into, send = table[fd]
                        recv_into(buffer)
                        send(b"e")

        return figure_of(run, cycles)


def standard_selectors(descriptors, active, cycles):
    with selectors.DefaultSelector() as selector, socket_pairs(descriptors) as ends:
        for reader, writer in ends:
            selector.register(reader, selectors.EVENT_READ, (reader.recv_into, writer.send))
        start(ends, active)
        buffer = bytearray(64)
        readable = selectors.EVENT_READ

        def run(cycles):
            for _ in repeat(None, cycles):
                for key, mask in selector.select():
                    if mask & readable:
                        recv_into, send = key.data
                        recv_into(buffer)
                        send(b"e")

        return figure_of(run, cycles)


def event_loop(new_loop, descriptors, active, cycles):
    with closing(new_loop()) as loop, socket_pairs(descriptors) as ends:
        buffer = bytearray(64)
        left = repeat(None, 0)

        def echo(recv_into, send):
            recv_into(buffer)
            send(b"e")

        def count_and_echo(recv_into, send):
            echo(recv_into, send)
            if next(left, loop) is loop:
                loop.stop()

        for index, (reader, writer) in enumerate(ends):
            loop.add_reader(reader, echo if index else count_and_echo, reader.recv_into, writer.send)
        start(ends, active)

        def run(cycles):
            nonlocal left
            left = repeat(None, cycles)
            loop.run_forever()

        figure = figure_of(run, cycles)
        for reader, _ in ends:
            loop.remove_reader(reader)
        return figure


def start(pairs, active):
    """Make the first `active` readers ready: each writes to itself from then on."""
    for _, writer in pairs[:active]:
        writer.send(b"e")


CONTENDERS = {
    "metalio": metalio,
    "select.epoll": epoll,
    "selectors": standard_selectors,
    **{name: partial(event_loop, new_loop) for name, new_loop in LOOPS.items()},
}

CASES = tuple(
    Case(
        title=f"{descriptors:,} registered, 16 ready",
        unit="allocator calls/poll cycle",
        contenders=CONTENDERS,
        params={"descriptors": descriptors, "active": 16, "cycles": 1000},
        quick={"cycles": 200},
    )
    for descriptors in (16, 4000)
)
