"""libevent's benchmark: 100 socket pairs, each event reads a byte and writes one to the next pair.

All the pairs are active, so that each poll finds 100 events.  An event takes one byte and no more, whatever else there
is: the bytes would run together otherwise, and the ring would have fewer and fewer events.
"""

import select
import selectors
import sys
from contextlib import closing, contextmanager
from functools import partial

from metalio import Events, Interest, Poll, PollOpt
from metalio.bench.case import Case
from metalio.bench.common import LAPS, LOOPS, closing_all, new_epoll, ns_each, socket_pairs, stream_pair
from metalio.bench.native import run as run_native

if sys.platform != "win32":
    from metalio.unix import SourceFd


def c(pairs, active, events):
    return run_native("ring", pairs, active, events, LAPS)


# -- Rings ------------------------------------------------------------------------------------------------------------
#
# Each is a context manager, of a function that has at least so many events and returns how many there were, and one
# that watches a descriptor with which nothing happens.


@contextmanager
def metalio(pairs, active):
    with Poll() as poll, closing_all([]) as ends:
        for _ in range(pairs):
            ends.extend(stream_pair())
        readers, writers = ends[::2], ends[1::2]
        # The driver of sockets on Windows has no edges: those that are emulated have to be drained.
        opts = PollOpt.LEVEL if poll.selector_name == "afd" else PollOpt.EDGE
        for reader, following in zip(readers, writers[1:] + writers[:1], strict=True):
            # Each poll's events are all the edges there are, and each pair gets one byte between two polls.  So the
            # kernel has a new edge for whatever a one-byte read leaves behind, and there is nothing to drain.
            poll.registry.register(reader, (reader.readinto, following.write), Interest.READABLE, opts)
        start([writer.write for writer in writers], active)

        batch = Events()
        byte = bytearray(1)

        def run(count):
            done = 0
            while done < count:
                done += poll.poll(batch)
                for event in batch:
                    if event.is_readable():
                        readinto, write = event.token
                        if readinto(byte):
                            write(b"e")
            return done

        def watch(fd):
            if sys.platform == "win32":
                # There it is a socket, and one of somebody else's has no edges.
                poll.registry.register(fd, fd, Interest.READABLE, PollOpt.LEVEL)
            else:
                poll.registry.register(SourceFd(fd), fd, Interest.READABLE)

        yield run, watch
        verify(active, (reader.read(64) for reader in readers))


@contextmanager
def epoll(pairs, active):
    with new_epoll() as epoll, socket_pairs(pairs) as ends:
        table = {}
        for (reader, _), (_, following) in zip(ends, ends[1:] + ends[:1], strict=True):
            epoll.register(reader, select.EPOLLIN)
            table[reader.fileno()] = (reader.recv, following.send)
        start([writer.send for _, writer in ends], active)

        readable = select.EPOLLIN

        def run(count):
            done = 0
            while done < count:
                ready = epoll.poll()
                done += len(ready)
                for fd, flags in ready:
                    if flags & readable:
                        recv, send = table[fd]
                        if recv(1):
                            send(b"e")
            return done

        yield run, lambda fd: epoll.register(fd, readable)
        verify_sockets(active, ends)


@contextmanager
def standard_selectors(pairs, active):
    with selectors.DefaultSelector() as selector, socket_pairs(pairs) as ends:
        for (reader, _), (_, following) in zip(ends, ends[1:] + ends[:1], strict=True):
            selector.register(reader, selectors.EVENT_READ, (reader.recv, following.send))
        start([writer.send for _, writer in ends], active)

        readable = selectors.EVENT_READ

        def run(count):
            done = 0
            while done < count:
                ready = selector.select()
                done += len(ready)
                for key, mask in ready:
                    if mask & readable:
                        recv, send = key.data
                        if recv(1):
                            send(b"e")
            return done

        yield run, lambda fd: selector.register(fd, readable)
        verify_sockets(active, ends)


@contextmanager
def event_loop(new_loop, pairs, active):
    with closing(new_loop()) as loop, socket_pairs(pairs) as ends:
        laps = 0
        idle = []

        def pass_on(recv, send):
            if recv(1):
                send(b"e")

        def count_and_pass_on(recv, send):
            # One pair counts for all of them: a byte that passes has passed each of the others too.
            nonlocal laps
            laps -= 1
            if laps == 0:
                loop.stop()
            pass_on(recv, send)

        for (reader, _), (_, following) in zip(ends, ends[1:] + ends[:1], strict=True):
            callback = pass_on if laps else count_and_pass_on
            laps = 1
            loop.add_reader(reader, callback, reader.recv, following.send)
        start([writer.send for _, writer in ends], active)

        def run(count):
            nonlocal laps
            laps = passes = count // pairs + 1
            loop.run_forever()
            return passes * pairs

        def watch(fd):
            idle.append(fd)
            loop.add_reader(fd, int)

        yield run, watch
        for reader in (*(reader for reader, _ in ends), *idle):
            loop.remove_reader(reader)
        verify_sockets(active, ends)


RINGS = {
    "metalio": metalio,
    "select.epoll": epoll,
    "selectors": standard_selectors,
    **{name: partial(event_loop, new_loop) for name, new_loop in LOOPS.items()},
}


def start(writes, active):
    """Put `active` bytes into the ring, at even distances."""
    for index in range(active):
        writes[index * len(writes) // active](b"e")


def verify_sockets(active, pairs):
    verify(active, (receive(reader) for reader, _ in pairs))


def receive(sock):
    try:
        return sock.recv(64)
    except BlockingIOError:
        return None


def verify(active, received):
    """A ring that lost bytes was faster for it."""
    found = sum(len(data) for data in received if data)
    if found != active:
        raise RuntimeError(f"{found} bytes in the ring instead of {active}")


def measured(ring, pairs, active, events):
    with ring(pairs, active) as (run, _):
        return ns_each(run, events)


CASES = (
    Case(
        title="100 socket pairs, 100 active",
        unit="ns/event",
        contenders={"C": c, **{name: partial(measured, ring) for name, ring in RINGS.items()}},
        params={"pairs": 100, "active": 100, "events": 50_000},
        quick={"events": 10_000},
    ),
)
