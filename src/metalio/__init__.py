"""Metal I/O for Python: fast, low-level, non-blocking I/O and event notification."""

from metalio._version import __version__
from metalio.event import Event
from metalio.events import Events
from metalio.interest import Interest
from metalio.poll import Poll
from metalio.poll_opt import PollOpt
from metalio.registry import Registry
from metalio.source import Source
from metalio.token import Token
from metalio.waker import Waker

__all__ = [
    "Event",
    "Events",
    "Interest",
    "Poll",
    "PollOpt",
    "Registry",
    "Source",
    "Token",
    "Waker",
    "__version__",
]
