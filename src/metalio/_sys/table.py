"""Who is registered: the records of one poll, by file descriptor.

A record's key and generation travel through the kernel with its events.  A key is used again as soon as a descriptor
number is, a generation is not (it wraps after four billion registrations), so an event that finds another generation
under its key belongs to a registration that is gone.

The table is the lock of its poll as well: whoever reads or changes it holds a critical section on it, which costs
nothing where there is a GIL.  No code that could be the caller's runs inside: tokens are moved out, and released after.
"""

import cython
from cython.cimports.cpython.mem import PyMem_RawFree, PyMem_RawRealloc
from cython.cimports.cpython.ref import PyObject
from cython.cimports.libc.string import memset
from cython.cimports.metalio._sys.bits import EDGE, EXCLUSIVE, LEVEL, ONESHOT, PRIORITY


@cython.final
@cython.freelist(256)
@cython.cclass
class Record:
    """One registration.  Kept by the table, and by the source where that is one of the library's own."""


@cython.final
@cython.cclass
class Table:
    """The records of one poll, at the index that is their file descriptor."""

    def __cinit__(self):
        self.records = []

    def __dealloc__(self):
        PyMem_RawFree(self.slots)

    def next_generation(self):
        self.generation += 1
        if self.generation == 0:
            self.generation = 1
        return self.generation

    def user_token(self, key, generation):
        """The token of an event of user space (borrowed), or `NULL` if that is stale."""
        if not key & USER or self.users is None:
            return cython.NULL
        return token_in(self.users.slots, self.users.size, key & ~USER, generation)

    def at(self, key):
        if key < 0 or key >= self.size:
            return None
        return cython.cast(Record, self.records[key])

    def put(self, record):
        """Enter a record; the one whose place it takes is returned, for the caller to release outside the lock."""
        key: cython.Py_ssize_t = record.fd
        if key >= self.size:
            # By an eighth more, since descriptors come one after the other.
            self.grow(key + 1 + (key >> 3))
        displaced: Record = cython.cast(Record, self.records[key])
        self.records[key] = record
        record.live = True
        self.note(record)
        if displaced is None:
            self.count += 1
        else:
            displaced.live = False
            self.departures += 1
        return displaced

    def note(self, record):
        """Bring a record's slot up to date."""
        slot: cython.pointer[Slot] = cython.address(self.slots[record.fd])
        slot.generation = record.generation
        slot.special = -1 if record.options & ONESHOT else PRIORITY
        slot.token = cython.cast(cython.pointer[PyObject], record.token)
        return 0

    def drop(self, record):
        record.live = False
        self.departures += 1
        if self.at(record.fd) is record:
            self.count -= 1
            self.slots[record.fd].generation = 0
            self.slots[record.fd].token = cython.NULL
            self.records[record.fd] = None
        return 0

    def clear(self):
        """Drop all of them; they are returned, for the caller to release outside the lock."""
        dropped: list = [record for record in self.records if record is not None]
        for entry in dropped:
            self.drop(entry)
        return dropped

    def grow(self, size):
        before: cython.Py_ssize_t = -1
        # Making a list may start a garbage collection, whose finalisers may come here as well.
        while before != self.size:
            before = self.size
            fill: list = [None] * (size - before if size > before else 0)
        if size <= before:
            return 0
        slots: cython.p_void = PyMem_RawRealloc(self.slots, size * cython.sizeof(Slot))
        if slots == cython.NULL:
            raise MemoryError
        self.slots = cython.cast(cython.pointer[Slot], slots)
        memset(self.slots + self.size, 0, (size - self.size) * cython.sizeof(Slot))
        self.records.extend(fill)
        self.size = size
        return 0


def new_record(fd, token, interest, options, foreign):
    record: Record = Record.__new__(Record)
    record.fd = key_of(fd)
    record.token = token
    record.interest = record.armed = interest
    record.options = options
    record.foreign = foreign
    return record


def take_token(record):
    # An attribute is released before it is replaced, so a token with a finaliser has to be moved out first.
    token = record.token
    record.token = None
    return token


def check_request(interest, options):
    if (options & (EDGE | LEVEL)) == (EDGE | LEVEL):
        raise ValueError("EDGE and LEVEL exclude each other")
    if options & EXCLUSIVE:
        if options & ONESHOT:
            raise ValueError("EXCLUSIVE cannot be combined with ONESHOT: it cannot be armed again")
        if interest & PRIORITY:
            raise ValueError("EXCLUSIVE cannot be combined with Interest.PRIORITY")
    return 0
