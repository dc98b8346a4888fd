"""The end of a process as an event: `ChildExit`."""

import errno
import os
import signal
from operator import index

import cython
from cython.cimports.metalio._sys.bits import EDGE, EXCLUSIVE, ONESHOT
from cython.cimports.metalio.io_source import IoSource

__all__ = ["ChildExit"]


@cython.cclass
class ChildExit(IoSource):
    """A source that becomes readable when a process ends.  With edge triggering that is one event.

    `process` is its number, or an object that has it as its `pid`: a `subprocess.Popen`, a `multiprocessing.Process` …
    Most often it is a child of this process; it may be any other as well.  The event comes also if it has ended before.

    Nothing is waited for here: the child stays a zombie until `Popen.wait()`, `Popen.poll()`, `os.waitpid()` or their
    like are called, which return at once after the event.  Make this before that happens, or the number may be another
    process's by then.  It goes on standing for the same process, whatever becomes of the number.

    pidfd_open(2), Linux from 5.3 on.  Raises `ProcessLookupError` if there is no such process, or it was waited for,
    `NotImplementedError` where the platform has no such thing, `TypeError`, `ValueError`, `OSError`.
    """

    def __cinit__(self, process):
        number = process if isinstance(process, int) else getattr(process, "pid", None)
        if number is None:
            raise TypeError(f"expected the number of a process, or an object with a pid, not {type(process).__name__}")
        self.number = index(number)
        if self.number <= 0:
            raise ValueError(f"{number} is not the number of a process")
        _check_not_waited_for(process)
        self.adopt(_open(self.number))
        try:
            # Also not meanwhile, by another thread.
            _check_not_waited_for(process)
        except BaseException:
            self.close()
            raise

    def __init__(self, process):
        """See the class."""

    @property
    def pid(self):
        """The number of the process."""
        return self.number

    def status(self):
        """How the process has ended: its exit status, or the negative number of a signal; `None` if it has not yet.

        As `Popen.returncode`.  It is left for others to wait for, and can be asked for again.  Raises
        `ChildProcessError` for what is no child of this process, or was waited for before this was asked.

        waitid(2), `P_PIDFD`, `WNOWAIT`.
        """
        with cython.critical_section(self):
            known = self.known
        fd = self.hold()
        try:
            if known is None:
                result = os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if result is not None:
                    known = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        finally:
            self.let_go()
        with cython.critical_section(self):
            self.known = known
        return known

    def send_signal(self, number):
        """Send the process a signal.  It cannot hit another process, even if this one is gone.

        pidfd_send_signal(2).  Raises `ProcessLookupError` if it is, `PermissionError`, `OSError`.
        """
        fd = self.hold()
        try:
            signal.pidfd_send_signal(fd, number)
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
            return self.fd

    def let_go(self):
        with cython.critical_section(self):
            self.unpin()
        return 0

    # A process ends once; but being waited for is reported as a hang-up, which would be another event.

    def enter(self, selector, token, interest, options):
        return IoSource.enter(self, selector, token, interest, _once(options))

    def change(self, selector, token, interest, options):
        return IoSource.change(self, selector, token, interest, _once(options))


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


@cython.cfunc
@cython.exceptval(-1)
def _open(number) -> cython.int:
    if not hasattr(os, "pidfd_open"):
        raise NotImplementedError("ChildExit needs pidfd_open(2), which this platform does not have")
    try:
        return os.pidfd_open(number)
    except OverflowError:
        raise ValueError(f"{number} is not the number of a process") from None
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            # The system call has no such error of its own: it is a sandbox that says EPERM.
            raise NotImplementedError(
                f"ChildExit needs pidfd_open(2), and this kernel is too old, or a sandbox denies it: {error.strerror}"
            ) from None
        raise
