"""The platforms: one file a selector, all of one shape.

- `selector`: what they share, and what each of them brings.
- `epoll`, `poll`, `afd`: the selectors.
- `table`: who is registered.  `bell`: what wakes a sleeper.  `bits`: the bits of interests, options and events.
- `sockets`, `datagrams`, `winsock`, `address`: sockets and their addresses.
- `errors`, `clock`, `file_id`, `linux`, `windows`, `native`: small things of the operating system.
"""

import sys

# Imported beforehand: whoever makes a poll when descriptors have run out is to hear of that, and not of an import.
_CLASSES = {}
if sys.platform in ("linux", "android"):
    from metalio._sys.epoll import EpollSelector

    _CLASSES["epoll"] = EpollSelector
if sys.platform != "win32":
    from metalio._sys.poll import PollSelector

    _CLASSES["poll"] = PollSelector
else:
    from metalio._sys.afd import AfdSelector

    _CLASSES["afd"] = AfdSelector


def selector_names():
    """The names of the selectors that this machine can run, the best one first."""
    return tuple(_CLASSES)


def waker_name():
    """What wakes a poll on this machine."""
    if sys.platform == "win32":
        return "posted completion"
    from metalio._sys import bell

    return bell.kind()


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
