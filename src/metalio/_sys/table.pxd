from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from metalio._sys.bits cimport EDGE, ONESHOT


cdef enum:
    NEVER = 0
    ALWAYS = 1
    # If it is a read that stopped at the mark of urgent data, which the selector does not hear of.
    AT_MARK = 2


# As small as it gets, and without methods, for which it would have to carry a pointer: there is one a connection.
cdef class Record:
    cdef object token
    # The descriptor; on Windows what key_of() makes of the handle.
    cdef int fd
    cdef uint32_t generation
    # Where poll(2) has it in its array; or where kqueue has stored its last event.
    cdef int position
    # Which filters of kqueue it has, and how they are triggered.
    cdef unsigned short flags
    cdef unsigned char filters
    cdef unsigned char interest
    cdef unsigned char options
    # What the kernel is still to be asked for: the interest, less what an emulated edge has already reported.
    cdef unsigned char armed
    # From here on 0 or 1.  Whether it is registered.
    cdef unsigned char live
    # A oneshot registration whose one event was delivered.
    cdef unsigned char spent
    # An emulated edge has reported an error or a hang-up, which poll(2) would repeat for ever.
    cdef unsigned char hung
    # Whether the source has to tell the selector of a transfer that would block, or of a short one: one of the below.
    cdef unsigned char renew_short
    cdef unsigned char renew_blocked
    cdef unsigned char foreign


# What the poll cycle has to know of a record, in an array of its own: a few cache lines instead of an object each.
cdef struct Slot:
    # 0 where nobody is registered.
    uint32_t generation
    # What an event has to have in it for the selector to review its record.
    int special
    # Owned by the record, which the list of records owns.
    PyObject *token

# The token that stands there under a key and a generation (borrowed), or NULL if that is stale.
cdef inline PyObject *token_in(Slot *slots, Py_ssize_t size, uint32_t key, uint32_t generation) noexcept:
    return slots[key].token if key < <size_t>size and slots[key].generation == generation else NULL


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


cdef extern from *:
    """
    #ifdef _WIN32
    /* Handles are multiples of four, and not many.  What cannot be one has no key. */
    #define metalio_key(fd) (((fd) & 3) || (fd) > 0x3FFFFFF ? -1 : (fd) >> 2)
    #define metalio_number_of_key(key) ((key) << 2)
    #else
    #define metalio_key(fd) (fd)
    #define metalio_number_of_key(key) (key)
    #endif
    """
    # Where in the table a descriptor is to be found.  On Windows it is that of a handle.
    int key_of "metalio_key"(int fd) noexcept
    # And back; only for what has a key.
    int descriptor_of_key "metalio_number_of_key"(int key) noexcept

cdef Record new_record(int fd, object token, int interest, int options, bint foreign)
# The token of a record, which has none then.
cdef object take_token(Record record)

# Whether it hears of edges.  A oneshot registration hears of one event whichever way it is triggered.
cdef inline bint is_edge(Record record) noexcept:
    return (record.options & (EDGE | ONESHOT)) == EDGE

# Raises for a combination of interest and options that makes no sense.
cdef int check_request(int interest, int options) except -1
