"""The end of a process as an event: `ChildExit`."""

import errno
import os
import weakref
from operator import index

import cython
from cython.cimports.metalio._sys.bits import EDGE, EXCLUSIVE, ONESHOT
from cython.cimports.metalio.io_source import IoSource

from metalio._sys import selector_names

if "kqueue" in selector_names():
    from metalio._sys import process_filter as _system
elif "afd" in selector_names():
    from metalio._sys import process_handle as _system
else:
    from metalio._sys import pidfd as _system

__all__ = ["ChildExit"]

# Those that the child of a fork has not.
_alive: weakref.WeakSet = weakref.WeakSet()


@cython.cclass
class ChildExit(IoSource):
    """A source that becomes readable when a process ends.  With edge triggering that is one event.

    `process` is its number, or an object that has it as its `pid`: a `subprocess.Popen`, a `multiprocessing.Process` …
    Most often it is a child of this process; it may be any other as well.  The event comes also if it has ended before.

    Nothing is waited for here: the child stays a zombie until `Popen.wait()`, `Popen.poll()`, `os.waitpid()` or their
    like are called.  After the event `Popen.wait()` and `os.waitpid()` return at once (where there is kqueue, within
    moments: `Popen.poll()` may come too early).  Make this before that happens, or the number may be another process's
    by then.  It goes on standing for the same process, whatever becomes of the number.

    pidfd_open(2), Linux from 5.3 on; `EVFILT_PROC` of kqueue(2), where the child of a fork finds it closed; OpenProcess
    and RegisterWaitForSingleObject on Windows, where a number is a process's as long as anybody has a handle of it.
    Raises `ProcessLookupError` if there is no such process, or it was waited for, `PermissionError` if it may not be
    watched, `NotImplementedError` where the platform has no such thing, `TypeError`, `ValueError`, `OSError`.
    """

    def __cinit__(self, process):
        number = process if isinstance(process, int) else getattr(process, "pid", None)
        if number is None:
            raise TypeError(f"expected the number of a process, or an object with a pid, not {type(process).__name__}")
        self.number = index(number)
        if self.number <= 0:
            raise ValueError(f"{number} is not the number of a process")
        _check_not_waited_for(process)
        self.process = _system.Process(self.number)
        self.inner = self.process.source
        self.adopt(self.process.fd)
        if not _system.INHERITED:
            _alive.add(self)
        try:
            # Also not meanwhile, by another thread.
            _check_not_waited_for(process)
        except BaseException:
            self.close()
            raise

    def __init__(self, process):
        """See the class."""

    def __dealloc__(self):
        # For a subclass whose finaliser forgot this one's; the base would take it for a socket.
        fd: cython.int = self.surrender()
        if fd >= 0:
            close_process(fd)

    @property
    def pid(self):
        """The number of the process."""
        return self.number

    def status(self):
        """How the process has ended: its exit status, or the negative number of a signal; `None` if it has not yet.

        As `Popen.returncode`.  It is left for others to wait for, and can be asked for again.  Raises
        `ChildProcessError` for what is no child of this process; and on Linux for what was waited for before this was
        asked, which kqueue tells all the same.  Windows tells it of any process.

        waitid(2), `P_PIDFD`, `WNOWAIT`; the data of `NOTE_EXIT`; GetExitCodeProcess.
        """
        self.hold()
        try:
            return self.process.status()
        finally:
            self.let_go()

    def send_signal(self, number):
        """Send the process a signal.  It cannot hit another process, even if this one is gone.

        pidfd_send_signal(2); kill(2) where there is none, after a look whether it has ended.  On Windows `SIGTERM` is
        TerminateProcess, `signal.CTRL_C_EVENT` and `signal.CTRL_BREAK_EVENT` go to its process group, and there are no
        others.  Raises `ProcessLookupError` if it is gone, `PermissionError`, `OSError`.
        """
        self.hold()
        try:
            self.process.send_signal(number)
        finally:
            self.let_go()

    def __repr__(self):
        state = " closed" if self.fd < 0 else f" fd={self.fd}"
        return f"<{type(self).__name__} pid={self.number}{state}>"

    # The descriptor must not become another's while it is used without the GIL.

    def hold(self):
        with cython.critical_section(self):
            self.require()
            self.pin()
        return 0

    def let_go(self):
        with cython.critical_section(self):
            self.unpin()
        return 0

    def lose(self):
        """In the child of a fork, which does not have the descriptor; its number may be another's any time."""
        self.fd = -1
        self.record = None
        self.selector = None
        return 0

    def surrender(self):
        # The base asks once more at the very end, when there are no fields any more.
        if self.fd >= 0 and self.inner is not None:
            self.inner.close()
        return IoSource.surrender(self)

    def close_descriptor(self, fd):
        close_process(fd)
        return 0

    # A process ends once; but being waited for is reported as a hang-up, which would be another event.

    def enter(self, selector, token, interest, options):
        if self.inner is None:
            return IoSource.enter(self, selector, token, interest, _once(options))
        self.require()
        return self.inner.enter(selector, token, interest, _once(options))

    def change(self, selector, token, interest, options):
        if self.inner is None:
            return IoSource.change(self, selector, token, interest, _once(options))
        self.require()
        return self.inner.change(selector, token, interest, _once(options))

    def leave(self, selector):
        if self.inner is None:
            return IoSource.leave(self, selector)
        self.require()
        return self.inner.leave(selector)


@cython.cfunc
@cython.exceptval(check=False)
def _once(options: cython.int) -> cython.int:
    return options | ONESHOT if options & EDGE and not options & EXCLUSIVE else options


@cython.cfunc
@cython.exceptval(-1)
def _check_not_waited_for(process) -> cython.int:
    # A Popen knows; then the number may be another process's.
    if getattr(process, "returncode", None) is not None:
        raise ProcessLookupError(errno.ESRCH, "that process has ended, and was waited for")
    return 0


def _lose_all():
    for source in list(_alive):
        cython.cast(ChildExit, source).lose()
    _alive.clear()


if not _system.INHERITED and hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_lose_all)
