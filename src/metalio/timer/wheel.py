"""The timing wheel: which timeouts are due, and when the next one will be.

Time is counted in ticks, and the cursor is the tick that the wheel has come to.  A level is a ring of slots, and a slot
holds a chain of timeouts.  On level 0 a slot is one tick; on every other level it is as long as half a ring of the
level below.  So a level reaches from the cursor to the end of the next slot of the level above, and a timeout goes on
the lowest level that reaches it.  How long it has to wait, and how many others do, changes nothing in what it costs to
put it in, or to take it out.

Bits tell which slots are occupied, so no tick visits what is pending elsewhere, and no empty slot either, however long
the wheel stood.

**Moving down.**  When the cursor enters a slot of a higher level, what is in there has to be on lower levels, and that
could be a million timeouts at once.  But the level below reaches as far from the moment on in which the slot becomes
the next one.  From then on what is new goes there at once, and what is in the slot already follows little by little,
whenever the wheel is used.

**Order.**  Those of one tick come in the order in which they were scheduled.  A chain keeps that; and where the slot of
a tick still has something on a higher level, what is new is appended there, behind what came before.  What moves down
moves from the front, to the end of a chain below.  So where several levels have something for one tick, the lowest has
what was scheduled first.

What is due is appended to one more chain, from which it is taken.

A wheel knows numbers only.  The states belong to its `Timer`: the poll keeps the wheel alive, but is to keep no state,
which may well refer to the timer.
"""

import cython
from cython.cimports.cpython.mem import PyMem_RawCalloc, PyMem_RawFree, PyMem_RawRealloc
from cython.cimports.libc.stdint import INT64_MAX
from cython.cimports.libc.string import memset
from cython.cimports.metalio._sys.bits import READABLE

# What fits into the number of a place.
_MOST = cython.declare(cython.Py_ssize_t, 0xFFFFFFFE)
_FEWEST = cython.declare(cython.Py_ssize_t, 64)
# How many timeouts to look at to find out which is next, where not knowing takes one waking up in vain.
_GLANCE = cython.declare(cython.Py_ssize_t, 8)
# How many to move beforehand: when a tick has passed, and when one is scheduled, which may have come to be moved too.
_SOME = cython.declare(cython.Py_ssize_t, 64)
_FEW = cython.declare(cython.Py_ssize_t, 2)

_identities: list = [0]


@cython.final
@cython.cclass
class Wheel:
    """The timeouts of one `Timer`, and its node in a poll.  Times are in nanoseconds."""

    def __cinit__(self, start, tick, slots, capacity):
        bits: cython.int = highest(slots) - 1
        levels: cython.int = (62 + bits) // bits
        index: cython.int
        self.start = start
        self.tick = tick
        # The time of the last tick, and what is added to it on the way, can be told.
        self.limit = (INT64_MAX - self.start) // self.tick - 2
        self.until = self.start + self.tick
        self.mask = slots - 1
        self.capacity = min(capacity, _MOST)
        self.next = INT64_MAX
        self.used = 1
        self.timed = True
        for index in range(63):
            self.level_of[index] = index // bits
        self.levels = cython.cast(cython.pointer[Level], PyMem_RawCalloc(levels, cython.sizeof(Level)))
        if self.levels == cython.NULL:
            raise MemoryError
        for index in range(levels):
            self.levels[index].shift = index * bits
            self.levels[index].words = (slots + 63) // 64
        with cython.critical_section(_identities):
            _identities[0] += 1
            self.identity = _identities[0] & 0xFFFFFFFF

    def __dealloc__(self):
        if self.levels != cython.NULL:
            index: cython.int
            for index in range(self.depth):
                PyMem_RawFree(self.levels[index].slots)
                PyMem_RawFree(self.levels[index].map)
        PyMem_RawFree(self.levels)
        PyMem_RawFree(self.entries)

    # -- Timeouts -----------------------------------------------------------------------------------------------------

    def due_after(self, moment, delay):
        """The first tick that begins when the delay has passed, or later."""
        if delay > self.start + self.limit * self.tick - moment:
            return self.limit
        return (moment - self.start + delay + self.tick - 1) // self.tick

    def is_full(self):
        return self.count >= self.capacity

    def reserve(self, due):
        """Have a vacant place, whose number is returned, and memory for what schedule() does."""
        if due > self.cursor:
            self.reach(due)
        if self.vacant:
            return self.vacant
        if self.used >= self.size:
            self.grow()
        return self.used

    def schedule(self, place, due):
        """Take the place that was reserved."""
        entry: cython.pointer[Entry] = self.entries + place
        if place == self.vacant:
            self.vacant = entry.after
        else:
            self.used += 1
        self.count += 1
        self.number += 1
        entry.number = self.number << 8
        entry.due = due
        if due <= self.cursor:
            self.append(cython.address(self.due), place, DUE)
            return self.tell(True)
        if self.occupied > 1:
            self.prepare(_FEW)
        self.put(place, self.depth)
        if due < self.next:
            self.next = due
            self.deadline = self.start + due * self.tick
        return 0

    def number_at(self, place):
        """The number of the timeout at a place; 0 if there is none."""
        return self.entries[place].number >> 8 if place < self.used else 0

    def cancel(self, place):
        """Take out a timeout, whether it is due or not."""
        due: cython.longlong = self.entries[place].due
        number: cython.int = self.entries[place].number & 0xFF
        if number == DUE:
            self.unlink(cython.address(self.due), place)
            self.vacate(place)
            return self.tell(False)
        level: cython.pointer[Level] = self.levels + number
        slot: cython.pointer[Slot] = level.slots + (due >> level.shift & self.mask)
        self.unlink(cython.address(slot.chain), place)
        self.vacate(place)
        if slot.chain.first == 0:
            self.mark_empty(number, due)
        elif due == slot.least and number:
            slot.exact = False
        if due == self.next:
            self.settle(_GLANCE)
        return 0

    def first_due(self):
        """The place of the timeout that is due first; 0 if none is."""
        return self.due.first

    def take_due(self):
        """Take out the timeout that is due first."""
        place: cython.uint = self.due.first
        self.unlink(cython.address(self.due), place)
        self.vacate(place)
        return self.tell(False)

    def next_deadline(self):
        """When the next timeout that is not due yet will be, exactly; `INT64_MAX` if there is none."""
        self.settle(self.count)
        return self.deadline

    def empty(self):
        """Forget all timeouts, and give back the memory."""
        index: cython.int
        for index in range(self.depth):
            PyMem_RawFree(self.levels[index].slots)
            PyMem_RawFree(self.levels[index].map)
            self.levels[index].slots = cython.NULL
            self.levels[index].map = cython.NULL
            self.levels[index].occupied = 0
        PyMem_RawFree(self.entries)
        self.entries = cython.NULL
        self.depth = 0
        self.occupied = 0
        self.used = 1
        self.size = self.vacant = self.due.first = self.due.last = 0
        self.count = 0
        self.next = self.deadline = INT64_MAX
        return self.tell(False)

    # -- Time ---------------------------------------------------------------------------------------------------------

    def expire(self, moment):
        with cython.critical_section(self):
            if self.advance(moment):
                self.tell(True)
        return 0

    def advance(self, moment):
        """Go on to this time; whether anything has become due.  The poll is yet to be told."""
        target: cython.longlong = (moment - self.start) // self.tick
        last: cython.uint = self.due.last
        number: cython.int
        while self.occupied:
            # The next slot to be entered.  Where two begin at once, what is on the lower level was scheduled first.
            levels: uint64_t = self.occupied
            tick: cython.longlong = INT64_MAX
            first: cython.int = 0
            while levels:
                number = lowest(levels)
                levels &= levels - 1
                begin: cython.longlong = self.first_tick(self.levels + number)
                if begin < tick:
                    tick = begin
                    first = number
            if tick > target:
                break
            self.cursor = tick
            self.enter(first)
        if self.cursor < target:
            self.cursor = target
        self.until = self.start + (self.cursor + 1) * self.tick
        self.prepare(_SOME)
        self.settle(_GLANCE)
        return self.due.last != last

    def enter(self, number):
        """The cursor has come to an occupied slot of this level: empty it."""
        slot: cython.pointer[Slot] = self.levels[number].slots + (self.cursor >> self.levels[number].shift & self.mask)
        place: cython.uint = slot.chain.first
        slot.chain.first = slot.chain.last = 0
        self.mark_empty(number, self.cursor)
        while place:
            after: cython.uint = self.entries[place].after
            if self.entries[place].due == self.cursor:
                self.append(cython.address(self.due), place, DUE)
            else:
                self.put(place, number)
            place = after
        return 0

    def prepare(self, most):
        """Move some of what is in the next slots down already."""
        number: cython.int
        levels: uint64_t = self.occupied & ~cython.cast(uint64_t, 1)
        while levels and most:
            number = lowest(levels)
            levels &= levels - 1
            level: cython.pointer[Level] = self.levels + number
            slot: cython.pointer[Slot] = level.slots + ((self.cursor >> level.shift) + 1 & self.mask)
            place: cython.uint = slot.chain.first
            if place == 0:
                continue
            while place and most:
                most -= 1
                self.unlink(cython.address(slot.chain), place)
                slot.exact = False
                self.put(place, number)
                place = slot.chain.first
            if place == 0:
                self.mark_empty(number, (self.cursor >> level.shift) + 1 << level.shift)
        return 0

    def settle(self, most):
        """Find the next tick at which something is due.

        Where finding out would take looking at more than so many timeouts it may be too early, but never too late.
        """
        self.next = INT64_MAX
        levels: uint64_t = self.occupied
        while levels:
            level: cython.pointer[Level] = self.levels + lowest(levels)
            levels &= levels - 1
            slot: cython.pointer[Slot] = level.slots + (self.first_tick(level) >> level.shift & self.mask)
            if not slot.exact and slot.least < self.next:
                least: cython.longlong = INT64_MAX
                left: cython.Py_ssize_t = most
                place: cython.uint = slot.chain.first
                while place and left:
                    left -= 1
                    least = min(least, self.entries[place].due)
                    place = self.entries[place].after
                if place == 0:
                    slot.least = least
                    slot.exact = True
            self.next = min(self.next, slot.least)
        self.deadline = INT64_MAX if self.next == INT64_MAX else self.start + self.next * self.tick
        return 0

    def tell(self, news):
        """Have the poll know whether something is due.  It may be another thread's turn when this returns."""
        if self.due.first:
            if news:
                self.told = True
                self.set(READABLE)
        elif self.told:
            self.told = False
            self.set(0)
        return 0

    # -- Slots --------------------------------------------------------------------------------------------------------

    def level_for(self, due):
        """The lowest level that reaches a tick: up to the end of the next slot of the level above."""
        number: cython.int = self.level_of[highest(due - self.cursor)]
        shift: cython.int = self.levels[number].shift
        return number - 1 if number and (due >> shift) - (self.cursor >> shift) == 1 else number

    def put(self, place, below):
        """Put a timeout where it belongs, on a level below the given one."""
        due: cython.longlong = self.entries[place].due
        number: cython.int = self.level_for(due)
        above: cython.int = number + 1
        while above < below:
            shift: cython.int = self.levels[above].shift
            if (due >> shift) - (self.cursor >> shift) != 1:
                break
            if self.levels[above].slots[due >> shift & self.mask].chain.first:
                number = above
            above += 1
        level: cython.pointer[Level] = self.levels + number
        digit: cython.longlong = due >> level.shift & self.mask
        slot: cython.pointer[Slot] = level.slots + digit
        if slot.chain.first == 0:
            slot.least = due
            slot.exact = True
            level.map[digit >> 6] |= cython.cast(uint64_t, 1) << (digit & 63)
            level.occupied += 1
            self.occupied |= cython.cast(uint64_t, 1) << number
        elif due <= slot.least:
            slot.least = due
            slot.exact = True
        return self.append(cython.address(slot.chain), place, number)

    def first_tick(self, level):
        """Where the first occupied slot of a level begins; there is one."""
        here: cython.longlong = self.cursor >> level.shift
        begin: cython.int = here & self.mask
        word: cython.int = begin >> 6
        bits: uint64_t = level.map[word] >> (begin & 63) << (begin & 63)
        while bits == 0:
            word += 1
            if word == level.words:
                word = 0
            bits = level.map[word]
        return here + (word * 64 + lowest(bits) - begin & self.mask) << level.shift

    def mark_empty(self, number, tick):
        level: cython.pointer[Level] = self.levels + number
        digit: cython.longlong = tick >> level.shift & self.mask
        level.map[digit >> 6] &= ~(cython.cast(uint64_t, 1) << (digit & 63))
        level.occupied -= 1
        if level.occupied == 0:
            self.occupied &= ~(cython.cast(uint64_t, 1) << number)
        return 0

    def append(self, chain, place, number):
        entry: cython.pointer[Entry] = self.entries + place
        entry.number = entry.number & ~cython.cast(uint64_t, 0xFF) | number
        entry.after = 0
        entry.before = chain.last
        if chain.last:
            self.entries[chain.last].after = place
        else:
            chain.first = place
        chain.last = place
        return 0

    def unlink(self, chain, place):
        before: cython.uint = self.entries[place].before
        after: cython.uint = self.entries[place].after
        if before:
            self.entries[before].after = after
        else:
            chain.first = after
        if after:
            self.entries[after].before = before
        else:
            chain.last = before
        return 0

    # -- Places -------------------------------------------------------------------------------------------------------

    def grow(self):
        size: cython.Py_ssize_t = max(2 * cython.cast(cython.Py_ssize_t, self.size), _FEWEST)
        size = min(size, self.capacity + 1)
        entries: cython.p_void = PyMem_RawRealloc(self.entries, size * cython.sizeof(Entry))
        if entries == cython.NULL:
            raise MemoryError
        self.entries = cython.cast(cython.pointer[Entry], entries)
        if self.size == 0:
            memset(entries, 0, cython.sizeof(Entry))
        self.size = cython.cast(cython.uint, size)
        return 0

    def reach(self, due):
        """Have memory for the level of a tick, and for those below it."""
        number: cython.int = self.level_for(due)
        while self.depth <= number:
            level: cython.pointer[Level] = self.levels + self.depth
            slots: cython.p_void = PyMem_RawCalloc(self.mask + 1, cython.sizeof(Slot))
            words: cython.p_void = PyMem_RawCalloc(level.words, 8)
            if slots == cython.NULL or words == cython.NULL:
                PyMem_RawFree(slots)
                PyMem_RawFree(words)
                raise MemoryError
            level.slots = cython.cast(cython.pointer[Slot], slots)
            level.map = cython.cast(cython.pointer[uint64_t], words)
            self.depth += 1
        return 0

    def vacate(self, place):
        self.entries[place].number = 0
        self.entries[place].after = self.vacant
        self.vacant = place
        self.count -= 1
        return 0
