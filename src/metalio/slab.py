"""Slab: values by small numbers, which are handed out and used again."""

from types import GenericAlias

import cython
from cython.cimports.cpython.long import PyLong_Check
from cython.cimports.cpython.mem import PyMem_RawFree, PyMem_RawRealloc

from metalio.token import Token

__all__ = ["Slab", "SlabFull", "VacantEntry"]

# Numbers for more than any memory holds, and their sums with `start` stay numbers.
_MOST = cython.declare(cython.Py_ssize_t, PY_SSIZE_T_MAX // 2)


class SlabFull(Exception):
    """There is no room for another value in a `Slab`."""


@cython.final
@cython.cclass
class Slab:
    """Values, each under a `Token` that the slab hands out: for connections, and whatever a poll reports by number.

    Tokens are the numbers from `start` on, and those of values that were removed are handed out again, the last one
    first.  So they stay small, and a token that was kept after its value was removed may name another one.

    `capacity` is how many values it takes at the most, `None` for as many as there is memory for.  `len(slab)` is how
    many there are.  Everything is O(1); memory, some 60 bytes a value, is kept for the next values.

    `slab[token]` reads and replaces, `token in slab` asks.  A token is an `int` of any kind; what is not one that the
    slab has handed out raises `KeyError`.

    `for token, value in slab` goes through the values in the order of their tokens.  The slab may change meanwhile:
    what is removed before its turn does not come, and what is inserted comes if its token was in use before.

    It is safe to use from several threads.
    """

    def __cinit__(self, capacity=None, start=0):
        first: cython.Py_ssize_t = start
        most: cython.Py_ssize_t = _MOST
        if first < 0:
            raise ValueError("the numbers of tokens start at 0 or above")
        if capacity is not None:
            most = capacity
            if most < 1:
                raise ValueError("the capacity of a Slab is at least 1")
        if first > _MOST or (capacity is not None and most > _MOST - first):
            raise ValueError(f"the numbers of tokens end at {_MOST}")
        self.values = []
        self.tokens = []
        self.vacant = NONE
        self.start = first
        self.limit = most if most <= _MOST - first else _MOST - first
        self._capacity = None if capacity is None else most

    def __dealloc__(self):
        PyMem_RawFree(self.links)

    __class_getitem__ = classmethod(GenericAlias)

    @property
    def capacity(self):
        """How many values it takes at the most; `None`: there is no limit."""
        return self._capacity

    @property
    def remaining(self):
        """How many more values it takes.  Vacant entries that are held count as taken."""
        return self.limit - self.taken - self.reserved

    def is_empty(self):
        """Whether there is no value."""
        return self.taken == 0

    def insert(self, value):
        """Put a value in; its `Token`.  Raises `SlabFull`."""
        slot: cython.Py_ssize_t
        with cython.critical_section(self):
            slot = self.reserve()
            self.reserved -= 1
            self.taken += 1
            self.links[slot] = TAKEN
            self.values[slot] = value
            return self.tokens[slot]

    def insert_with(self, make):
        """Put in what `make(token)` returns; its `Token`.

        For a value that has to know its token.  `make` may use the slab, in which this token has no value yet.  If it
        raises nothing is inserted.  Raises `SlabFull`, before `make` is called.
        """
        entry: VacantEntry = self.vacant_entry()
        return entry.insert(make(entry._token))

    def vacant_entry(self):
        """A place for a value, whose token is known before the value is there.  Raises `SlabFull`.

        The place is kept for as long as the entry is held, whatever happens to the slab meanwhile.
        """
        entry: VacantEntry = VacantEntry.__new__(VacantEntry, self)
        return entry

    def remove(self, token):
        """Take a value out, which is returned.  Its token may be handed out again.  Raises `KeyError`."""
        slot: cython.Py_ssize_t
        with cython.critical_section(self):
            slot = self.find(token)
            if slot >= 0:
                value = self.values[slot]
                self.values[slot] = None
                self.taken -= 1
                self.links[slot] = self.vacant
                self.vacant = slot
                return value
        raise KeyError(token)

    def get(self, token, default=None):
        """The value of a token, or `default`."""
        slot: cython.Py_ssize_t
        with cython.critical_section(self):
            slot = self.find(token)
            return self.values[slot] if slot >= 0 else default

    def __getitem__(self, token):
        slot: cython.Py_ssize_t
        with cython.critical_section(self):
            slot = self.find(token)
            if slot >= 0:
                return self.values[slot]
        raise KeyError(token)

    def __setitem__(self, token, value):
        slot: cython.Py_ssize_t
        # Released after the lock is.
        before: object = None
        with cython.critical_section(self):
            slot = self.find(token)
            if slot >= 0:
                before = self.values[slot]
                self.values[slot] = value
        if slot < 0:
            raise KeyError(token)

    def __contains__(self, token):
        with cython.critical_section(self):
            return self.find(token) >= 0

    def __len__(self):
        return self.taken

    def __iter__(self):
        size: cython.Py_ssize_t = self.size
        slot: cython.Py_ssize_t
        found: tuple
        for slot in range(size):
            found = None
            with cython.critical_section(self):
                if self.links[slot] == TAKEN:
                    found = (self.tokens[slot], self.values[slot])
            if found is not None:
                yield found

    def __repr__(self):
        return f"<Slab: {self.taken}>" if self._capacity is None else f"<Slab: {self.taken} of {self._capacity}>"

    # -- Under the lock -----------------------------------------------------------------------------------------------

    def find(self, token):
        """The slot of a value; -1 if there is none."""
        if not PyLong_Check(token):
            return -1
        # Below `start` it wraps around, to more than any slot.
        slot: cython.size_t = cython.cast(cython.size_t, number_of(token)) - cython.cast(cython.size_t, self.start)
        if slot < cython.cast(cython.size_t, self.size) and self.links[slot] == TAKEN:
            return slot
        return -1

    def reserve(self):
        while self.vacant == NONE:
            if self.size >= self.limit:
                raise SlabFull(f"this slab is full: it holds {self.limit} values")
            self.grow()
        slot: cython.Py_ssize_t = self.vacant
        self.vacant = self.links[slot]
        self.links[slot] = RESERVED
        self.reserved += 1
        return slot

    def give_back(self, slot):
        self.reserved -= 1
        self.links[slot] = self.vacant
        self.vacant = slot
        return 0

    def grow(self):
        """Another slot."""
        slot: cython.Py_ssize_t = self.size
        token = new_token(Token, self.start + slot)
        if self.size != slot:
            # Making it had the garbage collected, and a finaliser made use of this slab.
            return 0
        if slot == self.room:
            room: cython.Py_ssize_t = 8 + slot + slot // 2
            links = cython.cast(
                cython.pointer[cython.Py_ssize_t],
                PyMem_RawRealloc(self.links, room * cython.sizeof(cython.Py_ssize_t)),
            )
            if links == cython.NULL:
                raise MemoryError
            self.links = links
            self.room = room
        # Where there is no memory for the second, there is a value too many, which does no harm.
        self.values.append(None)
        self.tokens.append(token)
        self.links[slot] = self.vacant
        self.vacant = slot
        self.size += 1
        return 0


# Every cycle that it is in goes through the slab, which can be cleared instead: so there is a slab until the end.
@cython.final
@cython.no_gc_clear
@cython.cclass
class VacantEntry:
    """A place in a `Slab` that is kept for a value.  Made by `Slab.vacant_entry()`.

    Dropping it without `insert` gives the place back.
    """

    def __cinit__(self, slab: Slab):
        with cython.critical_section(slab):
            self.slot = slab.reserve()
            self._token = slab.tokens[self.slot]
        # Last: what has no slab has nothing to give back.
        self.slab = slab

    def __del__(self):
        slab: Slab = self.slab
        if slab is None:
            return
        with cython.critical_section(slab):
            if not self.used:
                self.used = True
                slab.give_back(self.slot)

    @property
    def token(self):
        """The `Token` that the value will have."""
        return self._token

    def insert(self, value):
        """Put the value in; its `Token`.  Raises `RuntimeError` if that was done before."""
        slab: Slab = self.slab
        with cython.critical_section(slab):
            if self.used:
                raise RuntimeError("this entry has its value: ask the slab for another one")
            self.used = True
            slab.reserved -= 1
            slab.taken += 1
            slab.links[self.slot] = TAKEN
            slab.values[self.slot] = value
        return self._token

    def __repr__(self):
        return f"<VacantEntry: {self._token!r}{' used' if self.used else ''}>"
