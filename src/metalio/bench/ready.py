"""What an event costs: descriptors that are ready and stay so, polled, iterated, token and readiness looked at.

Nothing is read.  The descriptors are level-triggered, so that each poll reports all of them again.
"""

import select
import selectors
from contextlib import closing
from functools import partial

from metalio import Events, Interest, Poll, PollOpt
from metalio.bench.case import Case
from metalio.bench.common import LAPS, LOOPS, closing_all, new_epoll, ns_each, socket_pairs, stream_pair
from metalio.bench.native import run as run_native


def c(descriptors, events):
    return run_native("ready", descriptors, events, LAPS)


def metalio(descriptors, events):
    with Poll() as poll, closing_all([]) as ends:
        for _ in range(descriptors):
            reader, writer = stream_pair()
            ends += (reader, writer)
            writer.write(b"e")
            poll.registry.register(reader, reader, Interest.READABLE, PollOpt.LEVEL)
        batch = Events()

        def run(count):
            done = 0
            while done < count:
                done += verified(descriptors, poll.poll(batch))
                for event in batch:
                    token = event.token
                    if not event.is_readable():
                        raise RuntimeError(f"{token!r} is not readable")
            return done

        return ns_each(run, events)


def epoll(descriptors, events):
    with new_epoll() as epoll, socket_pairs(descriptors) as ends:
        table = {}
        for reader, writer in ends:
            writer.send(b"e")
            epoll.register(reader, select.EPOLLIN)
            table[reader.fileno()] = reader
        flag = select.EPOLLIN

        def run(count):
            done = 0
            while done < count:
                ready = epoll.poll()
                done += verified(descriptors, len(ready))
                for fd, flags in ready:
                    token = table[fd]
                    if not flags & flag:
                        raise RuntimeError(f"{token!r} is not readable")
            return done

        return ns_each(run, events)


def standard_selectors(descriptors, events):
    with selectors.DefaultSelector() as selector, socket_pairs(descriptors) as ends:
        for reader, writer in ends:
            writer.send(b"e")
            selector.register(reader, selectors.EVENT_READ, reader)
        flag = selectors.EVENT_READ

        def run(count):
            done = 0
            while done < count:
                ready = selector.select()
                done += verified(descriptors, len(ready))
                for key, mask in ready:
                    token = key.data
                    if not mask & flag:
                        raise RuntimeError(f"{token!r} is not readable")
            return done

        return ns_each(run, events)


def event_loop(new_loop, descriptors, events):
    """A call of a Python function is what an event is there: its argument is the token."""
    with closing(new_loop()) as loop, socket_pairs(descriptors) as ends:
        laps = 0

        def ready(token):
            pass

        def count(token):
            nonlocal laps
            laps -= 1
            if laps == 0:
                loop.stop()

        for index, (reader, writer) in enumerate(ends):
            writer.send(b"e")
            loop.add_reader(reader, ready if index else count, reader)

        def run(count):
            nonlocal laps
            laps = polls = -(-count // descriptors)
            loop.run_forever()
            return polls * descriptors

        figure = ns_each(run, events)
        for reader, _ in ends:
            loop.remove_reader(reader)
        return figure


def verified(descriptors, ready):
    if ready != descriptors:
        raise RuntimeError(f"{ready} ready descriptors instead of {descriptors}")
    return ready


CONTENDERS = {
    "C": c,
    "metalio": metalio,
    "select.epoll": epoll,
    "selectors": standard_selectors,
    **{name: partial(event_loop, new_loop) for name, new_loop in LOOPS.items()},
}

CASES = tuple(
    Case(
        title=f"{descriptors:,} ready descriptors",
        unit="ns/event",
        contenders=CONTENDERS,
        params={"descriptors": descriptors, "events": 250_000},
        quick={"events": 50_000},
    )
    for descriptors in (256, 1000)
)
