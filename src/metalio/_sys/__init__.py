"""The platforms: one file a selector, all of one shape.

- `selector`: what they share, and what each of them brings.
- `epoll`, `kqueue`, `poll`: the selectors.
- `table`: who is registered.  `bell`: what wakes a sleeper.  `bits`: the bits of interests, options and events.
- `address`, `errors`, `clock`, `file_id`, `linux`, `native`: small things of the operating system.
"""

import os
import sys

from metalio._sys import bell

_KQUEUE = ("darwin", "ios", "freebsd", "netbsd", "openbsd", "dragonfly")

# Imported beforehand: whoever makes a poll when descriptors have run out is to hear of that, and not of an import.
_CLASSES = {}
if sys.platform.startswith(_KQUEUE) or "METALIO_KQUEUE" in os.environ:
    # The variable is for tests, and for a build that was made with it: there is no other kqueue on Linux.
    from metalio._sys import kqueue

    _CLASSES["kqueue"] = kqueue.KqueueSelector
elif sys.platform in ("linux", "android"):
    from metalio._sys.epoll import EpollSelector

    _CLASSES["epoll"] = EpollSelector
if sys.platform != "win32":
    from metalio._sys.poll import PollSelector

    _CLASSES["poll"] = PollSelector


def selector_names():
    """The names of the selectors that this machine can run, the best one first."""
    return tuple(_CLASSES)


def waker_name():
    """The name of what wakes a poll on the best selector."""
    return kqueue.waker_kind() if "kqueue" in _CLASSES else bell.kind()


def make_selector(name=None):
    """A new selector: the one of that name, or the best."""
    names = selector_names()
    if name is None:
        name = names[0]
    elif not isinstance(name, str):
        raise TypeError(f"the name of a selector is a string, not {type(name).__name__}")
    elif name not in names:
        raise ValueError(f"no selector {name!r} on this machine: there is {', '.join(names)}")
    return _CLASSES[name]()
