"""Where a poll stores events."""

import cython
from cython.cimports.cpython.mem import PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cython.cimports.cpython.ref import Py_DECREF, Py_INCREF, Py_XDECREF, Py_XINCREF, PyObject
from cython.cimports.metalio._sys.native import Section, lock, lock_borrowed, set_next, take_over, unlock, unshared
from cython.cimports.metalio._sys.table import token_in
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
        self.credit = LOOKS

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
        return new_iterator(self)

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
        token: cython.pointer[PyObject] = token_in(self.table.slots, self.table.size, entry.key, entry.generation)
        return token if token != cython.NULL else self.table.user_token(entry.key, entry.generation)


@cython.final
@cython.freelist(8)
@cython.cclass
class EventsIterator:
    """Gives an event each.

    An event that nobody kept is used again for the one after the next, when the caller's loop variable has moved on: so
    a loop makes no more than two.  The same goes for the iterator itself, which the next loop uses again.
    """

    def __iter__(self):
        return self

    def __next__(self):
        event: cython.pointer[PyObject] = next_event(self)
        if event == cython.NULL:
            raise StopIteration
        return take_over(event)

    def advance(self):
        """What next_event() leaves: whatever is not as usual, and the end, which is `NULL`."""
        # Attributes of attributes instead of locals: a local would be counted as a reference.
        token: cython.pointer[PyObject] = cython.NULL
        event: cython.pointer[PyObject] = cython.NULL
        section: Section
        lock(cython.address(section), self)
        try:
            while self.events is not None and event == cython.NULL:
                if self.index >= self.events.count:
                    self.finish()
                    break
                token = self.events.token_at(self.index)
                self.index += 1
                if token != cython.NULL:
                    event = self.give(token, self.events.entries[self.index - 1].ready)
        finally:
            unlock(cython.address(section))
        return event

    def give(self, token, ready):
        """An event with that token, as a reference of the caller's; that to the token is taken over."""
        moved: cython.pointer[PyObject] = cython.NULL
        if not unshared(cython.cast(cython.pointer[PyObject], self.one)):
            try:
                fresh: Event = new_event(None, 0)
            except MemoryError:
                Py_DECREF(cython.cast(object, token))
                raise
            moved = cython.cast(cython.pointer[PyObject], fresh)
            Py_XINCREF(moved)
            swap_one(self, cython.address(moved))
        event: cython.pointer[PyObject] = cython.cast(cython.pointer[PyObject], self.one)
        cython.cast(Event, event).ready = ready
        swap_tag(cython.cast(Event, event), cython.address(token))
        Py_XINCREF(event)
        turn(self)
        # Last, since releasing them may run code which comes here again.
        Py_XDECREF(token)
        Py_XDECREF(moved)
        return event

    def finish(self):
        events: Events = self.events
        self.events = None
        # An iterator that somebody keeps is not to keep what it gave.
        self.release()
        with cython.critical_section(events):
            events.spare = self
        return 0

    def release(self):
        """Let go of the tokens."""
        self.forget()
        turn(self)
        self.forget()
        return 0

    def forget(self):
        """Have an event let go of its token, or let go of the event if somebody keeps that."""
        # Moved out first: releasing may run code.
        moved: cython.pointer[PyObject] = cython.cast(cython.pointer[PyObject], None)
        Py_XINCREF(moved)
        if unshared(cython.cast(cython.pointer[PyObject], self.one)):
            swap_tag(self.one, cython.address(moved))
        else:
            swap_one(self, cython.address(moved))
        Py_XDECREF(moved)
        return 0


def next_event(iterator):
    """The next event, as a reference of the caller's; `NULL` after the last."""
    # A loop comes here for each event, so all of the usual case is here, and calls nothing.
    entry: cython.pointer[Ready]
    event: cython.pointer[PyObject] = cython.NULL
    token: cython.pointer[PyObject] = cython.NULL
    section: Section
    table_section: Section
    lock(cython.address(section), iterator)
    if (
        iterator.events is not None
        and iterator.index < iterator.events.count
        and unshared(cython.cast(cython.pointer[PyObject], iterator.one))
    ):
        entry = iterator.events.entries + iterator.index
        lock_borrowed(cython.address(table_section), cython.cast(cython.pointer[PyObject], iterator.events.table))
        token = token_in(iterator.events.table.slots, iterator.events.table.size, entry.key, entry.generation)
        Py_XINCREF(token)
        unlock(cython.address(table_section))
        if token != cython.NULL:
            event = cython.cast(cython.pointer[PyObject], iterator.one)
            cython.cast(Event, event).ready = entry.ready
            swap_tag(cython.cast(Event, event), cython.address(token))
            Py_INCREF(cython.cast(object, event))
            turn(iterator)
            iterator.index += 1
    unlock(cython.address(section))
    if event == cython.NULL:
        return iterator.advance()
    # Last, since releasing the token before may run code which comes here again.
    Py_DECREF(cython.cast(object, token))
    return event


def new_iterator(events):
    iterator: EventsIterator = None
    section: Section
    lock(cython.address(section), events)
    if unshared(cython.cast(cython.pointer[PyObject], events.spare)):
        iterator = events.spare
        events.spare = None
    unlock(cython.address(section))
    if iterator is None:
        iterator = EventsIterator.__new__(EventsIterator)
    iterator.events = events
    iterator.index = 0
    return iterator


# The end of a loop then costs nothing: a __next__ method can only end it by an exception, traceback and all.
set_next(EventsIterator, cython.cast(cython.p_void, next_event))
