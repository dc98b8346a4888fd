"""The benchmark suite: `python -m metalio bench`.

Each benchmark is a module that says what it measures (its docstring's first line), and on what (`CASES`).  A case has
its contenders, functions that return the figure: metalio, its peers, and the same loop in C, which is the limit.
"""

from importlib import import_module

NAMES = (
    "ring",
    "ready",
    "alloc",
    "convoy",
    "echo",
    "churn",
    "wake",
    "channel",
    "timers",
    "dispatch",
    "udp",
    "memory",
    "scale",
    "threads",
    "selector",
)


def load(name):
    """The module of the benchmark called `name`."""
    return import_module(f"metalio.bench.{name}")
