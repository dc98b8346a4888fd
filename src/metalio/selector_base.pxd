from libc.stdint cimport int64_t

from metalio._sys.selector cimport Selector
from metalio._sys.table cimport Record, Table
from metalio.events cimport Events


cdef class SelectorBase:
    cdef Selector selector
    # By which it was asked for.
    cdef object selector_name
    # What get_map() gives; None once this is closed.
    cdef object map
    # Storage that no select() is using at the moment.
    cdef Events spare
    # By descriptor, the records whose data alone was replaced since the last select(): the kernel has not been asked
    # whether their descriptors are still what was registered.
    cdef dict doubtful

    cdef Selector present(self)
    cdef Selector open(self)
    cdef int revive(self) except -1
    cdef tuple look_up(self, object fileobj)
    cdef int replace(self, Selector selector, Record record, tuple pair) except -1
    cdef int settle_doubts(self, Selector selector) except -1
    cdef int confirm(self, Selector selector, Record record) except -1
    cdef Events take_events(self, Py_ssize_t least)


cdef class KeyMapBase:
    cdef SelectorBase selector


cdef int enter(Selector selector, object key, int interest) except -1
cdef Record find(Selector selector, object fileobj)
cdef Record search(Table table, object fileobj)
cdef tuple pair_of(Selector selector, Record record)
cdef list report(Table table, Events events)
cdef int place(Selector selector, Record record) except -1
cdef int descriptor_of(object fileobj) except -1
cdef int interest_of(object events) except -1
cdef int64_t nanoseconds_of(object timeout) except -2
