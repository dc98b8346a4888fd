"""What all of the library's own sources have in common: they know where they are registered."""

import cython


@cython.cclass
class OwnSource:
    """The base of metalio's own sources.  Not for use by itself."""

    def __enter__(self):
        with cython.critical_section(self):
            self.require()
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    # The three methods of metalio.Source.

    def register(self, registry, token, interest, opts):
        """For `Registry.register`, which is what to call."""
        registry._register(self, token, interest, opts)

    def reregister(self, registry, token, interest, opts):
        """For `Registry.reregister`, which is what to call."""
        registry._reregister(self, token, interest, opts)

    def deregister(self, registry):
        """For `Registry.deregister`, which is what to call."""
        registry._deregister(self)

    # -- What subclasses bring ----------------------------------------------------------------------------------------

    def require(self):
        """Raise if it is closed."""
        return 0

    def enter(self, selector, token, interest, options):
        """Register; the arguments are checked."""
        raise NotImplementedError

    def change(self, selector, token, interest, options):
        """Reregister."""
        raise NotImplementedError

    def leave(self, selector):
        """Deregister."""
        raise NotImplementedError
