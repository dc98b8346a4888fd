"""What an event costs beside registrations with which nothing happens: ten of them, a thousand, fifteen thousand.

The events are those of a small ring, in one process with more and more idle registrations.  What grows by itself, in
the kernel or in a processor's caches, is what C shows.
"""

import os
import socket
import sys
from contextlib import contextmanager
from functools import partial

from metalio.bench.case import Case, Figure, Metric
from metalio.bench.common import LAPS, closing_all, ns_each
from metalio.bench.native import lines
from metalio.bench.ring import RINGS

PAIRS = 16


def c(few, some, many, events):
    return figure(lines("ring", PAIRS, PAIRS, events, LAPS, few, some, many))


def measured(ring, few, some, many, events):
    with idle_descriptors(many) as idle, ring(PAIRS, PAIRS) as (run, watch):
        costs = []
        watched = 0
        for count in (few, some, many):
            for fd in idle[watched:count]:
                watch(fd)
            watched = count
            costs.append(ns_each(run, events))
        return figure(costs)


def figure(costs):
    few, some, many = costs
    return Figure(many / few, "", {"few": few, "some": some, "many": many})


@contextmanager
def idle_descriptors(count):
    """So many descriptors with which nothing happens; on Windows sockets, since nothing else can be polled there."""
    if sys.platform == "win32":
        with closing_all([]) as socks:
            for _ in range(count):
                sock = socket.socket(type=socket.SOCK_DGRAM)
                socks.append(sock)
                sock.bind(("127.0.0.1", 0))
            yield socks
        return
    reader, writer = os.pipe()
    idle = []
    try:
        idle.extend(os.dup(reader) for _ in range(count))
        yield idle
    finally:
        for fd in (*idle, reader, writer):
            os.close(fd)


CASES = (
    Case(
        title="events beside 10, 1,000 and 15,000 idle registrations",
        unit="cost beside 15,000 in units of the cost beside 10",
        contenders={"C": c, **{name: partial(measured, ring) for name, ring in RINGS.items()}},
        params={"few": 10, "some": 1000, "many": 15_000, "events": 30_000},
        quick={"events": 6_000},
        others={
            "few": Metric("ns/event beside 10"),
            "some": Metric("ns/event beside 1,000"),
            "many": Metric("ns/event beside 15,000"),
        },
    ),
)
