from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from metalio._sys.table cimport Table
from metalio.event cimport Event


# In the order in which epoll(7) has them on x86-64, where it can then write them itself.
cdef struct Ready:
    int ready
    uint32_t key
    uint32_t generation


cdef enum:
    # The credit of a poll whose looks pay off: its events are there by the time it asks for them.
    LOOKS = 8


cdef class Events:
    cdef Table table
    cdef Ready *entries
    cdef readonly Py_ssize_t capacity
    cdef Py_ssize_t count
    # How many of them the kernel may store this time.
    cdef Py_ssize_t limit
    # Whether the last poll found events: then the next one looks before it sleeps, as long as it has credit.
    cdef bint hot
    # How many looks may yet be in vain before polls go to sleep without one.
    cdef int credit
    # Whether it took long to get the GIL back after the last sleep.
    cdef bint contended
    # Set while a poll fills this object.
    cdef int busy
    # For the selector: what the kernel writes into.
    cdef void *scratch
    cdef size_t scratch_size
    cdef Py_ssize_t scratch_count
    cdef uint64_t departures
    # One that came to its end, to be used again.
    cdef EventsIterator spare

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
    # None at the end.
    cdef Events events
    cdef Py_ssize_t index
    # The two that were given last, the older one first: it is the next to be used again.
    cdef Event one
    cdef Event other

    cdef PyObject *advance(self) except? NULL
    cdef PyObject *give(self, PyObject *token, int ready) except NULL
    cdef int finish(self) except -1
    cdef int release(self) except -1
    cdef int forget(self) except -1

cdef PyObject *next_event(EventsIterator iterator) except? NULL
cdef EventsIterator new_iterator(Events events)

cdef extern from *:
    """
    #define metalio_turn(iterator) do { \
        void *before = (iterator)->one; \
        (iterator)->one = (iterator)->other; \
        (iterator)->other = before; \
    } while (0)
    #define metalio_swap_one(iterator, event_pointer) do { \
        PyObject *before = (PyObject *)(iterator)->one; \
        (iterator)->one = (void *)*(event_pointer); \
        *(event_pointer) = before; \
    } while (0)
    """
    # These exchange references without counting them: `one` with `other`, and with another.
    void turn "metalio_turn"(EventsIterator iterator) noexcept
    void swap_one "metalio_swap_one"(EventsIterator iterator, PyObject **event) noexcept
