"""What a callback costs: descriptors that are ready and stay so, and a method of a handler called for each.

Nothing is read.  `metalio` is an `EventLoop` whose handler has `readable`, `EventLoop.ready` one that sees the events,
`Poll by hand` the loop that one would write instead.
"""

import select
from contextlib import contextmanager
from functools import partial

from metalio import Events, Interest, Poll, PollOpt
from metalio.bench.case import Case
from metalio.bench.common import LOOPS, closing_all, new_epoll, ns_each, socket_pairs, stream_pair
from metalio.bench.ready import event_loop, verified
from metalio.event_loop import EventLoop, Handler, ReadHint


class Counting(Handler):
    """Shuts its loop down after so many events."""

    def __init__(self, descriptors, left):
        self.descriptors = descriptors
        self.left = left

    def tick(self, loop):
        self.left -= self.descriptors
        if self.left <= 0:
            loop.shutdown()


class Reading(Counting):
    def readable(self, loop, token, hint):
        pass


class Looking(Counting):
    def ready(self, loop, token, event):
        pass


class Verifying(Handler):
    """Counts what it is called for."""

    calls = 0

    def readable(self, loop, token, hint):
        self.calls += 1


@contextmanager
def readers(descriptors):
    """So many streams with something to read."""
    with closing_all([]) as ends:
        for _ in range(descriptors):
            reader, writer = stream_pair()
            ends += (reader, writer)
            writer.write(b"e")
        yield ends[::2]


def metalio(kind, descriptors, events):
    with EventLoop() as loop, readers(descriptors) as streams:
        for stream in streams:
            loop.register(stream, stream)

        def run(count):
            verifying = Verifying()
            loop.run_once(verifying)
            verified(descriptors, verifying.calls)
            return count - loop.run(kind(descriptors, count)).left

        return ns_each(run, events)


def by_hand(descriptors, events):
    with Poll() as poll, readers(descriptors) as streams:
        for stream in streams:
            poll.registry.register(stream, stream, Interest.READABLE, PollOpt.LEVEL)
        batch = Events()

        def run(count):
            handler = Reading(descriptors, count)
            hint = ReadHint.DATA
            done = 0
            while done < count:
                done += verified(descriptors, poll.poll(batch, 1.0))
                for event in batch:
                    if event.is_readable():
                        handler.readable(poll, event.token, hint)
                    if event.is_writable():
                        handler.writable(poll, event.token)
            return done

        return ns_each(run, events)


def epoll(descriptors, events):
    with new_epoll() as epoll, socket_pairs(descriptors) as ends:
        table = {}
        for reader, writer in ends:
            writer.send(b"e")
            epoll.register(reader, select.EPOLLIN)
            table[reader.fileno()] = reader
        readable, writable = select.EPOLLIN, select.EPOLLOUT

        def run(count):
            handler = Reading(descriptors, count)
            hint = ReadHint.DATA
            done = 0
            while done < count:
                ready = epoll.poll(1.0)
                done += verified(descriptors, len(ready))
                for fd, flags in ready:
                    if flags & readable:
                        handler.readable(epoll, table[fd], hint)
                    if flags & writable:
                        handler.writable(epoll, table[fd])
            return done

        return ns_each(run, events)


CONTENDERS = {
    "metalio": partial(metalio, Reading),
    "EventLoop.ready": partial(metalio, Looking),
    "Poll by hand": by_hand,
    "select.epoll": epoll,
    **{name: partial(event_loop, new_loop) for name, new_loop in LOOPS.items()},
}

CASES = tuple(
    Case(
        title=f"{descriptors:,} ready descriptor{'s' if descriptors > 1 else ''}",
        unit="ns/event",
        contenders=CONTENDERS,
        params={"descriptors": descriptors, "events": 250_000},
        quick={"events": 50_000},
    )
    for descriptors in (1, 16, 256)
)
