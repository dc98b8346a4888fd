"""macOS and the BSDs: a process by EVFILT_PROC, in a kqueue of its own.

So there is a descriptor, which any selector, and poll(2), can watch, as there is a pidfd on Linux.  The filter belongs
to the process and not to its number, and its event has the exit status in it, also when nobody can wait for the process
any more.

- The event is there to be seen until it is taken.  Whoever asks for the status takes it, so something else that stays
  has to make the descriptor readable before that: an EVFILT_USER filter, or a timer where there is none.
- A process that has ended already is refused (ESRCH) by all but FreeBSD and DragonFly BSD, which report it at once, but
  not all of their releases with its status.  If it is a child it is a zombie, or about to be; that is asked for first.
- The event comes a moment before the process can be waited for.
- A kqueue is not inherited by the child of a fork.
- Sending a signal is looking whether the process has ended and then kill(2).  The number of a child is its own until
  this process has waited for it.
"""

import os
import threading

import cython
from cython.cimports.libc.errno import EACCES, ECHILD, ESRCH, errno
from cython.cimports.metalio._sys.kqueue import (
    EV_ADD,
    EV_ONESHOT,
    EVFILT_TIMER,
    EVFILT_USER,
    MISSING,
    NOTE_TRIGGER,
    await_events,
    fill,
    filter_of,
    kevent,
    make_changes,
    new_kqueue,
)
from cython.cimports.posix.unistd import close

from metalio._sys.errors import os_error

# Whether the child of a fork has the descriptor as well.
INHERITED = False


class Process:
    """A process that stays the same one, whatever becomes of its number.  See `pidfd.Process`."""

    # What is registered in place of the descriptor, where that cannot be polled.
    source = None

    def __init__(self, number):
        if number > 0x7FFFFFFF:
            raise ValueError(f"{number} is not the number of a process")
        self.number = number
        # What waitpid(2) says, once it is known.
        self.known = None
        # Whether something else than the event makes the descriptor readable.
        self.marked = False
        self.child = True
        self.lock = threading.Lock()
        self.fd = new_kqueue()
        if self.fd < 0:
            raise os_error(errno)
        try:
            self.begin()
        except BaseException:
            close(self.fd)
            raise

    def begin(self):
        """Watch it from now on."""
        status: cython.int = 0
        error: cython.int = _watch(self.fd, self.number, NOTE_EXIT | EXIT_STATUS)
        if error == EACCES and EXIT_STATUS:
            error = _watch(self.fd, self.number, NOTE_EXIT)
        if error and error != ESRCH:
            raise os_error(error)
        known: cython.int = ended(self.number, False, cython.address(status))
        if known == 0 and error == ESRCH:
            # Not a zombie yet, but the kernel has let go of it.
            number: cython.int = self.number
            with cython.nogil:
                known = ended(number, True, cython.address(status))
        if known > 0:
            self.known = status
        elif known == -ECHILD:
            self.child = False
        if error == ESRCH:
            if known <= 0:
                _check_existence(self.number)
            self.mark()

    def mark(self):
        """Have the descriptor readable from now on."""
        error: cython.int = _mark(self.fd)
        if error:
            raise os_error(error)
        self.marked = True

    def look(self):
        """Whether it has ended; the lock is held."""
        if self.marked or self.known is not None:
            return True
        if not is_readable(self.fd):
            return False
        # First, so that there is no moment in which it is not readable.
        self.mark()
        found = cython.declare(kevent[2])
        index: cython.int
        for index in range(await_events(self.fd, found, 2, 0)):
            if filter_of(cython.address(found[index])) == EVFILT_PROC:
                self.known = found[index].data & 0xFFFF
            elif filter_of(cython.address(found[index])) == EVFILT_TIMER:
                self.mark()
        return True

    def status(self):
        """As `ChildExit.status`."""
        with self.lock:
            if not self.child:
                raise os_error(ECHILD)
            if not self.look():
                return None
            if self.known is None:
                raise os_error(ECHILD)
            return os.waitstatus_to_exitcode(self.known)

    def send_signal(self, number):
        """As `ChildExit.send_signal`."""
        status: cython.int = 0
        with self.lock:
            over = self.look()
        if not over:
            os.kill(self.number, number)
        elif not self.child or ended(self.number, False, cython.address(status)) < 0:
            # Whose number it is by now, nobody knows.
            raise os_error(ESRCH)


@cython.cfunc
@cython.exceptval(check=False)
def _watch(kq: cython.int, number: cython.int, what: cython.uint) -> cython.int:
    change: kevent
    fill(cython.address(change), number, EVFILT_PROC, EV_ADD, what, 0, 0)
    error: cython.int = make_changes(kq, cython.address(change), 1)
    return error if error else cython.cast(cython.int, change.data)


@cython.cfunc
@cython.exceptval(check=False)
def _mark(kq: cython.int) -> cython.int:
    changes = cython.declare(kevent[2])
    if EVFILT_USER < MISSING:
        fill(changes, 0, EVFILT_USER, EV_ADD, 0, 0, 0)
        fill(changes + 1, 0, EVFILT_USER, 0, NOTE_TRIGGER, 0, 0)
        if make_changes(kq, changes, 2) == 0 and changes[0].data == 0:
            return 0
    # Due after a millisecond, and from then on.
    fill(changes, 0, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, 1, 0)
    error: cython.int = make_changes(kq, changes, 1)
    return error if error else cython.cast(cython.int, changes[0].data)


def _check_existence(number):
    try:
        os.kill(number, 0)
    except PermissionError:
        # A zombie of somebody else's.
        pass
