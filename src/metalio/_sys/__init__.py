"""The platforms: one file a selector, all of one shape.

- `selector`: what they share, and what each of them brings.
- `epoll`, `poll`: the selectors.
- `table`: who is registered.  `bell`: what wakes a sleeper.  `bits`: the bits of interests, options and events.
- `address`, `errors`, `clock`, `file_id`, `linux`, `native`: small things of the operating system.
"""

import importlib
import sys

# The best one first.  A name stands for a module beside this file and the class in it.
_CANDIDATES = {
    "linux": ("epoll", "poll"),
    "android": ("epoll", "poll"),
}
_CLASSES = {"epoll": "EpollSelector", "poll": "PollSelector"}


def selector_names():
    """The names of the selectors that this machine can run, the best one first."""
    return _CANDIDATES.get(sys.platform, ("poll",))


def make_selector(name=None):
    """A new selector: the one of that name, or the best."""
    names = selector_names()
    if name is None:
        name = names[0]
    elif not isinstance(name, str):
        raise TypeError(f"the name of a selector is a string, not {type(name).__name__}")
    elif name not in names:
        raise ValueError(f"no selector {name!r} on this machine: there is {', '.join(names)}")
    return getattr(importlib.import_module(f"metalio._sys.{name}"), _CLASSES[name])()
