"""Rings of socket pairs in two threads, each with a poll of its own, against one ring in one thread.

What is measured is how many events there are in a time.  Two threads can have twice as many where nothing holds them
back: neither the GIL, which only a free-threaded build of CPython is without, nor what they share.  By turns in one
process, since the machine does not stay the same.
"""

import sys
import sysconfig
import threading
from contextlib import ExitStack
from functools import partial
from statistics import median
from time import perf_counter

from metalio.bench.case import Case, Figure, Metric
from metalio.bench.ring import RINGS

PAIRS = 100


def measured(ring, threads, events, turns):
    with ExitStack() as stack:
        runs = [stack.enter_context(ring(PAIRS, PAIRS))[0] for _ in range(threads)]
        for run in runs:
            run(events // 10)
        rates = {1: [], threads: []}
        for turn in range(turns):
            for count in (1, threads) if turn % 2 else (threads, 1):
                rates[count].append(rate(runs[:count], events))
    one, all = (median(rates[count]) for count in (1, threads))
    gains = [above / below for above, below in zip(rates[threads], rates[1], strict=True)]
    return Figure(median(gains), gil(), {"one": one, "all": all})


def rate(runs, events):
    """Events a second, with a thread for each."""
    ready = threading.Barrier(len(runs) + 1)
    done = []

    def serve(run):
        ready.wait()
        done.append(run(events))

    threads = [threading.Thread(target=serve, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    ready.wait()
    begin = perf_counter()
    for thread in threads:
        thread.join()
    seconds = perf_counter() - begin
    if len(done) != len(runs):
        raise RuntimeError("a thread failed")
    return sum(done) / seconds


def gil():
    """What holds the threads back."""
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        return "with the GIL" + (" (PYTHON_GIL=0)" if sysconfig.get_config_var("Py_GIL_DISABLED") else "")
    return "without the GIL"


CASES = (
    Case(
        title="rings in 2 threads, a poll each",
        unit="events in a time, in units of those of 1 thread",
        contenders={name: partial(measured, ring) for name, ring in RINGS.items()},
        params={"threads": 2, "events": 40_000, "turns": 7},
        quick={"events": 10_000, "turns": 3},
        higher_is_better=True,
        others={
            "one": Metric("events/s in 1 thread", higher_is_better=True),
            "all": Metric("events/s in 2 threads", higher_is_better=True),
        },
    ),
)
