from cpython.ref cimport PyObject

from metalio._sys.native cimport Section, lock, unlock
from metalio.channel.link cimport Link
from metalio.channel.sending_end cimport SendingEnd

cdef extern from *:
    """
    static inline int metalio_push(PyObject *list, PyObject *item) {
        Py_ssize_t size = PyList_GET_SIZE(list);
        if (size == ((PyListObject *)list)->allocated) return PyList_Append(list, item);
        Py_INCREF(item);
        PyList_SET_ITEM(list, size, item);
        Py_SET_SIZE((PyVarObject *)list, size + 1);
        return 0;
    }
    static inline PyObject *metalio_pop(PyObject *list) {
        Py_ssize_t size = PyList_GET_SIZE(list) - 1;
        Py_SET_SIZE((PyVarObject *)list, size);
        return PyList_GET_ITEM(list, size);
    }
    #define metalio_size(list) PyList_GET_SIZE(list)
    #define metalio_allocated(list) (((PyListObject *)(list))->allocated)
    """
    # What list.append() and list.pop() do; but a list does not shrink when its last item is taken.  That one is handed
    # out as a reference of the caller's.
    int push "metalio_push"(PyObject *into, PyObject *item) except -1
    PyObject *pop "metalio_pop"(PyObject *from_list) noexcept
    Py_ssize_t size "metalio_size"(PyObject *of) noexcept
    Py_ssize_t allocated "metalio_allocated"(PyObject *of) noexcept
    int reverse "PyList_Reverse"(PyObject *what) except -1


# Beside an Outcome, which is what a waiter is told in the end.
cdef enum:
    WAITING = -1
    ADMITTED = -2


cdef class Waiter:
    cdef SendingEnd end
    cdef int state
    # Locked until there is something to tell.
    cdef object gate


cdef class MessageQueue(Link):
    # Messages in the order in which they came.
    cdef list incoming
    # Older ones, the oldest last.
    cdef list outgoing
    # How many messages there may be, and how many of these places belong to waiters who were admitted.
    cdef Py_ssize_t bound
    cdef Py_ssize_t reserved
    # Those who wait for a place, the first of them first.
    cdef list waiters

    # Add a message; an Outcome.  If it is full a waiter, unless it is None, is put into the line.
    cdef int put(self, SendingEnd end, object message, Waiter waiter) except -1
    cdef int put_waiting(self, SendingEnd end, object message, double timeout) except -1
    # The next message, as a reference of the caller's; or NULL, and then SENT (none for now), SEVERED or CLOSED.
    cdef inline PyObject *take(self, int *outcome) except? NULL:
        # Where this is neither the last one nor waited for, which is the rule in a batch, there is nothing else to do.
        cdef Section section
        cdef PyObject *message = NULL
        lock(&section, self)
        if size(<PyObject *>self.outgoing) > 1 and size(<PyObject *>self.waiters) == 0:
            message = pop(<PyObject *>self.outgoing)
        unlock(&section)
        return message if message != NULL else self.take_last(outcome)

    cdef PyObject *take_last(self, int *outcome) except? NULL
    # The receiver is going; what is left is returned, for the caller to release outside of all locks.
    cdef list sever(self)

    cdef Waiter admit(self)
    cdef int leave(self, Waiter waiter, object message) except -1
    cdef int strike(self, Waiter waiter) except -1
    cdef int dismiss(self, SendingEnd end, int state, list dismissed) except -1
    cdef int exchange(self) except -1
    cdef int drained(self) except -1
    # How many messages there are; the lock is held.
    cdef inline Py_ssize_t count(self) noexcept:
        return size(<PyObject *>self.incoming) + size(<PyObject *>self.outgoing)
    cdef inline Py_ssize_t room(self) noexcept:
        return self.bound - self.reserved - self.count()


cdef MessageQueue new_message_queue(Py_ssize_t bound)
