"""The C programs of the suite: compiled on the spot, gone afterwards."""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from metalio.bench.case import Unavailable

SOURCES = Path(__file__).parent / "native"

# Where the programs are, for the processes that run the contenders.
DIRECTORY = "METALIO_BENCH_NATIVE"


def compiler():
    """The C compiler's path, or `None`."""
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    return next(filter(None, map(shutil.which, names)), None)


@contextmanager
def directory():
    """A place for compiled programs, for this process and those it starts; deleted at the end."""
    before = os.environ.get(DIRECTORY)
    with tempfile.TemporaryDirectory(prefix="metalio-bench-") as name:
        os.environ[DIRECTORY] = name
        try:
            yield
        finally:
            if before is None:
                del os.environ[DIRECTORY]
            else:
                os.environ[DIRECTORY] = before


def build(name):
    """Compile `native/name.c`, unless that is done, and return where it is; `name.so` is a shared library."""
    path = Path(os.environ[DIRECTORY]) / name
    if path.exists():
        return path
    if (cc := compiler()) is None:
        raise Unavailable("no C compiler")
    if sys.platform == "win32":
        raise Unavailable("the programs in C are for Unix")
    command = [cc, "-O2", "-pthread", "-o", str(path), str(SOURCES / name.removesuffix(".so")) + ".c"]
    if name.endswith(".so"):
        command += ["-shared", "-fPIC"]
        if sys.platform == "darwin":
            command += ["-undefined", "dynamic_lookup"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if "error" in line]
        raise Unavailable(f"{name} does not compile here" + (f": {reasons[0]}" if reasons else ""))
    return path


def run(name, *arguments):
    """The least of the numbers that a program prints."""
    return min(lines(name, *arguments))


def lines(name, *arguments):
    """Run a program, which is bounded in time by itself, and return the numbers that it prints."""
    done = subprocess.run([build(name), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return [float(number) for number in done.stdout.split()]
