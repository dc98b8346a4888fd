"""Waker: wake a poll from elsewhere."""

import cython
from cython.cimports.metalio._sys.bits import EDGE, READABLE
from cython.cimports.metalio._sys.selector import Selector
from cython.cimports.metalio._sys.table import Record, new_record
from cython.cimports.metalio.registry import Registry

from metalio._sys.errors import closed_error


@cython.final
@cython.cclass
class Waker:
    """Wakes a poll: `wake()` makes it report a readable event with the waker's `token`.

    One for each `Poll`; a second raises `RuntimeError`.  Wakes that come before the poll reports one merge into one
    event, and only the first of them costs a system call (a write to an eventfd or a pipe, or a kevent(2) that triggers
    `EVFILT_USER`).  Whatever a thread did before `wake()` is visible to the thread that gets the event.

    `close()`, or dropping it, ends it and makes room for another.  It owns no descriptor.
    """

    def __cinit__(self, registry, token):
        if not isinstance(registry, Registry):
            raise TypeError(f"expected the registry of a Poll, not {type(registry).__name__}")
        selector: Selector = cython.cast(Registry, registry).selector
        record: Record = new_record(selector.wake_key, token, READABLE, EDGE, False)
        selector.attach_waker(record)
        self.selector = selector
        self.record = record

    def __del__(self):
        self.close()

    @cython.always_allow_keywords(False)
    def wake(self):
        """Wake the poll.  From any thread, and from a signal handler.

        Raises `ValueError` if the waker or the poll is closed, `RuntimeError` in a child process, `OSError` if the
        system refuses.
        """
        selector: Selector
        with cython.critical_section(self):
            selector = self.selector
        if selector is None:
            raise closed_error(self)
        selector.check()
        selector.wake()

    @property
    def closed(self):
        """Whether it is closed."""
        return self.selector is None

    def close(self):
        """End it, and drop its token and an event that is on its way.  May be called again."""
        selector: Selector
        record: Record
        with cython.critical_section(self):
            selector = self.selector
            record = self.record
            self.selector = None
            self.record = None
        if selector is not None:
            selector.detach_waker(record)

    def __enter__(self):
        if self.selector is None:
            raise closed_error(self)
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    def __repr__(self):
        return "<Waker closed>" if self.selector is None else f"<Waker of a Poll on {self.selector.name}>"
