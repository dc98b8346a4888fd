"""What Interest and PollOpt have in common: small immutable sets that are written with `|`."""

import cython


@cython.cclass
class BitSet:
    """The base of `Interest` and `PollOpt`.  Not for use by itself.

    A kind of set keeps one object a combination: `|` then allocates nothing, and equal sets are the same object.
    """

    def __init__(self):
        name = type(self).__name__
        raise TypeError(f"cannot make a {name}: combine {name}.{self.names()[0][0]}, … with |")

    def add(self, other):
        """What is in either; the same as `|`.  Raises `TypeError` for a set of another kind."""
        return self.of(self.bits | self.bits_of(other))

    def remove(self, other):
        """What is left without `other`, or `None` if nothing is."""
        bits: cython.int = self.bits & ~self.bits_of(other)
        return self.of(bits) if bits else None

    def __or__(self, other):
        if type(self) is not type(other):
            return NotImplemented
        return self.of(self.bits | cython.cast(BitSet, other).bits)

    def __contains__(self, other):
        bits: cython.int = self.bits_of(other)
        return (self.bits & bits) == bits

    def __eq__(self, other):
        return self.bits == cython.cast(BitSet, other).bits if type(self) is type(other) else NotImplemented

    def __lt__(self, other):
        return self.bits < cython.cast(BitSet, other).bits if type(self) is type(other) else NotImplemented

    def __le__(self, other):
        return self.bits <= cython.cast(BitSet, other).bits if type(self) is type(other) else NotImplemented

    def __gt__(self, other):
        return self.bits > cython.cast(BitSet, other).bits if type(self) is type(other) else NotImplemented

    def __ge__(self, other):
        return self.bits >= cython.cast(BitSet, other).bits if type(self) is type(other) else NotImplemented

    def __hash__(self):
        return hash((type(self).__name__, self.bits))

    def __repr__(self):
        return " | ".join([name for name, bit in self.names() if self.bits & bit])

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def of(self, bits):
        raise NotImplementedError

    def names(self):
        return (("a set", 0),)

    def bits_of(self, other):
        if type(self) is not type(other):
            name = type(self).__name__
            raise TypeError(f"expected {name}s such as {name}.{self.names()[0][0]}, not {type(other).__name__}")
        return cython.cast(BitSet, other).bits
