"""Where a poll stores events."""

import cython
from cython.cimports.cpython.mem import PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cython.cimports.cpython.ref import Py_XDECREF, Py_XINCREF, PyObject
from cython.cimports.metalio._sys.native import Section, lock, prefetch, set_next, take_over, unlock, unshared
from cython.cimports.metalio.event import Event, new_event, swap_tag

# What one batch can hold at the most: the kernel takes an int for the bytes of its array.
_MOST = 1 << 26


@cython.final
@cython.cclass
class Events:
    """Reusable storage for the events of one poll.  `capacity` is how many it holds at the most (1,024 by default).

    `len(events)` is what the last poll stored.  Iteration gives an `Event` each and skips those whose registration has
    ended or changed since; indexing one of them raises `IndexError`.  Iterating allocates nothing as long as no event
    is kept.  What does not fit stays in the kernel for the next poll.

    One poll at a time may fill it (`RuntimeError`); threads that poll at once have their own.
    """

    def __cinit__(self, capacity=1024):
        size: cython.Py_ssize_t = capacity
        if size < 1:
            raise ValueError("the capacity of Events is at least 1")
        if size > _MOST:
            raise ValueError(f"the capacity of Events is at most {_MOST}")
        self.entries = cython.cast(cython.pointer[Ready], PyMem_RawMalloc(size * cython.sizeof(Ready)))
        if self.entries == cython.NULL:
            raise MemoryError
        self.capacity = size

    def __dealloc__(self):
        PyMem_RawFree(self.entries)
        PyMem_RawFree(self.scratch)

    @staticmethod
    def with_capacity(capacity):
        """The same as `Events(capacity)`."""
        return Events(capacity)

    def is_empty(self):
        """Whether the last poll stored nothing."""
        return self.count == 0

    def clear(self):
        """Forget the events.  `Poll.poll` does so by itself."""
        if self.busy:
            raise RuntimeError("these Events are being filled by a poll: give each thread its own")
        self.count = 0

    def __len__(self):
        return self.count

    def __bool__(self):
        return self.count != 0

    def __iter__(self):
        return EventsIterator.__new__(EventsIterator, self)

    def __getitem__(self, index):
        position: cython.Py_ssize_t = index
        if position < 0:
            position += self.count
        if position < 0 or position >= self.count:
            raise IndexError("no such event")
        event = self.event_at(position)
        if event is None:
            raise IndexError("that event is stale: its registration has ended or changed since")
        return event

    def __repr__(self):
        return f"<Events: {self.count} of {self.capacity}>"

    def reserve(self, size):
        if size > self.scratch_size:
            scratch: cython.p_void = PyMem_RawRealloc(self.scratch, size)
            if scratch == cython.NULL:
                raise MemoryError
            self.scratch = scratch
            self.scratch_size = size
        return 0

    def event_at(self, index):
        token: cython.pointer[PyObject] = self.token_at(index)
        return new_event(take_over(token), self.entries[index].ready) if token != cython.NULL else None

    def token_at(self, index):
        """The token of an event, as a reference of the caller's; `NULL` if that is stale."""
        token: cython.pointer[PyObject] = cython.NULL
        section: Section
        # Without a table there are no events.
        lock(cython.address(section), self.table)
        token = self.find(index)
        Py_XINCREF(token)
        unlock(cython.address(section))
        return token

    def is_stale(self, index):
        """Whether the registration has ended or changed since."""
        stale: cython.bint = True
        section: Section
        lock(cython.address(section), self.table)
        stale = self.find(index) == cython.NULL
        unlock(cython.address(section))
        return stale

    def find(self, index):
        entry: cython.pointer[Ready] = cython.address(self.entries[index])
        if (
            entry.key < cython.cast(cython.size_t, self.table.size)
            and self.table.slots[entry.key].generation == entry.generation
        ):
            return self.table.slots[entry.key].token
        return self.table.user_token(entry.key, entry.generation)


@cython.final
@cython.freelist(8)
@cython.cclass
class EventsIterator:
    """Gives an event each.

    An event that nobody kept is used again for the one after the next, when the caller's loop variable has moved on: so
    a loop makes no more than two.
    """

    def __cinit__(self, events: Events):
        self.events = events

    def __iter__(self):
        return self

    def __next__(self):
        event: cython.pointer[PyObject] = self.step()
        if event == cython.NULL:
            raise StopIteration
        return take_over(event)

    def step(self):
        """The next event, as a reference of the caller's; `NULL` after the last."""
        # Attributes of attributes instead of locals: a local would be counted as a reference.
        entry: cython.pointer[Ready]
        token: cython.pointer[PyObject] = cython.NULL
        event: cython.pointer[PyObject] = cython.NULL
        ready: cython.int = 0
        section: Section
        table_section: Section
        lock(cython.address(section), self)
        while token == cython.NULL and self.index < self.events.count:
            entry = cython.address(self.events.entries[self.index])
            ready = entry.ready
            self.index += 1
            lock(cython.address(table_section), self.events.table)
            if (
                entry.key < cython.cast(cython.size_t, self.events.table.size)
                and self.events.table.slots[entry.key].generation == entry.generation
            ):
                token = self.events.table.slots[entry.key].token
                Py_XINCREF(token)
                # The next token is somewhere in memory; it can be fetched while the caller looks at this one.
                entry += self.index < self.events.count
                if entry.key < cython.cast(cython.size_t, self.events.table.size):
                    prefetch(self.events.table.slots[entry.key].token)
            else:
                token = self.events.table.user_token(entry.key, entry.generation)
                Py_XINCREF(token)
            unlock(cython.address(table_section))
        try:
            if token != cython.NULL:
                event = event_of(self, token, ready)
            else:
                # An iterator that somebody keeps is not to keep what it gave.
                self.release()
        finally:
            unlock(cython.address(section))
        return event

    def release(self):
        # Moved out first: releasing may run code.
        last: tuple = (self.one, self.other)
        self.one = self.other = None
        return 0


def event_of(iterator, token, ready):
    """An event with that token; the reference to the token is taken over."""
    place: cython.pointer[PyObject]
    iterator.turn = not iterator.turn
    if iterator.turn:
        place = cython.cast(cython.pointer[PyObject], iterator.one)
    else:
        place = cython.cast(cython.pointer[PyObject], iterator.other)
    if unshared(place):
        cython.cast(Event, place).ready = ready
        swap_tag(cython.cast(Event, place), cython.address(token))
        Py_XINCREF(place)
        # Last, since releasing the token before may run code which comes here again.
        Py_XDECREF(token)
        return place
    event: Event = new_event(cython.cast(object, token), ready)
    Py_XDECREF(token)
    if iterator.turn:
        iterator.one = event
    else:
        iterator.other = event
    place = cython.cast(cython.pointer[PyObject], event)
    Py_XINCREF(place)
    return place


def next_event(iterator):
    return cython.cast(EventsIterator, iterator).step()


# The end of a loop then costs nothing: a __next__ method can only end it by an exception, traceback and all.
set_next(EventsIterator, next_event)
