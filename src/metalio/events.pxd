from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from metalio._sys.table cimport Table
from metalio.event cimport Event


# In the order in which epoll(7) has them on x86-64, where it can then write them itself.
cdef struct Ready:
    int ready
    uint32_t key
    uint32_t generation


cdef class Events:
    cdef Table table
    cdef Ready *entries
    cdef readonly Py_ssize_t capacity
    cdef Py_ssize_t count
    # How many of them the kernel may store this time.
    cdef Py_ssize_t limit
    # Whether the last poll found events: then the next one looks before it sleeps.
    cdef bint hot
    # Whether it took long to get the GIL back after the last sleep.
    cdef bint contended
    # Set while a poll fills this object.
    cdef int busy
    # For the selector: what the kernel writes into.
    cdef void *scratch
    cdef size_t scratch_size
    cdef Py_ssize_t scratch_count
    cdef uint64_t departures

    cdef int reserve(self, size_t size) except -1
    cdef object event_at(self, Py_ssize_t index)
    cdef PyObject *token_at(self, Py_ssize_t index) noexcept
    cdef bint is_stale(self, Py_ssize_t index) noexcept
    # Borrowed; the lock is held.
    cdef PyObject *find(self, Py_ssize_t index) noexcept
    cdef inline int add(self, uint32_t key, uint32_t generation, int ready) noexcept:
        cdef Ready *entry = &self.entries[self.count]
        entry.key = key
        entry.generation = generation
        entry.ready = ready
        self.count += 1
        return 0


cdef class EventsIterator:
    cdef Events events
    cdef Py_ssize_t index
    # The two that were given last, and which of them is next to be used again.
    cdef Event one
    cdef Event other
    cdef bint turn

    cdef PyObject *step(self) except? NULL
    cdef int release(self) except -1

cdef PyObject *event_of(EventsIterator iterator, PyObject *token, int ready) except NULL
cdef PyObject *next_event(PyObject *iterator) except? NULL
