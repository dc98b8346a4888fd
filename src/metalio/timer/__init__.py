"""Timers: timeouts that are due at their time, told by a poll, without a thread.

A `Timer` holds as many timeouts as one likes, each with a state of the program's own, and is registered with a `Poll`
like any other source.
"""

from metalio.timer.errors import TimerFull
from metalio.timer.timeout import Timeout
from metalio.timer.timer import Timer

__all__ = ["Timeout", "Timer", "TimerFull"]
