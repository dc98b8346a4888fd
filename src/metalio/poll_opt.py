"""How a registration is triggered."""

import cython
from cython.cimports.metalio._sys.bits import ANY_OPTION, EDGE, EXCLUSIVE, LEVEL, ONESHOT
from cython.cimports.metalio._sys.native import define
from cython.cimports.metalio.bit_set import BitSet

_NAMES = (("EDGE", EDGE), ("LEVEL", LEVEL), ("ONESHOT", ONESHOT), ("EXCLUSIVE", EXCLUSIVE))
_interned: dict = {}


@cython.final
@cython.cclass
class PollOpt(BitSet):
    """How events are triggered: a set of `EDGE`, `LEVEL`, `ONESHOT` and `EXCLUSIVE`, combined with `|` or `add()`.

    - `EDGE` (the default of `register()`): one event when a source becomes ready; act until the operation would block.
    - `LEVEL`: an event from every poll while the source is ready.
    - `ONESHOT`: one event disarms the whole registration; `reregister()` arms it again.  With `EDGE` or `LEVEL`, or
      alone.
    - `EXCLUSIVE` (Linux, epoll): of several polls that watch one descriptor, wake only one or some (`EPOLLEXCLUSIVE`).
      Not with `ONESHOT` or `Interest.PRIORITY`.  Name `EDGE` or `LEVEL` beside it; alone it is level-triggered, as in
      the kernel.  Where listeners can be opened several times, `TcpListener.bind(…, reuse_port=True)` spreads the
      connections more evenly.

    Options are immutable, hashable, and safe to share between threads.
    """

    def is_edge(self):
        """Whether `EDGE` is in it."""
        return (self.bits & EDGE) != 0

    def is_level(self):
        """Whether `LEVEL` is in it."""
        return (self.bits & LEVEL) != 0

    def is_oneshot(self):
        """Whether `ONESHOT` is in it."""
        return (self.bits & ONESHOT) != 0

    def is_exclusive(self):
        """Whether `EXCLUSIVE` is in it."""
        return (self.bits & EXCLUSIVE) != 0

    def __reduce__(self):
        return _restore, (self.bits,)

    def of(self, bits):
        return poll_opt_of(bits)

    def names(self):
        return _NAMES


def _restore(bits):
    if not bits or bits & ~ANY_OPTION:
        raise ValueError(f"not the bits of a PollOpt: {bits!r}")
    return poll_opt_of(bits)


def poll_opt_of(bits):
    opts = _interned.get(bits)
    if opts is None:
        made: PollOpt = PollOpt.__new__(PollOpt)
        made.bits = bits
        opts = _interned.setdefault(bits, made)
    return opts


for _name, _bit in _NAMES:
    define(PollOpt, _name, poll_opt_of(_bit))
