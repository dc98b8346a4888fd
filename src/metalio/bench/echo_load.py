"""The load on the echo servers of the benchmarks.

It is a program in C, in a process of its own, which sends on each connection a message at a time and compares every
byte that comes back.
"""

import threading
from contextlib import contextmanager
from dataclasses import dataclass

from metalio.bench.case import Figure, Metric
from metalio.bench.client import prepare, run_client

# What the load ends at, if its time does not end it before.
MOST_ECHOES = 5_000_000

# What there is to say of a server besides its rate.
OTHERS = {
    "processor": Metric("ns of the server's processor time/echo"),
    "p50": Metric("µs of latency, median"),
    "p99": Metric("µs of latency, 99th percentile"),
}


@dataclass(frozen=True)
class Load:
    """What is sent to a server, and in which circumstances it serves.

    So many connections with messages of `size` bytes, for `measure_ms` after `warm_up_ms`.  Beside the server
    `spinners` threads do nothing but Python.  A `pinned` server has one processor for itself, and the load another.
    """

    connections: int
    size: int
    warm_up_ms: int
    measure_ms: int
    spinners: int = 0
    pinned: int = 0

    def __post_init__(self):
        prepare("echo_client", self.pinned)

    def drive(self, port, serve, pid=None):
        """Load `port` while `serve()` runs, which ends when the last connection has: a `Figure`, of echoes a second.

        The `pid` is that of a server that is another process.
        """
        arguments = (port, self.connections, self.size, self.warm_up_ms, self.measure_ms, MOST_ECHOES)
        with spinning(self.spinners):
            numbers, spent = run_client("echo_client", arguments, serve, self.pinned)
        rate, p50, p99, busy, echoes = numbers
        others = {"processor": spent * 1e9 / echoes, "p50": p50 / 1000, "p99": p99 / 1000}
        return Figure(rate, f"load {busy:.0%} busy", others)


@contextmanager
def spinning(count):
    """So many threads that do nothing but Python."""
    stop = []

    def spin():
        while not stop:
            pass

    threads = [threading.Thread(target=spin, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.append(True)
        for thread in threads:
            thread.join()
