"""SliceBuf and MutSliceBuf: the memory of another object as a buffer."""

import cython
from cython.cimports.cpython.buffer import (
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_IsContiguous,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cython.cimports.cpython.memoryview import PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from cython.cimports.metalio.base_buf import BaseBuf, refuse_busy, within


def wrap(data):
    """A `SliceBuf` of any bytes-like object."""
    return SliceBuf(data)


def wrap_mut(data):
    """A `MutSliceBuf` of any writable bytes-like object, such as a `bytearray`."""
    return MutSliceBuf(data)


@cython.cclass
class Slice(BaseBuf):
    """The base of `SliceBuf` and `MutSliceBuf`.  Not for use by itself."""

    def __cinit__(self, data):
        view = PyMemoryView_FromObject(data)
        buffer: cython.pointer[Py_buffer] = PyMemoryView_GET_BUFFER(view)
        if not PyBuffer_IsContiguous(buffer, b"C"):
            raise BufferError("the bytes have to lie in one piece")
        self.size = buffer.len
        self.readonly = buffer.readonly
        if buffer.ndim != 1 or buffer.itemsize != 1 or (buffer.format != cython.NULL and buffer.format[0] != b"B"):
            # No shape without bytes can be cast.
            view = view.cast("B") if buffer.len else memoryview(b"" if self.readonly else bytearray())
        self.view = view

    def remaining(self):
        """How many bytes are behind the position."""
        return self.size - self.at

    def has_remaining(self):
        """Whether any byte is behind the position."""
        return self.at < self.size

    def advance(self, count):
        """Go on by so many bytes.  Raises `ValueError`, and stays where it is, if there are not as many."""
        with cython.critical_section(self):
            if self.busy:
                refuse_busy(self)
            self.at += within(count, self.size - self.at)

    def lend(self, parts, flags):
        """What is left, for a transfer that take_back() ends."""
        with cython.critical_section(self):
            if self.busy:
                refuse_busy(self)
            PyObject_GetBuffer(self.view, cython.address(self.loan), flags)
            self.busy = True
            parts[0].iov_base = cython.cast(cython.p_char, self.loan.buf) + self.at
            parts[0].iov_len = self.size - self.at
            parts[1].iov_len = 0
            return self.size - self.at

    def take_back(self, count):
        with cython.critical_section(self):
            PyBuffer_Release(cython.address(self.loan))
            self.at += count
            self.busy = False
        return 0


@cython.final
@cython.cclass
class SliceBuf(Slice):
    """A `Buf` of the bytes of another object, which are not copied.  The same as `wrap(data)`.

    As long as it lives a `bytearray` cannot change its size.  Raises `TypeError` for what has no bytes, `BufferError`
    if they do not lie in one piece.
    """

    def __cinit__(self, data):
        if not self.readonly:
            self.view = self.view.toreadonly()

    def bytes(self):
        """What is left, as a read-only `memoryview`."""
        with cython.critical_section(self):
            return self.view[self.at :]

    def begin_drain(self, parts):
        return self.lend(parts, PyBUF_SIMPLE)

    def end_drain(self, count):
        return self.take_back(count)

    def __repr__(self):
        return f"<SliceBuf: {self.size - self.at} to read of {self.size}>"


@cython.final
@cython.cclass
class MutSliceBuf(Slice):
    """A `MutBuf` of the memory of another object, which is written to directly.  The same as `wrap_mut(data)`.

    As long as it lives a `bytearray` cannot change its size.  Raises `TypeError` for what has no bytes or is read-only,
    `BufferError` if they do not lie in one piece.
    """

    def __cinit__(self, data):
        if self.readonly:
            raise TypeError(f"expected writable bytes such as a bytearray, not {type(data).__name__}")

    def mut_bytes(self):
        """The room that is left, as a writable `memoryview`: write here, then `advance`."""
        with cython.critical_section(self):
            return self.view[self.at :]

    def begin_fill(self, parts):
        return self.lend(parts, PyBUF_WRITABLE)

    def end_fill(self, count):
        return self.take_back(count)

    def __repr__(self):
        return f"<MutSliceBuf: room for {self.size - self.at} of {self.size}>"
