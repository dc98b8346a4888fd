"""ReadHint: why there may be something to read."""

import enum


class ReadHint(enum.Flag):
    """Why `Handler.readable` is called: any of these, and at least one of them.

    Hints, as events are: the absence of `HUP` or `ERROR` says nothing.
    """

    DATA = 1
    """There is something to read, to accept, or an end of stream to be seen (`Event.is_readable`)."""

    HUP = 2
    """The peer will write no more: read what is left, until end of stream (`Event.is_read_closed`)."""

    ERROR = 4
    """An error is pending: the next operation, or `take_error()`, tells which (`Event.is_error`)."""
