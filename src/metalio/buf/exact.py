"""Moving all or nothing between buffers and other memory."""

import cython
from cython.cimports.cpython.buffer import PyBuffer_Release
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.libc.string import memmove
from cython.cimports.metalio._sys.sockets import iovec
from cython.cimports.metalio.base_buf import BaseBuf, clipped
from cython.cimports.metalio.transfer import borrow


def read_exact(buf, size):
    """The next `size` bytes of a `Buf` or a `RingBuf`, which goes on by as many.

    Raises `EOFError` if there are less, and then takes none of them; `ValueError` for a negative size.
    """
    parts = cython.declare(iovec[2])
    result: bytes
    wanted: cython.Py_ssize_t = clipped(size)
    if wanted < 0:
        raise ValueError("cannot read a negative number of bytes")
    if not isinstance(buf, BaseBuf):
        _require(buf, "bytes", wanted)
        result = PyBytes_FromStringAndSize(cython.NULL, wanted)
        take_foreign(buf, PyBytes_AS_STRING(result), wanted)
        return result
    own: BaseBuf = buf
    left: cython.Py_ssize_t = own.begin_drain(parts)
    if wanted > left:
        own.end_drain(0)
        raise _too_little(wanted, left)
    try:
        result = PyBytes_FromStringAndSize(cython.NULL, wanted)
    except BaseException:
        own.end_drain(0)
        raise
    _collect(parts, PyBytes_AS_STRING(result), wanted)
    own.end_drain(wanted)
    return result


def read_exact_into(buf, target):
    """Fill a writable bytes-like object with the next bytes of a `Buf` or a `RingBuf`, which goes on by as many.

    Raises `EOFError` if there are less, and then moves none of them.
    """
    view: Py_buffer
    parts = cython.declare(iovec[2])
    own: BaseBuf
    left: cython.Py_ssize_t
    borrow(target, cython.address(view), True)
    try:
        if not isinstance(buf, BaseBuf):
            _require(buf, "bytes", view.len)
            take_foreign(buf, cython.cast(cython.p_char, view.buf), view.len)
            return
        own = buf
        left = own.begin_drain(parts)
        if view.len > left:
            own.end_drain(0)
            raise _too_little(view.len, left)
        _collect(parts, cython.cast(cython.p_char, view.buf), view.len)
        own.end_drain(view.len)
    finally:
        PyBuffer_Release(cython.address(view))


def write_all(buf, data):
    """Write all of a bytes-like object to a `MutBuf` or a `RingBuf`, which goes on by as many bytes.

    Raises `EOFError` if there is not enough room, and then writes nothing.
    """
    view: Py_buffer
    parts = cython.declare(iovec[2])
    own: BaseBuf
    left: cython.Py_ssize_t
    first: cython.Py_ssize_t
    borrow(data, cython.address(view), False)
    try:
        if not isinstance(buf, BaseBuf):
            _require(buf, "mut_bytes", view.len)
            give_foreign(buf, cython.cast(cython.p_char, view.buf), view.len)
            return
        own = buf
        left = own.begin_fill(parts)
        if view.len > left:
            own.end_fill(0)
            raise _too_little(view.len, left)
        first = view.len if view.len < cython.cast(cython.Py_ssize_t, parts[0].iov_len) else parts[0].iov_len
        # The data may be of this very buffer.
        memmove(parts[0].iov_base, view.buf, first)
        if first < view.len:
            memmove(parts[1].iov_base, cython.cast(cython.p_char, view.buf) + first, view.len - first)
        own.end_fill(view.len)
    finally:
        PyBuffer_Release(cython.address(view))


@cython.cfunc
@cython.exceptval(check=False)
def _collect(parts: cython.pointer[iovec], into: cython.p_char, size: cython.Py_ssize_t) -> cython.void:
    first: cython.Py_ssize_t = parts[0].iov_len
    if first > size:
        first = size
    memmove(into, parts[0].iov_base, first)
    if first < size:
        memmove(into + first, parts[1].iov_base, size - first)


@cython.cfunc
def _too_little(wanted: cython.Py_ssize_t, left: cython.Py_ssize_t):
    return EOFError(f"{wanted} bytes cannot be moved: {left} remain")


# -- Buffers of others ------------------------------------------------------------------------------------------------


@cython.cfunc
def _require(buf, name, wanted: cython.Py_ssize_t):
    if not hasattr(buf, name):
        raise TypeError(f"expected a buffer that has {name}(), not {type(buf).__name__}; see metalio.buf.wrap")
    left: cython.Py_ssize_t = buf.remaining()
    if wanted > left:
        raise _too_little(wanted, left)


def take_foreign(buf, into, wanted):
    view: Py_buffer
    size: cython.Py_ssize_t
    while wanted:
        borrow(buf.bytes(), cython.address(view), False)
        size = view.len if view.len < wanted else wanted
        memmove(into, view.buf, size)
        PyBuffer_Release(cython.address(view))
        if size == 0:
            raise RuntimeError(f"{type(buf).__name__}.bytes() is empty, though {buf.remaining()} bytes remain")
        buf.advance(size)
        into += size
        wanted -= size


def give_foreign(buf, data, size):
    view: Py_buffer
    part: cython.Py_ssize_t
    while size:
        borrow(buf.mut_bytes(), cython.address(view), True)
        part = view.len if view.len < size else size
        memmove(view.buf, data, part)
        PyBuffer_Release(cython.address(view))
        if part == 0:
            raise RuntimeError(f"{type(buf).__name__}.mut_bytes() is empty, though {buf.remaining()} bytes remain")
        buf.advance(part)
        data += part
        size -= part
