"""Signals as events on Unix: `metalio.signal.Signals`.

What it does to the process, and why so, stands in docs/signal.md.
"""

import signal
import weakref
from operator import index
from os import register_at_fork

import cython
from cython.cimports.metalio._sys.bell import Bell
from cython.cimports.metalio._sys.bits import READABLE
from cython.cimports.metalio._sys.signals import (
    KEYBOARD_INTERRUPT,
    NOT_PYTHONS,
    NUMBERS,
    PYTHONS,
    Listener,
    add_number,
    drop_listener,
    forget_listeners,
    heard,
    learn,
    new_listener,
    next_pending,
    ring_again,
    take_back,
)
from cython.cimports.metalio.io_source import IoSource
from cython.cimports.posix.unistd import close as close_fd
from cython.cimports.posix.unistd import read

from metalio._sys.errors import os_error

__all__ = ["Signals"]

# The kernel sends these for what the program itself has just done, and to go on after them is to do it again.
_SYNCHRONOUS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)

# Every open one of the process, for the child of a fork.
_open = cython.declare(object, weakref.WeakSet())


@cython.cclass
class Signals(IoSource):
    """A source that is readable when one of these signals has come; `pending()` tells which.

    `numbers` are those of the `signal` module, such as `{signal.SIGINT, signal.SIGTERM}`.  As long as this is open,
    what they would do by default does not happen, and `SIGINT` raises no `KeyboardInterrupt`.  A handler that the
    program has installed before, by `signal.signal`, asyncio's `add_signal_handler` or in C, runs as well.

    Several may be open for the same signal: each hears it.  They may be opened, used and closed in any thread.
    `close()` puts back what was there before, unless somebody has changed it meanwhile.

    A handler that somebody installs later for one of these signals replaces what this depends on: see `reinstall`.

    In the child of a fork it is closed, and what was before is back in place.  Programs that are executed, such as by
    `subprocess`, get each of these signals with its default action.

    sigaction(2).  Raises `ValueError` for what is no signal, for what cannot be caught (`SIGKILL`, `SIGSTOP`), and for
    what an error of the program itself raises (`SIGSEGV`, `SIGBUS`, `SIGFPE`, `SIGILL`); `TypeError`, `OSError`.
    """

    def __cinit__(self, numbers):
        self.bell = -1
        try:
            self.start(numbers)
        except BaseException:
            self.close()
            raise

    def __init__(self, numbers):
        """See the class."""

    def __dealloc__(self):
        # For a subclass whose finaliser forgot this one's; the descriptor itself is the base's to close.
        bell: cython.int = self.silence()
        if bell >= 0 and bell != self.fd:
            close_fd(bell)

    def start(self, numbers):
        self.names = _names(numbers)
        bell: Bell = Bell()
        self.bell = bell.write_fd
        self.adopt(bell.read_fd)
        # From here on they are closed by this object, once no handler writes to them any more.
        bell.read_fd = bell.write_fd = -1
        self.listener = new_listener(self.bell)
        _open.add(self)
        for number in self.names:
            error: cython.int = add_number(self.listener, number, _kind(number))
            if error:
                raise os_error(error)
        return 0

    @property
    def numbers(self):
        """The signals that it hears, as a frozenset."""
        return frozenset(self.names.values())

    def pending(self):
        """An iterator over the signals that have come since they were last asked for, in the order of their numbers.

        Each is given once, however often it came, as a member of `signal.Signals` where it is one, else as an `int`.
        What a loop does not get to, because it is left before, is kept, and reported again by the poll.  Never blocks.
        """
        buffer = cython.declare(cython.char[256])
        with cython.critical_section(self):
            self.require()
            while read(self.fd, buffer, 256) == 256:
                pass
            heard(self.listener)
            self.renew_blocked(READABLE)
        return _pending(self)

    def reinstall(self):
        """Take back the signals whose handlers have been replaced since; which these were, as a frozenset.

        For after what calls `signal.signal` for one of them: asyncio's `add_signal_handler`, and `asyncio.run` in the
        main thread, which does so for `SIGINT`.  A handler of Python's that has replaced this object's runs as well
        from now on, as if it had been there before.  One in C does not.
        """
        found = set()
        with cython.critical_section(self):
            self.require()
            for number, name in self.names.items():
                result: cython.int = take_back(number, _kind(number))
                if result < 0:
                    raise os_error(-result)
                if result:
                    found.add(name)
        return frozenset(found)

    def __repr__(self):
        if self.fd < 0:
            return f"<{type(self).__name__} closed>"
        names = ", ".join(getattr(name, "name", str(name)) for name in self.names.values())
        return f"<{type(self).__name__} {{{names}}} fd={self.fd}>"

    # -- What lies beneath --------------------------------------------------------------------------------------------

    def take(self, number):
        """The next one that is pending, from this number on, or `None`."""
        with cython.critical_section(self):
            if self.listener == cython.NULL:
                return None
            number = next_pending(self.listener, number)
        return number if number else None

    def leave_rest(self):
        with cython.critical_section(self):
            if self.listener != cython.NULL:
                ring_again(self.listener)
        return 0

    def silence(self):
        """Be heard of no more; what is left to close is returned, or -1."""
        bell: cython.int = self.bell
        listener: cython.pointer[Listener] = self.listener
        self.bell = -1
        self.listener = cython.NULL
        if listener != cython.NULL:
            drop_listener(listener)
        return bell

    def close_descriptor(self, fd):
        bell: cython.int = -1
        with cython.critical_section(self):
            bell = self.silence()
        if bell >= 0 and bell != fd:
            close_fd(bell)
        close_fd(fd)
        return 0


def _pending(signals: Signals):
    number: cython.int = 0
    try:
        while True:
            found = signals.take(number + 1)
            if found is None:
                return
            number = found
            yield signals.names[number]
    finally:
        signals.leave_rest()


@cython.cfunc
def _names(numbers) -> dict:
    names: dict = {}
    valid = signal.valid_signals()
    for number in sorted({index(number) for number in numbers}):
        if number not in valid or number >= NUMBERS:
            raise ValueError(f"{number} is not the number of a signal")
        name = _name(number)
        if number in (signal.SIGKILL, signal.SIGSTOP):
            raise ValueError(f"{name.name} cannot be caught")
        if number in _SYNCHRONOUS:
            raise ValueError(f"{name.name} comes from an error of the program itself, and cannot be handled later")
        names[number] = name
    return names


@cython.cfunc
def _name(number):
    try:
        return signal.Signals(number)
    except ValueError:
        # A real-time signal between the first and the last.
        return number


@cython.cfunc
@cython.exceptval(-1)
def _kind(number) -> cython.int:
    handler = signal.getsignal(number)
    if handler is signal.default_int_handler:
        return KEYBOARD_INTERRUPT
    return PYTHONS if callable(handler) else NOT_PYTHONS


def _forget_all():
    # What was there before has to be back before anything else: it may be waited for.
    forget_listeners()
    for signals in list(_open):
        cython.cast(Signals, signals).listener = cython.NULL
        signals.close()


learn(signal.SIGINT, _kind(signal.SIGINT))
register_at_fork(after_in_child=_forget_all)
