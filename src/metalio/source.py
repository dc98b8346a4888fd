"""What can be registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from metalio.interest import Interest
    from metalio.poll_opt import PollOpt
    from metalio.registry import Registry


@runtime_checkable
class Source(Protocol):
    """Anything that knows how to register itself.

    The library's own sockets and pipes are sources, and objects with a `fileno()` are taken as they are.  Implement
    these three methods for a type that wraps a source, so that users can register the wrapper:

        class Connection:
            def register(self, registry, token, interest, opts):
                registry.register(self.stream, token, interest, opts)

            def reregister(self, registry, token, interest, opts):
                registry.reregister(self.stream, token, interest, opts)

            def deregister(self, registry):
                registry.deregister(self.stream)

    Call `registry.register(source, …)`, never these methods themselves.
    """

    def register(self, registry: Registry, token: object, interest: Interest, opts: PollOpt, /) -> None:
        """Register with `registry`, as `Registry.register` was asked to."""

    def reregister(self, registry: Registry, token: object, interest: Interest, opts: PollOpt, /) -> None:
        """Change the registration, as `Registry.reregister` was asked to."""

    def deregister(self, registry: Registry, /) -> None:
        """End the registration, as `Registry.deregister` was asked to."""
