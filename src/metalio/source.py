"""What can be registered."""

from typing import Protocol, runtime_checkable


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

    def register(self, registry, token, interest, opts):
        """Register with `registry`, as `Registry.register` was asked to."""

    def reregister(self, registry, token, interest, opts):
        """Change the registration, as `Registry.reregister` was asked to."""

    def deregister(self, registry):
        """End the registration, as `Registry.deregister` was asked to."""
