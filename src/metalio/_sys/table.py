"""Who is registered: the records of one poll, by file descriptor.

A record's key and generation travel through the kernel with its events.  A key is used again as soon as a descriptor
number is, a generation is not (it wraps after four billion registrations), so an event that finds another generation
under its key belongs to a registration that is gone.

The table is the lock of its poll as well: whoever reads or changes it holds a critical section on it, which costs
nothing where there is a GIL.  No code that could be the caller's runs inside: tokens are moved out, and released after.
"""

import cython
from cython.cimports.metalio._sys.bits import EDGE, ONESHOT


@cython.final
@cython.freelist(256)
@cython.cclass
class Record:
    """One registration.  Kept by the table, and by the source where that is one of the library's own."""

    def edge(self):
        # A oneshot registration hears of one event whichever way it is triggered.
        return (self.options & (EDGE | ONESHOT)) == EDGE

    def take_token(self):
        # An attribute is released before it is replaced, so a token with a finaliser has to be moved out first.
        token = self.token
        self.token = None
        return token


@cython.final
@cython.cclass
class Table:
    """The records of one poll, at the index that is their file descriptor."""

    def __cinit__(self):
        self.records = []

    def next_generation(self):
        self.generation += 1
        return self.generation

    def at(self, key):
        if key < 0 or key >= len(self.records):
            return None
        return cython.cast(Record, self.records[key])

    def put(self, record):
        """Enter a record; the one whose place it takes is returned, for the caller to release outside the lock."""
        key: cython.Py_ssize_t = record.fd
        missing: cython.Py_ssize_t = key + 1 - len(self.records)
        if missing > 0:
            # Grown by an eighth, since descriptors come one after the other.
            self.records.extend([None] * (missing + (key >> 3)))
        displaced: Record = cython.cast(Record, self.records[key])
        self.records[key] = record
        record.live = True
        if displaced is not None:
            displaced.live = False
            self.departures += 1
        return displaced

    def drop(self, record):
        record.live = False
        self.departures += 1
        if self.at(record.fd) is record:
            self.records[record.fd] = None
        return 0


def new_record(fd, token, interest, options, foreign):
    record: Record = Record.__new__(Record)
    record.fd = fd
    record.token = token
    record.interest = record.armed = interest
    record.options = options
    record.foreign = foreign
    return record
