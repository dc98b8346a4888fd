"""What wakes a thread that sleeps in the kernel: an eventfd, or a pipe where there is none.

`METALIO_WAKER=pipe` takes the pipe, so that it is tested on machines that have the better thing.
"""

import os

import cython
from cython.cimports.libc.errno import EAGAIN, EINTR, errno
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.posix.unistd import close, read, write


def kinds():
    """The names of what there is, the best first."""
    return ("eventfd", "pipe") if hasattr(os, "eventfd") else ("pipe",)


def kind():
    """The name of what a new bell takes.  The variable may also name what only some selector has."""
    wanted = os.environ.get("METALIO_WAKER")
    return wanted if wanted in kinds() else kinds()[0]


@cython.final
@cython.cclass
class Bell:
    """A descriptor that becomes readable when it is rung, from any thread."""

    def __cinit__(self):
        self.read_fd = self.write_fd = -1
        if kind() == "eventfd":
            self.read_fd = self.write_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.read_fd, self.write_fd = os.pipe()
            os.set_blocking(self.read_fd, False)
            os.set_blocking(self.write_fd, False)
            self.needs_drain = True

    def __dealloc__(self):
        self.close()

    def ring(self):
        # The same eight bytes suit both: a counter takes nothing shorter, and a pipe does not mind.
        one: uint64_t = 1
        while write(self.write_fd, cython.address(one), 8) < 0:
            if errno == EAGAIN:
                # Full: so it is rung, and whoever is to hear it has not been here yet.
                return 0
            if errno != EINTR:
                return errno
        return 0

    def drain(self):
        buffer = cython.declare(cython.char[256])
        while read(self.read_fd, buffer, 256) == 256:
            pass
        return 0

    def close(self):
        if self.write_fd >= 0 and self.write_fd != self.read_fd:
            close(self.write_fd)
        if self.read_fd >= 0:
            close(self.read_fd)
        self.read_fd = self.write_fd = -1
        return 0
