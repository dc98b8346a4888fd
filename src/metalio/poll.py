"""Poll: wait for readiness."""

import io
import warnings

import cython
from cython.cimports.cpython.float import PyFloat_AS_DOUBLE
from cython.cimports.libc.math import ceil
from cython.cimports.metalio._sys.user_space import FORKED, OPEN
from cython.cimports.metalio.events import Events
from cython.cimports.metalio.registry import new_registry

from metalio._sys import make_selector

# From here on, three hundred years, a wait is for ever.
_FOR_EVER = cython.declare(cython.double, 9e18)


@cython.final
@cython.cclass
class Poll:
    """Waits until registered sources are ready, and says which.

    Register sources with `registry`, then call `poll` in a loop.  `Poll()` takes the platform's best selector, or the
    one that the environment variable `METALIO_SELECTOR` names, `Poll(selector="poll")` the one of that name;
    `selector_name` tells which it is.  A name that this machine cannot run raises `ValueError`.  `METALIO_WAKER` names
    what wakes it in the same way; `python -m metalio info` shows the names.

    It may be used from any thread.  It owns descriptors: close it, or use it as a context manager.  A `Poll` that a
    child process inherits is unusable there (`RuntimeError`), and does not disturb the parent's.
    """

    def __cinit__(self, *, selector=None):
        self.selector = make_selector(selector)
        self._registry = new_registry(self.selector)

    def __del__(self):
        if self.selector is not None:
            try:
                if not self.done and self.selector.state != FORKED and warnings is not None:
                    warnings.warn(f"unclosed <Poll on {self.selector.name}>", ResourceWarning, 2, source=self)
            finally:
                self.selector.close()

    @property
    def registry(self):
        """Its `Registry`."""
        return self._registry

    @property
    def selector_name(self):
        """The kernel facility in use: `epoll`, `kqueue`, `poll` …"""
        return self.selector.name

    def poll(self, events, timeout=None):
        """Wait until a source is ready or `timeout` seconds have passed; `None` waits for ever, 0 not at all.

        Clears `events`, fills it, and returns how many it stored; 0 after a timeout.  It never returns early without an
        event: after a signal its Python handler runs, and then waiting goes on (PEP 475) unless the handler raises.

        Raises `ValueError` for a timeout that is negative or not a number, and if the poll is closed, also by another
        thread meanwhile; `RuntimeError` in a child process, and if another thread is filling these `events`.

        epoll_wait(2), or epoll_pwait2(2) for a timeout below 100 ms that is not a whole number of milliseconds; longer
        ones are rounded up.  The GIL is released only to sleep.
        """
        return self.selector.select(_events(events), nanoseconds(timeout), False)

    def poll_interruptible(self, events, timeout=None):
        """The same as `poll`, but raises `InterruptedError` once a signal's Python handler has run.

        Python runs handlers in the main thread, so it is never raised in another.  It is also raised after the process
        was stopped and continued.  A handler that runs before the wait begins does not end it; where each signal has to
        be seen, register the other end of `signal.set_wakeup_fd`.
        """
        return self.selector.select(_events(events), nanoseconds(timeout), True)

    def fileno(self):
        """The selector's own descriptor, so that a poll can be registered with another.

        Raises `ValueError` if it is closed, `io.UnsupportedOperation` if the selector (`poll`) has none.
        """
        self.selector.check()
        fd: cython.int = self.selector.descriptor()
        if fd < 0:
            raise io.UnsupportedOperation(f"the selector {self.selector.name!r} has no descriptor")
        self.selector.nest()
        return fd

    @property
    def closed(self):
        """Whether it is closed."""
        return self.selector.state != OPEN

    def close(self):
        """End all registrations, release their tokens and close the descriptors.  May be called again.

        A thread that is waiting in `poll` gets `ValueError`.  Sources stay open, and can be registered elsewhere.
        """
        self.done = True
        self.selector.close()

    def __enter__(self):
        self.selector.check()
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    def __repr__(self):
        state = "" if self.selector.state == OPEN else " closed"
        return f"<Poll on {self.selector.name}{state}>"


@cython.cfunc
@cython.inline
def _events(events) -> Events:
    if not isinstance(events, Events):
        raise TypeError(f"expected Events to fill, not {type(events).__name__}")
    return cython.cast(Events, events)


def nanoseconds(timeout):
    """A timeout that a caller gave, for Selector.select(): -1 is for ever."""
    seconds: cython.double
    if timeout is None:
        return -1
    if isinstance(timeout, float):
        seconds = PyFloat_AS_DOUBLE(timeout)
    else:
        try:
            seconds = timeout
        except OverflowError:
            seconds = 1e300 if timeout > 0 else -1
    if not seconds >= 0:
        raise ValueError(f"a timeout is a number of seconds from 0 on, or None: {timeout!r}")
    nanoseconds: cython.double = ceil(seconds * 1e9)
    return -1 if nanoseconds >= _FOR_EVER else cython.cast(cython.longlong, nanoseconds)
