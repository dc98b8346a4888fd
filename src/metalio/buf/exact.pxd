cdef object take_foreign(object buf, char *into, Py_ssize_t wanted)
cdef object give_foreign(object buf, const char *data, Py_ssize_t size)
