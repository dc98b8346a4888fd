"""Signals as events on Windows: `metalio.signal.Signals`.

Facts.  Ctrl-C and Ctrl-Break come in a thread that the system makes for each; the rest are raised by the process
itself.  The C library calls a handler once, and puts the default action in its place first.  Python's handler installs
itself again while it runs.

Decision.  A handler in C, as on Unix.  It installs itself again before all else, notes the number in each listener's
set, and posts a completion to the port of the poll that the listener is registered with, unless one has been posted
already.  Python's handler it does not call, since that would install itself in its place; it has Python run its own
handlers by `PyErr_SetInterruptEx`, which is made for that, and sets the event that `time.sleep` waits for.  Who
installs and who restores take turns under one lock.

What is left is the C library's own: between its putting the default action there and the handler's first lines, a
second Ctrl-C ends the process, as it does with any handler.

The handler posts by a handle of its own of the port, so the poll may be closed meanwhile; who gives it up waits for the
handlers that may be about to use it.  They take no lock that is held for long, and none of Python's.
"""

import io
import signal
import sys
import threading
import warnings
from operator import index

import cython
from cython.cimports.libc.stdint import uintptr_t
from cython.cimports.metalio._sys.bits import READABLE
from cython.cimports.metalio._sys.port_source import PortSource
from cython.cimports.metalio._sys.user_space import Node

from metalio._sys.errors import WINDOWS, os_error

# abort() ends the process whatever a handler does.
_SYNCHRONOUS = (signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)

# Held by who changes what is listened to.
_lock = threading.RLock()


@cython.final
@cython.cclass
class SignalNode(Node):
    """What is heard, as its poll sees it."""

    def notice(self):
        if self.ear == cython.NULL:
            return False
        if not pending_of(self.ear):
            # It was taken between being noted and ringing: nobody is going to say that this ring was heard.
            heard(self.ear)
        return pending_of(self.ear) and self.mark(READABLE) != cython.NULL


@cython.cclass
class Signals(PortSource):
    """A source that is readable when one of these signals has come; `pending()` tells which.

    `numbers` are those of the `signal` module that Windows has: `SIGINT` (Ctrl-C), `SIGBREAK` (Ctrl-Break), and
    `SIGTERM`, which nobody sends, but the process may raise.  As long as this is open, what they would do by default
    does not happen, and `SIGINT` raises no `KeyboardInterrupt`.  A handler that the program has installed before, by
    `signal.signal` or in C, runs as well.

    Several may be open for the same signal: each hears it.  They may be opened, used and closed in any thread.
    `close()` puts back what was there before, unless somebody has changed it meanwhile.

    A handler that somebody installs later for one of these signals replaces what this depends on: see `reinstall`.

    signal() of the C library.  Raises `ValueError` for what is no signal there, and for what an error of the program
    itself raises (`SIGSEGV`, `SIGFPE`, `SIGILL`, `SIGABRT`); `TypeError`, `OSError`.
    """

    def __cinit__(self, numbers):
        try:
            self.start(numbers)
        except BaseException:
            self.silence()
            raise

    def __init__(self, numbers):
        """See the class."""

    def __dealloc__(self):
        # For a subclass whose finaliser forgot this one's.
        if self.ear != cython.NULL:
            number: cython.int
            for number in range(1, NUMBERS):
                unlisten(self.ear, number, False)
            drop_ear(self.ear)

    def __del__(self):
        if not self.shut and self.ear != cython.NULL:
            try:
                if warnings is not None:
                    warnings.warn(f"unclosed {self!r}", ResourceWarning, 2, source=self)
            finally:
                self.close()

    def start(self, numbers):
        self.names = _names(numbers)
        node: SignalNode = SignalNode.__new__(SignalNode)
        with _lock:
            self.ear = new_ear()
            if self.ear == cython.NULL:
                raise MemoryError
            node.ear = self.ear
            self.node = node
            for number in self.names:
                if listen(self.ear, number, _kind(number)) < 0:
                    raise ValueError(f"{number} cannot be caught")
        return 0

    @property
    def numbers(self):
        """The signals that it hears, as a frozenset."""
        return frozenset(self.names.values())

    def pending(self):
        """An iterator over the signals that have come since they were last asked for, in the order of their numbers.

        Each is given once, however often it came, as a member of `signal.Signals`.  What a loop does not get to,
        because it is left before, is kept, and reported again by the poll.  Never blocks.
        """
        with cython.critical_section(self):
            self.require()
            self.node.set(0)
            heard(self.ear)
        return _pending(self)

    def reinstall(self):
        """Take back the signals whose handlers have been replaced since; which these were, as a frozenset.

        For after what calls `signal.signal` for one of them.  A handler of Python's that has replaced this object's
        runs as well from now on, as if it had been there before.
        """
        found = set()
        with _lock, cython.critical_section(self):
            self.require()
            for number, name in self.names.items():
                if install(number, _kind(number)) > 0:
                    found.add(name)
        return frozenset(found)

    def fileno(self):
        """There is none: raises `io.UnsupportedOperation`, or `ValueError` if it is closed."""
        self.require()
        raise io.UnsupportedOperation("signals have no descriptor on Windows")

    def __repr__(self):
        if self.shut or self.node is None:
            return f"<{type(self).__name__} closed>"
        return f"<{type(self).__name__} {{{', '.join(name.name for name in self.names.values())}}}>"

    # -- What lies beneath --------------------------------------------------------------------------------------------

    def take(self, number):
        """The next one that is pending, from this number on, or `None`."""
        with cython.critical_section(self):
            while self.ear != cython.NULL and number < NUMBERS:
                if take_number(self.ear, number):
                    return number
                number += 1
        return None

    def leave_rest(self):
        with cython.critical_section(self):
            if self.ear != cython.NULL and pending_of(self.ear):
                self.node.set(READABLE)
        return 0

    def attach(self, selector):
        error: cython.int = 0
        with cython.critical_section(selector.table):
            selector.check()
            error = set_port(self.ear, selector.port, self.key)
        if error:
            raise os_error(WINDOWS + error)
        return 0

    def want(self, interest):
        if pending_of(self.ear):
            self.node.set(READABLE)
        return 0

    def detach(self):
        if self.ear != cython.NULL:
            drop_port(self.ear)
        return 0

    def finish(self):
        PortSource.finish(self)
        return self.silence()

    def silence(self):
        """Be heard of no more."""
        ear: cython.pointer[Ear] = self.ear
        self.ear = cython.NULL
        if ear != cython.NULL:
            cython.cast(SignalNode, self.node).ear = cython.NULL
            with _lock:
                for number in self.names:
                    unlisten(ear, number, signal.getsignal(number) == signal.SIG_DFL)
                drop_ear(ear)
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
            raise ValueError(f"{number} is not the number of a signal that Windows has")
        name = signal.Signals(number)
        if number in _SYNCHRONOUS:
            raise ValueError(f"{name.name} comes from an error of the program itself, and cannot be handled later")
        names[number] = name
    return names


@cython.cfunc
@cython.exceptval(-1)
def _kind(number) -> cython.int:
    handler = signal.getsignal(number)
    if handler is signal.default_int_handler:
        return 2
    return 1 if callable(handler) else 0


learn(
    cython.cast(cython.p_void, cython.cast(uintptr_t, getattr(sys, "dllhandle", 0))),
    callable(signal.getsignal(signal.SIGINT)),
)
