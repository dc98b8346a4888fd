"""Readiness from user space: sources that a program makes ready itself, from any thread.

`Registration.new()` gives both halves: a `Registration`, which is registered with a `Poll` like any other source, and a
`SetReadiness`, which says what it is ready for.
"""

from metalio.readiness.registration import Registration
from metalio.readiness.set_readiness import SetReadiness

__all__ = ["Registration", "SetReadiness"]
