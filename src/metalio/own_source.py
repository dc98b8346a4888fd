"""What all of the library's own sources have in common: they know where they are registered."""

from types import MethodDescriptorType

import cython
from cython.cimports.libc.errno import ENOENT
from cython.cimports.metalio._sys.native import define, own_method

from metalio._sys.errors import registration_error


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

    # -- For subclasses -----------------------------------------------------------------------------------------------

    def check_registered(self, selector):
        """Raise unless it is registered there."""
        self.require()
        if self.record is None or not self.record.live:
            raise registration_error(ENOENT)
        if self.selector is not selector:
            raise FileExistsError("this source is registered with another Poll")
        return 0

    def refuse_second(self, selector):
        """Raise, since it is registered already."""
        if self.selector is selector:
            raise FileExistsError("this source is registered already; use reregister() to change it")
        raise FileExistsError("this source is registered with another Poll; deregister it there first")

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


def own_methods(kind):
    """Make the methods that a type inherits from its bases here its own, for calls that take no detour."""
    for base in kind.__mro__[1:-1]:
        for name, inherited in vars(base).items():
            if isinstance(inherited, MethodDescriptorType) and name[0] != "_" and name not in vars(kind):
                define(kind, name, own_method(kind, inherited))
    return 0
