"""The timing wheel: which timeouts are due, and when the next one will be.

Time is counted in ticks.  A level has a slot for each value of one digit of a tick's number, the lowest digit on level
0, and a slot holds a chain of timeouts.  A timeout is on the level of the highest digit in which its tick differs from
the cursor, which is the tick that the wheel has come to.  From that follows everything else:

- Where a timeout is can be told from its tick and the cursor, so it is found and taken out at once.
- On a level, what is occupied lies ahead of the cursor; what lies on a lower level comes before all that lies on a
  higher one.  So the next timeouts are in the first occupied slot of the lowest occupied level, and bits tell which
  slots are: a tick does not visit what is pending elsewhere, and no empty slot either, however long the wheel stood.
- On level 0 a slot is one tick.  When the cursor enters a slot of a higher level, that slot's timeouts move to lower
  levels, in their order, and where they go is empty.  So those of one tick are always in one chain, in the order in
  which they were scheduled, and a timeout moves at most as many times as there are levels.

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
# How many timeouts to look at to find out which is next, where more time can be had by waking up once in vain.
_GLANCE = cython.declare(cython.Py_ssize_t, 8)

_identities: list = [0]


@cython.final
@cython.cclass
class Wheel:
    """The timeouts of one `Timer`, and its node in a poll.  Times are in nanoseconds."""

    def __cinit__(self, start, tick, slots, capacity):
        bits: cython.int = highest(slots)
        levels: cython.int = (62 + bits) // bits
        index: cython.int
        self.start = start
        self.tick = tick
        # The time of the last tick, and what is added to it on the way, can be told.
        self.limit = (INT64_MAX - self.start) // self.tick - 2
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

    def reserve(self, moment, due):
        """Have a vacant place, whose number is returned, and memory for what schedule() does."""
        if self.count == 0:
            # Nothing hangs on the cursor.  From the present there are fewer levels to go.
            self.cursor = max(self.cursor, (moment - self.start) // self.tick)
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
        entry.number = self.number
        entry.due = due
        if due <= self.cursor:
            self.append(cython.address(self.due), place)
            return self.tell(True)
        self.put(place, due)
        if due < self.next:
            self.next = due
            self.deadline = self.start + due * self.tick
        return 0

    def number_at(self, place):
        """The number of the timeout at a place; 0 if there is none."""
        return self.entries[place].number if place < self.used else 0

    def cancel(self, place):
        """Take out a timeout, whether it is due or not."""
        due: cython.longlong = self.entries[place].due
        if due <= self.cursor:
            self.unlink(cython.address(self.due), place)
            self.vacate(place)
            return self.tell(False)
        level: cython.pointer[Level] = self.levels + self.level_of[highest(due ^ self.cursor)]
        digit: cython.longlong = (due >> level.shift) & self.mask
        slot: cython.pointer[Slot] = level.slots + digit
        self.unlink(cython.address(slot.chain), place)
        self.vacate(place)
        if slot.chain.first == 0:
            self.mark_empty(cython.cast(cython.int, level - self.levels), digit)
        elif due == slot.least and level.shift:
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
        tick: cython.longlong
        while self.occupied:
            number: cython.int = lowest(self.occupied)
            level: cython.pointer[Level] = self.levels + number
            digit: cython.longlong = _first(level)
            tick = ((self.cursor >> level.shift) & ~self.mask | digit) << level.shift
            if tick > target:
                break
            self.cursor = tick
            chain: Chain = level.slots[digit].chain
            level.slots[digit].chain.first = level.slots[digit].chain.last = 0
            self.mark_empty(number, digit)
            if number:
                self.cascade(chain)
                continue
            self.entries[chain.first].before = self.due.last
            if self.due.last:
                self.entries[self.due.last].after = chain.first
            else:
                self.due.first = chain.first
            self.due.last = chain.last
        if self.cursor < target:
            self.cursor = target
        self.settle(_GLANCE)
        return self.due.last != last

    def settle(self, most):
        """Find the next tick at which something is due.

        Where finding out would take looking at more than so many timeouts it may be too early, but never too late.
        """
        self.next = self.deadline = INT64_MAX
        if self.occupied == 0:
            return 0
        number: cython.int = lowest(self.occupied)
        level: cython.pointer[Level] = self.levels + number
        digit: cython.longlong = _first(level)
        slot: cython.pointer[Slot] = level.slots + digit
        if not slot.exact:
            least: cython.longlong = INT64_MAX
            place: cython.uint = slot.chain.first
            while place and most:
                most -= 1
                least = min(least, self.entries[place].due)
                place = self.entries[place].after
            if place == 0:
                slot.least = least
                slot.exact = True
        self.next = slot.least
        self.deadline = self.start + self.next * self.tick
        return 0

    def cascade(self, chain):
        """Move what was in the slot that the cursor has entered."""
        place: cython.uint = chain.first
        while place:
            after: cython.uint = self.entries[place].after
            if self.entries[place].due == self.cursor:
                self.append(cython.address(self.due), place)
            else:
                self.put(place, self.entries[place].due)
            place = after
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
        number: cython.int = self.level_of[highest(due ^ self.cursor)]
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

    def put(self, place, due):
        number: cython.int = self.level_of[highest(due ^ self.cursor)]
        level: cython.pointer[Level] = self.levels + number
        digit: cython.longlong = (due >> level.shift) & self.mask
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
        return self.append(cython.address(slot.chain), place)

    def vacate(self, place):
        self.entries[place].number = 0
        self.entries[place].after = self.vacant
        self.vacant = place
        self.count -= 1
        return 0

    def append(self, chain, place):
        self.entries[place].after = 0
        self.entries[place].before = chain.last
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

    def mark_empty(self, number, digit):
        level: cython.pointer[Level] = self.levels + number
        level.map[digit >> 6] &= ~(cython.cast(uint64_t, 1) << (digit & 63))
        level.occupied -= 1
        if level.occupied == 0:
            self.occupied &= ~(cython.cast(uint64_t, 1) << number)
        return 0


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _first(level: cython.pointer[Level]) -> cython.longlong:
    """The first occupied slot; there is one."""
    word: cython.int = 0
    while level.map[word] == 0:
        word += 1
    return word * 64 + lowest(level.map[word])
