from cpython.ref cimport PyObject
from libc.stdint cimport int64_t

from metalio.channel.receiver cimport Receiver
from metalio.event_loop.callbacks cimport Callbacks
from metalio.event_loop.loop_sender cimport LoopSender
from metalio.events cimport Events, EventsIterator
from metalio.poll cimport Poll
from metalio.readiness.registration cimport Registration
from metalio.registry cimport Registry
from metalio.timer.timer cimport Timer


cdef class EventLoop:
    cdef object __weakref__
    cdef Poll poll
    cdef Registry registry
    # What is ready, and how far the turn has come with it.
    cdef Events events
    cdef Py_ssize_t index
    # Keeps the events that `ready` is called with, to be used again; and the one of this moment.
    cdef EventsIterator iterator
    cdef PyObject *current
    cdef Receiver receiver
    # Never given away: so the channel is not disconnected as long as the loop is there.
    cdef LoopSender sender
    cdef Timer timer
    # Made ready by shutdown(), so that a poll that is about to sleep does not.
    cdef Registration bell
    cdef int64_t io_poll_timeout
    cdef Py_ssize_t messages_per_tick
    # Set while a turn is under way; and the thread that makes it.
    cdef int busy
    cdef unsigned long owner
    cdef bint stopping
    # Made, and not closed.
    cdef bint open

    cdef int require(self) except -1
    cdef int require_thread(self) except -1
    cdef int begin(self) except -1
    cdef int end(self) except -1
    # Whether there is to be another one.
    cdef bint turn(self, Callbacks calls, int64_t timeout) except -1
    # The phases of a turn.
    cdef int wait(self, Callbacks calls, int64_t timeout) except -1
    cdef int deliver_events(self, Callbacks calls) except -1
    cdef int deliver_messages(self, Callbacks calls) except -1
    cdef int deliver_timeouts(self, Callbacks calls) except -1
    # A reference to the token is taken over.
    cdef int dispatch(self, object readable, object writable, object token, int ready, bint current) except -1
