from metalio._sys.sockets cimport iovec
from metalio.io_source cimport IoSource


# How far a transfer has got.
cdef struct Cursor:
    iovec *at
    Py_ssize_t left
    bint short


# Bytes in: an object, None where it would block.
cdef object take(IoSource source, object size)
cdef object take_all(IoSource source)
cdef object take_into(IoSource source, object buffer)
cdef object take_vector(IoSource source, object buffers)
cdef object peek(IoSource source, object size)
cdef object peek_into(IoSource source, object buffer)
# Bytes out: how many, None where it would block.
cdef object give(IoSource source, object data)
cdef object give_vector(IoSource source, object buffers)
# Between a stream and a buffer of metalio.buf, or one that follows its protocols.
cdef object take_buf(IoSource source, object buf)
cdef object give_buf(IoSource source, object buf)
# The result of a failed operation: None where it would block, else an exception.
cdef object refuse(IoSource source, int error, int directions)
cdef extern from "Python.h":
    # Without the check that Cython makes of its own declaration: borrow() looks at the exception itself.
    int get_buffer "PyObject_GetBuffer"(object buffer, Py_buffer *view, int flags) noexcept

# A buffer of a caller's, to be written into or read from.
cdef int borrow(object buffer, Py_buffer *view, bint writable) except -1
