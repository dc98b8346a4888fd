"""The standard library's `selectors` on metalio: `MetalSelector`, and asyncio on it."""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING

from metalio.selector_base import SelectorBase

if TYPE_CHECKING:
    from asyncio import SelectorEventLoop
    from collections.abc import Callable

__all__ = ["MetalSelector", "new_event_loop"]


class MetalSelector(SelectorBase, selectors.BaseSelector):
    """A `selectors.BaseSelector`, level-triggered as that interface demands.

    `MetalSelector()` takes the platform's best selector, `MetalSelector("poll")` the one of that name; a name that this
    machine cannot run raises `ValueError`.

    It differs from `selectors.DefaultSelector` in that it is faster; in that a descriptor which was closed without
    being unregistered, and whose number was used again, neither hangs it nor keeps it busy; and in that after a fork
    parent and child have a set each, with the same registrations.

    It owns descriptors: close it, or use it as a context manager.  It may be used from any thread.
    """

    @property
    def fileno(self) -> Callable[[], int]:
        """A method that gives the selector's own descriptor; only where the selector (`epoll`) has one."""
        fileno = self.fileno_if_any()
        if fileno is None:
            raise AttributeError("this selector has no descriptor")
        return fileno


def new_event_loop(selector: str | None = None) -> SelectorEventLoop:
    """A new `asyncio.SelectorEventLoop` on a `MetalSelector`: `asyncio.run(main(), loop_factory=new_event_loop)`.

    `asyncio.run` has `loop_factory` from Python 3.12 on, `asyncio.Runner` from 3.11 on.
    """
    import asyncio

    metal = MetalSelector(selector)
    try:
        return asyncio.SelectorEventLoop(metal)
    except BaseException:
        metal.close()
        raise
