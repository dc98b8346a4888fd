from metalio.channel.link cimport Link


cdef class SendingEnd:
    cdef object __weakref__
    # Never changes.
    cdef Link link
    cdef bint shut

    cdef int join(self, Link link) except -1


# Send a message, and wait for so many seconds until there is room; for ever, if that is negative.
cdef int deliver(SendingEnd end, object message, double timeout) except -1
# Raises what belongs to an outcome.
cdef int refuse(SendingEnd end, int outcome, object message) except -1
