from cpython.ref cimport PyObject

from metalio.channel.message_queue cimport MessageQueue
from metalio.user_source cimport UserSource


cdef class Receiver(UserSource):
    # Never changes.
    cdef MessageQueue queue
    # What nobody has received, until it is released.
    cdef list left

    # The next message, as a reference of the caller's, or NULL if there is none for now.
    cdef PyObject *take(self) except? NULL


cdef class Drain:
    cdef Receiver receiver
    cdef bint over

    cdef PyObject *step(self) except? NULL


cdef Receiver new_receiver(Py_ssize_t bound)
cdef PyObject *next_message(Drain drain) except? NULL
