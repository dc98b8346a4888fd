"""What a registration wants to hear of."""

import cython
from cython.cimports.metalio._sys.bits import AIO, ANY_INTEREST, LIO, PRIORITY, READABLE, WRITABLE
from cython.cimports.metalio._sys.native import define
from cython.cimports.metalio.bit_set import BitSet

_NAMES = (("READABLE", READABLE), ("WRITABLE", WRITABLE), ("PRIORITY", PRIORITY), ("AIO", AIO), ("LIO", LIO))
_interned: dict = {}


@cython.final
@cython.cclass
class Interest(BitSet):
    """What to be told about a source: a set of `READABLE`, `WRITABLE`, `PRIORITY`, `AIO` and `LIO`.

    Combine them with `|` or `add()`.  A set is never empty.  Interests are immutable, hashable, ordered by their bits,
    and safe to share between threads.

    `PRIORITY` is out-of-band data (`EPOLLPRI`, `POLLPRI`); it does not imply `READABLE`.  `AIO` and `LIO` exist where
    kqueue has `EVFILT_AIO` and `EVFILT_LIO`; registering them elsewhere raises `NotImplementedError`.
    """

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

    def __reduce__(self):
        return _restore, (self.bits,)

    def of(self, bits):
        return interest_of(bits)

    def names(self):
        return _NAMES


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
