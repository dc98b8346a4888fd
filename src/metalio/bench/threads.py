"""Rings of socket pairs in two threads, each with a poll of its own, against one ring in one thread.

What is measured is how many events there are in a time.  Two threads can have twice as many where nothing holds them
back: neither the GIL, which only a free-threaded build of CPython is without, nor what they share.  By turns in one
process, since the machine does not stay the same.
"""

import sys
import sysconfig
import threading
from functools import partial
from statistics import median
from time import perf_counter

from metalio.bench.case import Case, Figure, Metric
from metalio.bench.native import lines
from metalio.bench.ring import RINGS

PAIRS = 100


def c(threads, events, turns):
    rates = lines("threads", threads, PAIRS, events, turns)
    return figure(rates[::2], rates[1::2], "")


def measured(ring, threads, events, turns):
    order = [count for turn in range(turns) for count in ((1, threads) if turn % 2 else (threads, 1))]
    rates = {1: [], threads: []}
    together = threading.Barrier(threads + 1)
    done = [0] * threads
    errors = []

    def serve(index):
        try:
            # Made by the thread that runs it, so that what it consists of is that thread's own.
            with ring(PAIRS, PAIRS) as (run, _):
                run(events // 10)
                for count in order:
                    together.wait()
                    done[index] = run(events) if index < count else 0
                    together.wait()
        except BaseException as error:
            errors.append(error)
            together.abort()

    workers = [threading.Thread(target=serve, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    try:
        for count in order:
            together.wait()
            begin = perf_counter()
            together.wait()
            rates[count].append(sum(done) / (perf_counter() - begin))
    except threading.BrokenBarrierError:
        # What broke it comes first; the other threads only hear of it.
        raise errors[0] from None
    finally:
        for worker in workers:
            worker.join()
    return figure(rates[1], rates[threads], gil())


def figure(one, all, detail):
    """Of the events a second, by turns, in one thread and in all of them."""
    gains = [above / below for above, below in zip(all, one, strict=True)]
    return Figure(median(gains), detail, {"one": median(one), "all": median(all)})


def gil():
    """What holds the threads back."""
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        return "with the GIL" + (" (PYTHON_GIL=0)" if sysconfig.get_config_var("Py_GIL_DISABLED") else "")
    return "without the GIL"


CASES = (
    Case(
        title="rings in 2 threads, a poll each",
        unit="events in a time, in units of those of 1 thread",
        contenders={"C": c, **{name: partial(measured, ring) for name, ring in RINGS.items()}},
        params={"threads": 2, "events": 40_000, "turns": 7},
        quick={"events": 10_000, "turns": 3},
        higher_is_better=True,
        others={
            "one": Metric("events/s in 1 thread", higher_is_better=True),
            "all": Metric("events/s in 2 threads", higher_is_better=True),
        },
    ),
)
