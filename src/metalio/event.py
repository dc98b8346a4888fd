"""One event."""

import cython
from cython.cimports.metalio._sys.bits import (
    AIO,
    FAILED,
    HANGUP,
    LIO,
    PRIORITY,
    READ_CLOSED,
    READABLE,
    WRITABLE,
    WRITE_CLOSED,
)
from cython.cimports.metalio._sys.native import define, member

_NAMES = (
    ("readable", READABLE),
    ("writable", WRITABLE),
    ("priority", PRIORITY),
    ("error", FAILED),
    ("hang-up", HANGUP),
    ("read closed", READ_CLOSED),
    ("write closed", WRITE_CLOSED),
    ("aio", AIO),
    ("lio", LIO),
)


# The free list spares the allocator; an event that nobody keeps goes straight back to it.  What takes no arguments is
# called without looking for any.
@cython.always_allow_keywords(False)
@cython.final
@cython.freelist(64)
@cython.cclass
class Event:
    """What a poll has to say of one source: the `token` of its registration, and what it is ready for.

    An event is a hint: act, and expect that the operation would block all the same.  An event that is kept stays
    valid and unchanged, whatever becomes of the registration.  Events are immutable and may be shared by threads.

    | predicate | epoll | poll(2) | kqueue |
    | --- | --- | --- | --- |
    | `is_readable` | `EPOLLIN` | `POLLIN` | `EVFILT_READ` |
    | `is_writable` | `EPOLLOUT` | `POLLOUT` | `EVFILT_WRITE` |
    | `is_priority` | `EPOLLPRI` | `POLLPRI` | `EVFILT_EXCEPT` with `NOTE_OOB`, where there is one |
    | `is_error` | `EPOLLERR` | `POLLERR` | `EV_ERROR`; `EV_EOF` with `fflags` |
    | `is_read_closed` | `EPOLLHUP` or `EPOLLRDHUP` | `POLLHUP` or `POLLRDHUP` | `EVFILT_READ` with `EV_EOF` |
    | `is_write_closed` | `EPOLLHUP`; `EPOLLERR` with `EPOLLOUT`, or alone | likewise | `EVFILT_WRITE` with `EV_EOF` |
    | `is_aio`, `is_lio` | never | never | `EVFILT_AIO`, `EVFILT_LIO` |

    With kqueue `EV_EOF` with `fflags` is both of a failed connection's directions closed; else each is told only to who
    asked for that direction.
    """

    def __init__(self):
        raise TypeError("cannot make an Event: iterate over the Events that Poll.poll filled")

    def is_readable(self):
        """Whether there is something to read, to accept, or an end of stream to be seen."""
        return (self.ready & READABLE) != 0

    def is_writable(self):
        """Whether there is room to write, or a connection attempt has ended (then see `take_error()`)."""
        return (self.ready & WRITABLE) != 0

    def is_priority(self):
        """Whether out-of-band data is there; asked for by `Interest.PRIORITY`."""
        return (self.ready & PRIORITY) != 0

    def is_error(self):
        """Whether an error is pending: the next operation, or `take_error()`, tells which.  Comes unasked."""
        return (self.ready & FAILED) != 0

    def is_read_closed(self):
        """Whether the reading side is closed: read what is left, until end of stream.

        A peer that closed or shut down its writing side, or an end of a pipe.  A hint: the absence says nothing.
        """
        return (self.ready & (HANGUP | READ_CLOSED)) != 0

    def is_write_closed(self):
        """Whether the writing side is closed: nothing more can be written.  A hint: the absence says nothing."""
        ready: cython.int = self.ready
        return (
            (ready & (HANGUP | WRITE_CLOSED)) != 0
            or (ready & (FAILED | WRITABLE)) == (FAILED | WRITABLE)
            or ready == FAILED
        )

    def is_aio(self):
        """Whether an asynchronous I/O request is done (`EVFILT_AIO`)."""
        return (self.ready & AIO) != 0

    def is_lio(self):
        """Whether a list of asynchronous I/O requests is done (`EVFILT_LIO`)."""
        return (self.ready & LIO) != 0

    def __repr__(self):
        what = ", ".join([name for name, bit in _NAMES if self.ready & bit])
        return f"<Event {self.tag!r}: {what}>"


def new_event(token, ready):
    event: Event = Event.__new__(Event)
    event.tag = token
    event.ready = ready
    return event


_mark = object()
define(
    Event,
    "token",
    member(new_event(_mark, 0), _mark, b"token", b"The very object that was given at registration."),
)
