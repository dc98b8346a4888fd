"""Windows: sources of user space that completions tell of, which come to the port of the poll.

They are the inner halves of public sources: `NamedPipe`, `ChildExit`, `Signals`.
"""

import cython
from cython.cimports.libc.stdint import uintptr_t
from cython.cimports.metalio._sys.afd import AfdSelector
from cython.cimports.metalio.user_source import UserSource

# The keys below are the selector's own.  One is never used again: a completion that comes late is nobody else's.
_next_key = cython.declare(uintptr_t, 16)


@cython.cclass
class PortSource(UserSource):
    """A source of user space with a key of its own at the port."""

    def __cinit__(self):
        self.key = _new_key()

    def enter(self, selector, token, interest, options):
        home: AfdSelector = selector
        home.supports(interest, options, False)
        with cython.critical_section(self):
            self.require()
            if self.entering or (self.record is not None and self.record.live):
                self.refuse_second(selector)
            self.attach(home)
            self.home = home
            home.admit(self.key, self.node)
            try:
                self.want(interest)
                UserSource.enter(self, selector, token, interest, options)
            except BaseException:
                if self.record is None or not self.record.live:
                    self.part()
                raise
        return 0

    def change(self, selector, token, interest, options):
        with cython.critical_section(self):
            self.check_registered(selector)
            selector.supports(interest, options, False)
            UserSource.change(self, selector, token, interest, options)
            self.want(interest)
        return 0

    def leave(self, selector):
        with cython.critical_section(self):
            UserSource.leave(self, selector)
            self.part()
        return 0

    def finish(self):
        return self.part()

    def part(self):
        """Hear of no more completions."""
        home: AfdSelector = self.home
        if home is not None:
            self.detach()
            home.dismiss(self.key)
        return 0

    # -- What subclasses bring ----------------------------------------------------------------------------------------

    def attach(self, selector):
        return 0

    def want(self, interest):
        return 0

    def detach(self):
        return 0


@cython.cfunc
@cython.exceptval(check=False)
def _new_key() -> uintptr_t:
    global _next_key
    with cython.critical_section(_lock):
        _next_key += 1
        return _next_key


_lock = cython.declare(object, object())
