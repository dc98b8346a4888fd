"""What a registration wants to hear of."""

import cython
from cython.cimports.metalio._sys.bits import AIO, ANY_INTEREST, LIO, PRIORITY, READABLE, WRITABLE
from cython.cimports.metalio._sys.native import define

_NAMES = (("READABLE", READABLE), ("WRITABLE", WRITABLE), ("PRIORITY", PRIORITY), ("AIO", AIO), ("LIO", LIO))

# One object a combination: `|` then allocates nothing, and two equal interests are the same object.
_interned: dict = {}


@cython.final
@cython.cclass
class Interest:
    """What to be told about a source: a set of `READABLE`, `WRITABLE`, `PRIORITY`, `AIO` and `LIO`.

    Combine them with `|` or `add()`.  A set is never empty.  Interests are immutable, hashable, ordered by their bits,
    and safe to share between threads.

    `PRIORITY` is out-of-band data (`EPOLLPRI`, `POLLPRI`); it does not imply `READABLE`.  `AIO` and `LIO` exist where
    kqueue has `EVFILT_AIO` and `EVFILT_LIO`; registering them elsewhere raises `NotImplementedError`.
    """

    def __init__(self):
        raise TypeError("cannot make an Interest: combine Interest.READABLE, Interest.WRITABLE … with |")

    def add(self, other):
        """The interests of both; the same as `|`.  Raises `TypeError` for what is not an `Interest`."""
        return interest_of(self.bits | _bits_of(other))

    def remove(self, other):
        """What is left without `other`, or `None` if nothing is."""
        bits: cython.int = self.bits & ~_bits_of(other)
        return interest_of(bits) if bits else None

    def __or__(self, other):
        if not isinstance(self, Interest) or not isinstance(other, Interest):
            return NotImplemented
        return interest_of(self.bits | cython.cast(Interest, other).bits)

    def is_readable(self):
        """Whether `READABLE` is in it."""
        return (self.bits & READABLE) != 0

    def is_writable(self):
        """Whether `WRITABLE` is in it."""
        return (self.bits & WRITABLE) != 0

    def is_priority(self):
        """Whether `PRIORITY` is in it."""
        return (self.bits & PRIORITY) != 0

    def is_aio(self):
        """Whether `AIO` is in it."""
        return (self.bits & AIO) != 0

    def is_lio(self):
        """Whether `LIO` is in it."""
        return (self.bits & LIO) != 0

    def __contains__(self, other):
        bits: cython.int = _bits_of(other)
        return (self.bits & bits) == bits

    def __eq__(self, other):
        return self.bits == cython.cast(Interest, other).bits if isinstance(other, Interest) else NotImplemented

    def __lt__(self, other):
        return self.bits < cython.cast(Interest, other).bits if isinstance(other, Interest) else NotImplemented

    def __le__(self, other):
        return self.bits <= cython.cast(Interest, other).bits if isinstance(other, Interest) else NotImplemented

    def __gt__(self, other):
        return self.bits > cython.cast(Interest, other).bits if isinstance(other, Interest) else NotImplemented

    def __ge__(self, other):
        return self.bits >= cython.cast(Interest, other).bits if isinstance(other, Interest) else NotImplemented

    def __hash__(self):
        return hash(("Interest", self.bits))

    def __repr__(self):
        return " | ".join([name for name, bit in _NAMES if self.bits & bit])

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return _restore, (self.bits,)


def _bits_of(interest):
    if not isinstance(interest, Interest):
        raise TypeError(f"expected an Interest such as Interest.READABLE, not {type(interest).__name__}")
    return cython.cast(Interest, interest).bits


def _restore(bits):
    if not bits or bits & ~ANY_INTEREST:
        raise ValueError(f"not the bits of an Interest: {bits!r}")
    return interest_of(bits)


def interest_of(bits):
    interest = _interned.get(bits)
    if interest is None:
        made: Interest = Interest.__new__(Interest)
        made.bits = bits
        interest = _interned.setdefault(bits, made)
    return interest


for _name, _bit in _NAMES:
    define(Interest, _name, interest_of(_bit))
