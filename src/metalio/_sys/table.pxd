from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t


cdef class Record:
    cdef object token
    cdef int fd
    cdef uint32_t generation
    cdef int interest
    cdef int options
    # What the kernel is still to be asked for: the interest, less what an emulated edge has already reported.
    cdef int armed
    cdef bint live
    # A oneshot registration whose one event was delivered.
    cdef bint spent
    # An emulated edge has reported an error or a hang-up, which poll(2) would repeat for ever.
    cdef bint hung
    # Whether the source has to tell the selector of a short transfer, or of one that would block.
    cdef bint renew_short
    cdef bint renew_blocked
    cdef bint foreign
    # Where poll(2) has it in its array; or where kqueue has stored its last event.
    cdef Py_ssize_t position
    # Which filters of kqueue it has, and how they are triggered.
    cdef int filters
    cdef int flags
    # Which file it was, where the kernel keeps no account of it.
    cdef uint64_t device
    cdef uint64_t inode

    cdef bint edge(self) noexcept
    cdef object take_token(self)


# What the poll cycle has to know of a record, in an array of its own: a few cache lines instead of an object each.
cdef struct Slot:
    # 0 where nobody is registered.
    uint32_t generation
    # What an event has to have in it for the selector to review its record.
    int special
    # Both owned by the record, which the list of records owns.
    PyObject *token
    PyObject *record


cdef enum:
    # In the key of an event: it is of user space, and the rest is its place among those.
    USER = 1 << 31


cdef class Table:
    cdef list records
    # As long as the list.
    cdef Slot *slots
    cdef Py_ssize_t size
    # How many records there are.
    cdef Py_ssize_t count
    cdef uint32_t generation
    # Counts the registrations that ended or changed: tells a stale event that was already on its way from one that
    # the kernel will go on reporting.
    cdef uint64_t departures
    # The same for the sources of user space, once there are any.
    cdef Table users

    cdef uint32_t next_generation(self) noexcept
    cdef PyObject *user_token(self, uint32_t key, uint32_t generation) noexcept
    cdef int note(self, Record record) noexcept
    cdef Record at(self, Py_ssize_t key)
    cdef Record put(self, Record record)
    cdef int drop(self, Record record) except -1
    cdef list clear(self)
    cdef int grow(self, Py_ssize_t size) except -1


cdef Record new_record(int fd, object token, int interest, int options, bint foreign)

# Raises for a combination of interest and options that makes no sense.
cdef int check_request(int interest, int options) except -1
