"""Windows: a process by its handle, which the thread pool waits for where it is registered.

The pool's callback posts a completion to the port of the poll, by a handle of the port of its own: so the poll may be
closed before the wait has ended, and the wait may end before anybody polls.  A wait is ended before the handle of its
process is closed, and its memory is freed when the callback has returned, or cannot be called any more.
"""

import errno
import os
import signal
from operator import index

import cython
from cython.cimports.libc.stdint import uint32_t, uintptr_t
from cython.cimports.metalio._sys.bits import READABLE
from cython.cimports.metalio._sys.port_source import PortSource
from cython.cimports.metalio._sys.user_space import Node

from metalio._sys.errors import WINDOWS, os_error

# There is no fork.
INHERITED = True


class Process:
    """A process that stays the same one, whatever becomes of its number.  See `pidfd.Process`."""

    def __init__(self, number):
        if number > 0xFFFFFFFF:
            raise ValueError(f"{number} is not the number of a process")
        process: cython.p_void = cython.NULL
        error: cython.int = open_process(number, cython.address(process))
        if error == ERROR_INVALID_PARAMETER:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        if error:
            raise os_error(WINDOWS + error)
        self.number = number
        self.fd = cython.cast(uintptr_t, process)
        source: ProcessWait = ProcessWait.__new__(ProcessWait)
        source.process = process
        source.node = WaitNode.__new__(WaitNode)
        # What is registered in place of the handle.
        self.source = source

    def status(self):
        """As `ChildExit.status`."""
        process: cython.p_void = cython.cast(cython.p_void, cython.cast(uintptr_t, self.fd))
        code: uint32_t = 0
        if not has_ended(process):
            return None
        error: cython.int = exit_code(process, cython.address(code))
        if error:
            raise os_error(WINDOWS + error)
        return code

    def send_signal(self, number):
        """As `ChildExit.send_signal`."""
        process: cython.p_void = cython.cast(cython.p_void, cython.cast(uintptr_t, self.fd))
        event: cython.bint = number is signal.CTRL_C_EVENT or number is signal.CTRL_BREAK_EVENT
        number = index(number)
        if not event and number not in (0, signal.SIGTERM):
            raise OSError(
                errno.EINVAL,
                "on Windows a process can be sent SIGTERM, CTRL_C_EVENT or CTRL_BREAK_EVENT, no more",
            )
        if has_ended(process):
            raise ProcessLookupError(errno.ESRCH, "that process has ended")
        if event:
            # Its number is its own as long as the handle is open.
            os.kill(self.number, number)
        elif number:
            error: cython.int = terminate(process, 1)
            if error == ERROR_ACCESS_DENIED and has_ended(process):
                raise ProcessLookupError(errno.ESRCH, "that process has ended")
            if error:
                raise os_error(WINDOWS + error)


@cython.final
@cython.cclass
class WaitNode(Node):
    """A process, as its poll sees it."""

    def notice(self):
        return self.mark(READABLE) != cython.NULL


@cython.final
@cython.cclass
class ProcessWait(PortSource):
    """What is registered of a process."""

    def __dealloc__(self):
        if self.wait != cython.NULL:
            end_wait(self.wait)

    def attach(self, selector):
        self.detach()
        if has_ended(self.process):
            return 0
        error: cython.int = 0
        with cython.critical_section(selector.table):
            selector.check()
            error = begin_wait(self.process, selector.port, self.key, cython.address(self.wait))
        if error:
            raise os_error(WINDOWS + error)
        return 0

    def want(self, interest):
        # It may have ended before there was a wait.
        if not self.node.readiness() and has_ended(self.process):
            self.node.set(READABLE)
        return 0

    def detach(self):
        wait: cython.pointer[Wait] = self.wait
        self.wait = cython.NULL
        if wait != cython.NULL:
            end_wait(wait)
        return 0
