"""What metalio's own buffers have in common: streams reach their memory without a `memoryview`."""

import cython
from cython.cimports.cpython.buffer import PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer


@cython.cclass
class BaseBuf:
    """The base of metalio's own buffers.  Not for use by itself."""

    def begin_fill(self, parts):
        raise TypeError(f"a {type(self).__name__} is for reading from it")

    def end_fill(self, count):
        return 0

    def begin_drain(self, parts):
        raise TypeError(f"a {type(self).__name__} is for writing to it")

    def end_drain(self, count):
        return 0


# It refers to nothing but its memory.
@cython.no_gc
@cython.cclass
class Storage(BaseBuf):
    """The base of the buffers that own their memory.  Not for use by itself."""

    def __cinit__(self, capacity):
        size: cython.Py_ssize_t = capacity
        if size < 1:
            raise ValueError("the capacity of a buffer is at least 1 byte")
        memory = bytearray(size)
        # What keeps it where it is, whatever becomes of the views.
        PyObject_GetBuffer(memory, cython.address(self.loan), PyBUF_WRITABLE)
        self.capacity = size
        self.writable = memoryview(memory)
        self.readable = self.writable.toreadonly()

    def __dealloc__(self):
        PyBuffer_Release(cython.address(self.loan))


def within(count, remaining):
    size: cython.Py_ssize_t = clipped(count)
    if size < 0:
        raise ValueError(f"cannot go back: {count} bytes")
    if size > remaining:
        raise ValueError(f"cannot go on by {count} bytes: {remaining} remain")
    return size


def refuse_busy(buf):
    raise RuntimeError(f"another thread's transfer with this {type(buf).__name__} is under way")
