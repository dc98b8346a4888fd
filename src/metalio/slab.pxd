# What `links` says of a slot: the next vacant one, -1 for none; or one of these.
cdef enum:
    NONE = -1
    TAKEN = -2
    RESERVED = -3


cdef class Slab:
    # One each for every slot: its value, its token, its link.
    cdef list values
    cdef list tokens
    cdef Py_ssize_t *links
    cdef Py_ssize_t size
    cdef Py_ssize_t room
    # The first vacant slot, to be taken next.
    cdef Py_ssize_t vacant
    cdef Py_ssize_t taken
    cdef Py_ssize_t reserved
    cdef Py_ssize_t limit
    cdef Py_ssize_t start
    cdef object _capacity

    cdef Py_ssize_t find(self, object token) except -2
    cdef Py_ssize_t reserve(self) except -1
    cdef int give_back(self, Py_ssize_t slot) noexcept
    cdef int grow(self) except -1


cdef class VacantEntry:
    cdef Slab slab
    cdef Py_ssize_t slot
    cdef object _token
    cdef bint used


cdef extern from *:
    """
    /* An int of any size, without running code: -1 for what no slot can have. */
    static inline Py_ssize_t metalio_number(PyObject *token) {
        int overflow = 0;
        long long number = PyLong_AsLongLongAndOverflow(token, &overflow);
        return overflow || number < 0 || number > PY_SSIZE_T_MAX ? -1 : (Py_ssize_t)number;
    }

    /* Token(number), without the detour of a call. */
    static inline PyObject *metalio_new_token(PyObject *type, Py_ssize_t number) {
        PyObject *arguments = PyTuple_New(1);
        PyObject *value = arguments ? PyLong_FromSsize_t(number) : NULL;
        PyObject *token = NULL;
        if (value) {
            PyTuple_SET_ITEM(arguments, 0, value);
            token = PyLong_Type.tp_new((PyTypeObject *)type, arguments, NULL);
        }
        Py_XDECREF(arguments);
        return token;
    }
    """
    Py_ssize_t number_of "metalio_number"(object token) noexcept
    object new_token "metalio_new_token"(object type, Py_ssize_t number)
    const Py_ssize_t PY_SSIZE_T_MAX
