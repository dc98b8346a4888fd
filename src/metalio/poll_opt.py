"""How a registration is triggered."""

import cython
from cython.cimports.metalio._sys.bits import ANY_OPTION, EDGE, EXCLUSIVE, LEVEL, ONESHOT
from cython.cimports.metalio._sys.native import define

_NAMES = (("EDGE", EDGE), ("LEVEL", LEVEL), ("ONESHOT", ONESHOT), ("EXCLUSIVE", EXCLUSIVE))

# One object a combination, as with Interest.
_interned: dict = {}


@cython.final
@cython.cclass
class PollOpt:
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

    def __init__(self):
        raise TypeError("cannot make a PollOpt: combine PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT … with |")

    def add(self, other):
        """The options of both; the same as `|`.  Raises `TypeError` for what is not a `PollOpt`."""
        return poll_opt_of(self.bits | _bits_of(other))

    def remove(self, other):
        """What is left without `other`, or `None` if nothing is."""
        bits: cython.int = self.bits & ~_bits_of(other)
        return poll_opt_of(bits) if bits else None

    def __or__(self, other):
        if not isinstance(self, PollOpt) or not isinstance(other, PollOpt):
            return NotImplemented
        return poll_opt_of(self.bits | cython.cast(PollOpt, other).bits)

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

    def __contains__(self, other):
        bits: cython.int = _bits_of(other)
        return (self.bits & bits) == bits

    def __eq__(self, other):
        return self.bits == cython.cast(PollOpt, other).bits if isinstance(other, PollOpt) else NotImplemented

    def __hash__(self):
        return hash(("PollOpt", self.bits))

    def __repr__(self):
        return " | ".join([name for name, bit in _NAMES if self.bits & bit])

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return _restore, (self.bits,)


def _bits_of(opts):
    if not isinstance(opts, PollOpt):
        raise TypeError(f"expected a PollOpt such as PollOpt.LEVEL, not {type(opts).__name__}")
    return cython.cast(PollOpt, opts).bits


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
