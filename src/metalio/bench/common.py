"""What the contenders of several benchmarks share."""

import asyncio
import select
import socket
import sys
from contextlib import contextmanager
from time import perf_counter_ns, process_time_ns

from metalio.bench.case import Unavailable
from metalio.net import TcpStream, UnixStream

# Runs of a loop in one process, after a warm-up.  The process's figure is the quickest, since what disturbs only adds.
# The clock is the process's own: the loops never sleep, and time that went to another process says nothing of them.
# On Windows that one ticks only once in 16 ms.
LAPS = 5
clock_ns = perf_counter_ns if sys.platform == "win32" else process_time_ns


def ns_each(run, count):
    """The nanoseconds of each of `count` items, where `run(count)` does at least so many and returns how many."""
    run(count // 10 + 1)
    figures = []
    for _ in range(LAPS):
        begin = clock_ns()
        done = run(count)
        figures.append((clock_ns() - begin) / done)
    return min(figures)


def _new_uvloop():
    try:
        import uvloop
    except ImportError:
        raise Unavailable("not installed") from None
    return uvloop.new_event_loop()


# The event loops that take the same program.  The one that asyncio has by default on Windows knows no `add_reader`.
LOOPS = {
    "asyncio": asyncio.SelectorEventLoop if sys.platform == "win32" else asyncio.new_event_loop,
    "uvloop": _new_uvloop,
}


def new_epoll():
    if not hasattr(select, "epoll"):
        raise Unavailable("not on this platform")
    return select.epoll()


@contextmanager
def closing_all(sources):
    """The list `sources`, each of which is closed at the end."""
    try:
        yield sources
    finally:
        for source in sources:
            source.close()


@contextmanager
def socket_pairs(count):
    """`count` connected pairs of non-blocking sockets of the `socket` module."""
    with closing_all([]) as ends:
        pairs = []
        for _ in range(count):
            pair = socket.socketpair()
            ends.extend(pair)
            pairs.append(pair)
            for end in pair:
                end.setblocking(False)
        yield pairs


def stream_pair():
    """A connected pair of metalio's streams, of the same kind of socket."""
    if sys.platform == "win32":
        # There such a pair is a connection over TCP.
        first, second = socket.socketpair()
        return TcpStream.from_socket(first), TcpStream.from_socket(second)
    return UnixStream.pair()
