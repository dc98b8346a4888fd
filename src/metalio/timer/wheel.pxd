from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from metalio._sys.user_space cimport Node

cdef extern from *:
    """
    #if defined(_MSC_VER)
    #include <intrin.h>
    static inline int metalio_lowest(uint64_t bits) {
        unsigned long place;
        _BitScanForward64(&place, bits);
        return (int)place;
    }
    static inline int metalio_highest(uint64_t bits) {
        unsigned long place;
        _BitScanReverse64(&place, bits);
        return (int)place;
    }
    #else
    #define metalio_lowest(bits) __builtin_ctzll(bits)
    #define metalio_highest(bits) (63 - __builtin_clzll(bits))
    #endif
    """
    # The places of the lowest and the highest bit that is set; one is.
    int lowest "metalio_lowest"(uint64_t bits) noexcept nogil
    int highest "metalio_highest"(uint64_t bits) noexcept nogil


# What is known of one timeout.  Those of a chain refer to each other by their places; place 0 is nobody's.
cdef struct Entry:
    # The tick at which it is due.
    int64_t due
    # Different for every timeout that there ever was, or 0 where the place is vacant; and its level, in the last byte.
    uint64_t number
    uint32_t before
    uint32_t after


cdef struct Chain:
    uint32_t first
    uint32_t last


cdef struct Slot:
    Chain chain
    # No entry is due before this tick; and whether one is due then, for certain.
    int64_t least
    bint exact


cdef struct Level:
    # A ring.
    Slot *slots
    # A bit for each slot: whether there is anything.
    uint64_t *map
    int words
    int occupied
    int shift


cdef enum:
    # Instead of a level: in the chain of what is due.
    DUE = 0xFF


cdef class Wheel(Node):
    # In nanoseconds: when the first tick began, how long one is, and the last one that can be told.
    cdef int64_t start
    cdef int64_t tick
    cdef int64_t limit
    # The tick that it has come to, and when that ends.
    cdef int64_t cursor
    cdef int64_t until
    # The next tick at which something may be due.
    cdef int64_t next
    cdef int64_t mask
    # A bit for each level: whether there is anything.
    cdef uint64_t occupied
    cdef Level *levels
    cdef int depth
    # Which level has slots of a length of ticks, by the highest bit of that.
    cdef uint8_t level_of[64]

    cdef Entry *entries
    # Places that were ever used end here, and those that there is memory for.
    cdef uint32_t used
    cdef uint32_t size
    cdef uint32_t vacant
    cdef Chain due
    # Whether the poll was told that something is due.
    cdef bint told
    cdef readonly Py_ssize_t count
    cdef readonly Py_ssize_t capacity
    cdef uint64_t number
    # Different for every wheel.
    cdef uint32_t identity

    # All but expire() want the wheel locked.
    cpdef int64_t due_after(self, int64_t moment, int64_t delay) noexcept
    cdef bint is_full(self) noexcept
    cpdef uint32_t reserve(self, int64_t due) except 0
    cpdef int schedule(self, uint32_t place, int64_t due) except -1
    cpdef uint64_t number_at(self, uint32_t place) noexcept
    cpdef int cancel(self, uint32_t place) except -1
    cpdef uint32_t first_due(self) noexcept
    cpdef int take_due(self) except -1
    cpdef bint advance(self, int64_t moment) noexcept
    cpdef int64_t next_deadline(self) noexcept
    cpdef int empty(self) except -1

    cdef int grow(self) except -1
    cdef int reach(self, int64_t due) except -1
    cdef int level_for(self, int64_t due) noexcept
    cdef int put(self, uint32_t place, int below) noexcept
    cdef int vacate(self, uint32_t place) noexcept
    cdef int append(self, Chain *chain, uint32_t place, int number) noexcept
    cdef int unlink(self, Chain *chain, uint32_t place) noexcept
    cdef int64_t first_tick(self, Level *level) noexcept
    cdef int mark_empty(self, int number, int64_t tick) noexcept
    cdef int enter(self, int number) noexcept
    cdef int prepare(self, Py_ssize_t most) noexcept
    cdef int settle(self, Py_ssize_t most) noexcept
    cdef int tell(self, bint news) except -1
