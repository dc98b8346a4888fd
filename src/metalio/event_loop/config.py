"""EventLoopConfig: what an event loop is made with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EventLoopConfig:
    """Settings of an `EventLoop`, which raises `ValueError` for what makes no sense.  Times are in seconds."""

    io_poll_timeout: float | None = 1.0
    """How long a turn in which nothing happens waits at the most, and so how often `tick` is called at the least.
    `None` or infinity: for ever."""

    notify_capacity: int = 4096
    """How many messages may wait to be delivered; a sender that finds so many there gets `queue.Full`."""

    messages_per_tick: int = 256
    """How many messages are delivered in one turn at the most, so that the rest of the turn is not held up by them."""

    timer_tick: float = 0.1
    """How exact timeouts are: none is delivered earlier than asked for, and each at most so much later."""

    timer_wheel_size: int = 1024
    """How many slots the timer has: see `metalio.timer.Timer`."""

    timer_capacity: int | None = 65_536
    """How many timeouts may be pending; one more raises `TimerFull`.  `None`: any number."""
