"""The platforms: one file a selector, all of one shape.

- `selector`: what they share, and what each of them brings.
- `epoll`, `kqueue`, `poll`, `afd`: the selectors.
- `table`: who is registered.  `bell`: what wakes a sleeper.  `bits`: the bits of interests, options and events.
- `port_source`, `pipes`: what completions tell of on Windows.
- `pidfd`, `process_filter`, `process_handle`: the end of a process.
- `unix_signals` on `signals`, `console_signals`: `metalio.signal` on Unix and on Windows.
- `sockets`, `datagrams`, `winsock`, `address`: sockets and their addresses.
- `errors`, `clock`, `file_id`, `linux`, `windows`, `native`: small things of the operating system.
- `choice`: what variables of the environment choose.
"""

import os
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import find_spec

from metalio._sys.choice import chosen

_KQUEUE = ("darwin", "ios", "freebsd", "netbsd", "openbsd", "dragonfly")


def _is_compiled(module):
    """Whether a module was compiled: setup.py knows, or asks the compiler, what the platform has."""
    spec = find_spec(f"{__name__}.{module}")
    return spec is not None and isinstance(spec.loader, ExtensionFileLoader)


# Imported beforehand: whoever makes a poll when descriptors have run out is to hear of that, and not of an import.
_CLASSES = {}
if sys.platform.startswith(_KQUEUE) or "METALIO_KQUEUE" in os.environ:
    # The variable is for tests, and for a build that was made with it: there is no other kqueue on Linux.
    from metalio._sys import kqueue

    _CLASSES["kqueue"] = kqueue.KqueueSelector
elif _is_compiled("epoll"):
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


def selector_name():
    """The selector that a new poll takes: the best, or the one that `METALIO_SELECTOR` names."""
    return chosen("METALIO_SELECTOR", selector_names())


def waker_names(selector):
    """What can wake a poll on a selector, the best first."""
    if selector == "afd":
        return ("posted completion",)
    if selector == "kqueue":
        return kqueue.waker_kinds()
    from metalio._sys import bell

    return bell.kinds()


def waker_name(selector):
    """What wakes a new poll on a selector: the best, or what `METALIO_WAKER` names."""
    return chosen("METALIO_WAKER", waker_names(selector))


def make_selector(name=None):
    """A new selector: the one of that name, or the one that is taken without a name."""
    if name is None:
        name = selector_name()
    elif not isinstance(name, str):
        raise TypeError(f"the name of a selector is a string, not {type(name).__name__}")
    elif name not in _CLASSES:
        raise ValueError(f"no selector {name!r} on this machine: there is {', '.join(_CLASSES)}")
    # A name that means nothing is not to pass.
    waker_name(name)
    return _CLASSES[name]()
