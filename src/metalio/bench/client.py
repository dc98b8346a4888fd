"""The programs in C that load a server, and the processors on which both run."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager

from metalio.bench.native import build

if sys.platform != "win32":
    import resource

# Those that may be used, by number, on systems that let a process choose.
PROCESSORS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []


def run_client(program, arguments, serve, pinned):
    """Run a program while `serve()` does: its numbers, and the processor time of `serve()` in seconds."""
    command = [build(program), *map(str, arguments)]
    with elsewhere(pinned):
        client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with client:
        try:
            begin = processor_time()
            serve()
            spent = processor_time() - begin
            output, _ = client.communicate()
        finally:
            client.kill()
    if client.returncode:
        raise RuntimeError("the echoes were not what was sent, or not in time")
    return [float(number) for number in output.split()], spent


def processor_time():
    """The seconds that this process spent, and those of its children that have ended."""
    if sys.platform == "win32":
        # There nobody adds up what children spent.
        return time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def prepare(program, pinned):
    """Before a server is begun: where there is no load none is."""
    build(program)
    if pinned:
        pin(0)


def pin(index):
    """Run on one processor from here on, where there is more than one."""
    if len(PROCESSORS) > 1:
        os.sched_setaffinity(0, {PROCESSORS[index]})


@contextmanager
def elsewhere(pinned):
    """What is started in here runs on another processor than a server that is pinned."""
    if not pinned:
        yield
        return
    pin(-1)
    try:
        yield
    finally:
        pin(0)
