"""Moving bytes between buffers and stream-like sources.

The rules, for each direction:

- Would-block is `None`; an end of stream is `b""` or 0; all else is an `OSError`.
- A transfer that is short ends the drain of an edge-triggered source.  So nothing here may be short for any other
  reason: what is more than one system call moves is moved by several.
- The GIL stays held for what takes less time than getting it back may take.  A large read first takes `LARGE` bytes
  with it: how much there is to read is not known before, and most often it is little.
- An error after some bytes were moved is kept for the next call, so that the bytes are not lost.
"""

import cython
from cython.cimports.cpython.buffer import PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.cpython.exc import PyErr_Clear, PyErr_ExceptionMatches
from cython.cimports.cpython.mem import PyMem_RawFree, PyMem_RawMalloc
from cython.cimports.libc.errno import EAGAIN
from cython.cimports.libc.string import memcpy
from cython.cimports.metalio._sys.bits import PRIORITY, READABLE, WRITABLE
from cython.cimports.metalio._sys.sockets import MSG_PEEK, iovec
from cython.cimports.metalio.base_buf import BaseBuf
from cython.cimports.metalio.io_source import IoSource

from metalio._sys.errors import os_error

# Where releasing the GIL begins to pay.  Moving this much takes some 50 microseconds, a hundredth of what a thread may
# keep the GIL for anyway; beyond, other threads had better run meanwhile.  docs/performance.md has the measurement.
_LARGE = cython.declare(cython.Py_ssize_t, 262144)
# What is read through the stack.
_STACK = cython.declare(cython.Py_ssize_t, 65536)
# What one system call is asked for at the most (Linux moves no more than 2 GiB less a page).
_MOST = cython.declare(cython.Py_ssize_t, 1 << 30)
# IOV_MAX of Linux, macOS and the BSDs.
_VECTORS = cython.declare(cython.Py_ssize_t, 1024)
# How many buffers of a vector need no allocation.
_FEW = cython.declare(cython.Py_ssize_t, 8)


def refuse(source, error, directions):
    if error == EAGAIN:
        source.renew_blocked(directions)
        return None
    source.renew_exhausted(error, directions)
    raise os_error(error)


def borrow(buffer, view, writable):
    if get_buffer(buffer, view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE) == 0:
        return 0
    if writable and PyErr_ExceptionMatches(BufferError):
        PyErr_Clear()
        if memoryview(buffer).readonly:
            raise TypeError(f"expected a writable buffer such as a bytearray, not {type(buffer).__name__}")
        return PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE)
    return -1


# -- One buffer -------------------------------------------------------------------------------------------------------


@cython.cfunc
@cython.exceptval(check=False)
def _pull(source: IoSource, into: cython.p_char, size: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Read up to `size` bytes: how many, or the negative number of an error."""
    if source.deferred:
        error: cython.int = source.deferred
        source.deferred = 0
        return -error
    if size <= _LARGE:
        return source.pull(source.fd, into, size, 0)
    vector: iovec
    vector.iov_base = into
    vector.iov_len = size
    return _move(source, cython.address(vector), 1, _LARGE, True)


@cython.cfunc
@cython.exceptval(check=False)
def _push(source: IoSource, data: cython.p_char, size: cython.Py_ssize_t) -> cython.Py_ssize_t:
    if source.deferred_out:
        error: cython.int = source.deferred_out
        source.deferred_out = 0
        return -error
    if size <= _LARGE:
        return source.push(source.fd, data, size)
    vector: iovec
    vector.iov_base = data
    vector.iov_len = size
    return _move(source, cython.address(vector), 1, 0, False)


def take(source, size):
    wanted: cython.Py_ssize_t = size
    got: cython.Py_ssize_t
    buffer = cython.declare(cython.char[65536])
    if wanted < 0:
        return take_all(source)
    with cython.critical_section(source):
        source.require()
        if wanted == 0:
            return b""
        # Through the stack: what arrives is most often far less than was asked for, and gets an object of its size.
        first: cython.Py_ssize_t = wanted if wanted < _STACK else _STACK
        got = _pull(source, buffer, first)
        if got < 0:
            return refuse(source, -got, READABLE | PRIORITY)
        if got < first or wanted == first:
            # The end of the stream is no short transfer: it comes only once.
            if 0 < got < wanted:
                source.renew_short(READABLE | PRIORITY)
            return PyBytes_FromStringAndSize(buffer, got)
        return _take_large(source, buffer, wanted)


@cython.cfunc
def _take_large(source: IoSource, first: cython.p_char, wanted: cython.Py_ssize_t):
    """Read on, after the stack was filled."""
    try:
        result: bytes = PyBytes_FromStringAndSize(cython.NULL, wanted)
    except (MemoryError, OverflowError):
        # What was read is not lost, but it is not all: so the rest has to be reported again.
        if source.record is not None and source.record.live:
            source.renew(READABLE | PRIORITY)
        return PyBytes_FromStringAndSize(first, _STACK)
    into: cython.p_char = PyBytes_AS_STRING(result)
    memcpy(into, first, _STACK)
    vector: iovec
    vector.iov_base = into + _STACK
    vector.iov_len = wanted - _STACK
    got: cython.Py_ssize_t = _move(source, cython.address(vector), 1, _LARGE, True)
    if got < 0:
        if got != -EAGAIN:
            source.deferred = -got
        got = 0
    got += _STACK
    if got == wanted:
        return result
    source.renew_short(READABLE | PRIORITY)
    return PyBytes_FromStringAndSize(into, got)


def take_all(source):
    pieces: list = []
    while True:
        try:
            piece = take(source, _LARGE)
        except OSError as error:
            if not pieces:
                raise
            source.deferred = error.errno
            piece = None
        if piece is None or not piece:
            return b"".join(pieces) if pieces else piece
        pieces.append(piece)


def take_into(source, buffer):
    view: Py_buffer
    got: cython.Py_ssize_t
    size: cython.Py_ssize_t
    with cython.critical_section(source):
        source.require()
        borrow(buffer, cython.address(view), True)
        size = view.len
        got = _pull(source, cython.cast(cython.p_char, view.buf), size) if size else 0
        PyBuffer_Release(cython.address(view))
        if got < size:
            if got < 0:
                return refuse(source, -got, READABLE | PRIORITY)
            if got > 0:
                source.renew_short(READABLE | PRIORITY)
        return got


def peek(source, size):
    wanted: cython.Py_ssize_t = size
    if wanted < 0:
        raise ValueError("cannot peek at a negative number of bytes")
    result = bytearray(wanted)
    got = peek_into(source, result)
    return None if got is None else bytes(memoryview(result)[:got])


def peek_into(source, buffer):
    view: Py_buffer
    got: cython.Py_ssize_t
    with cython.critical_section(source):
        source.require()
        borrow(buffer, cython.address(view), True)
        got = source.pull(source.fd, view.buf, view.len, MSG_PEEK) if view.len else 0
        PyBuffer_Release(cython.address(view))
        # What was seen is still there, so this is no transfer that could be short.
        return refuse(source, -got, READABLE | PRIORITY) if got < 0 else got


def give(source, data):
    view: Py_buffer
    sent: cython.Py_ssize_t
    size: cython.Py_ssize_t
    with cython.critical_section(source):
        source.require()
        if type(data) is bytes:
            size = PyBytes_GET_SIZE(data)
            sent = _push(source, PyBytes_AS_STRING(data), size) if size else 0
        else:
            borrow(data, cython.address(view), False)
            size = view.len
            sent = _push(source, cython.cast(cython.p_char, view.buf), size) if size else 0
            PyBuffer_Release(cython.address(view))
        if sent < size:
            if sent < 0:
                return refuse(source, -sent, WRITABLE)
            source.renew_short(WRITABLE)
        return sent


# -- Several buffers --------------------------------------------------------------------------------------------------


def take_vector(source, buffers):
    return _transfer(source, list(buffers), True)


def give_vector(source, buffers):
    return _transfer(source, list(buffers), False)


@cython.cfunc
def _transfer(source: IoSource, buffers: list, reading: cython.bint):
    few_views = cython.declare(Py_buffer[8])
    few_vectors = cython.declare(iovec[8])
    views: cython.pointer[Py_buffer] = few_views
    vectors: cython.pointer[iovec] = few_vectors
    count: cython.Py_ssize_t = len(buffers)
    held: cython.Py_ssize_t = 0
    total: cython.Py_ssize_t = 0
    moved: cython.Py_ssize_t = 0
    directions: cython.int = READABLE | PRIORITY if reading else WRITABLE
    if count > _FEW:
        views = cython.cast(
            cython.pointer[Py_buffer],
            PyMem_RawMalloc(count * (cython.sizeof(Py_buffer) + cython.sizeof(iovec))),
        )
        if views == cython.NULL:
            raise MemoryError
        vectors = cython.cast(cython.pointer[iovec], views + count)
    try:
        with cython.critical_section(source):
            source.require()
            for buffer in buffers:
                borrow(buffer, cython.address(views[held]), reading)
                vectors[held].iov_base = views[held].buf
                vectors[held].iov_len = views[held].len
                total += views[held].len
                held += 1
            if total:
                moved = _move_vector(source, vectors, count, total, reading)
            if moved < 0:
                return refuse(source, -moved, directions)
            if 0 < moved < total:
                source.renew_short(directions)
            return moved
    finally:
        while held > 0:
            held -= 1
            PyBuffer_Release(cython.address(views[held]))
        if views != few_views:
            PyMem_RawFree(views)


@cython.cfunc
@cython.exceptval(check=False)
def _move_vector(
    source: IoSource,
    vectors: cython.pointer[iovec],
    count: cython.Py_ssize_t,
    total: cython.Py_ssize_t,
    reading: cython.bint,
) -> cython.Py_ssize_t:
    error: cython.int = source.deferred if reading else source.deferred_out
    if error:
        if reading:
            source.deferred = 0
        else:
            source.deferred_out = 0
        return -error
    return _move(source, vectors, count, _LARGE if reading or total <= _LARGE else 0, reading)


# -- Buffers with a position ------------------------------------------------------------------------------------------


def take_buf(source, buf):
    parts = cython.declare(iovec[2])
    got: cython.Py_ssize_t
    room: cython.Py_ssize_t
    if not isinstance(buf, BaseBuf):
        return _take_foreign(source, buf)
    own: BaseBuf = buf
    with cython.critical_section(source):
        room = own.begin_fill(parts)
        # No sooner than here, since the buffer's lock may have let others have this one.
        if source.fd < 0 or room == 0:
            own.end_fill(0)
            source.require()
            raise ValueError("this buffer is full")
        if parts[1].iov_len == 0:
            got = _pull(source, cython.cast(cython.p_char, parts[0].iov_base), room)
        else:
            got = _move_vector(source, parts, 2, room, True)
        own.end_fill(got if got > 0 else 0)
        if got < room:
            if got < 0:
                return refuse(source, -got, READABLE | PRIORITY)
            if got > 0:
                source.renew_short(READABLE | PRIORITY)
        return got


def give_buf(source, buf):
    parts = cython.declare(iovec[2])
    sent: cython.Py_ssize_t
    left: cython.Py_ssize_t
    if not isinstance(buf, BaseBuf):
        return _give_foreign(source, buf)
    own: BaseBuf = buf
    with cython.critical_section(source):
        left = own.begin_drain(parts)
        if source.fd < 0 or left == 0:
            own.end_drain(0)
            source.require()
            raise ValueError("this buffer is empty")
        if parts[1].iov_len == 0:
            sent = _push(source, cython.cast(cython.p_char, parts[0].iov_base), left)
        else:
            sent = _move_vector(source, parts, 2, left, False)
        own.end_drain(sent if sent > 0 else 0)
        if sent < left:
            if sent < 0:
                return refuse(source, -sent, WRITABLE)
            source.renew_short(WRITABLE)
        return sent


@cython.cfunc
def _take_foreign(source: IoSource, buf):
    """Fill the buffer of another kind, piece by piece, as far as it had room in the beginning."""
    moved: cython.Py_ssize_t = 0
    size: cython.Py_ssize_t = 0
    got: cython.Py_ssize_t = 0
    if not hasattr(buf, "mut_bytes"):
        raise TypeError(f"expected a buffer that has mut_bytes(), not {type(buf).__name__}; see metalio.buf.wrap_mut")
    source.require()
    room: cython.Py_ssize_t = buf.remaining()
    if room <= 0:
        raise ValueError("this buffer is full")
    while moved < room and got == size:
        got = _move_piece(source, buf.mut_bytes(), room - moved, cython.address(size), True)
        if got <= 0:
            break
        moved += got
        buf.advance(got)
    return _settle(source, moved, room, size, got, READABLE | PRIORITY)


@cython.cfunc
def _give_foreign(source: IoSource, buf):
    moved: cython.Py_ssize_t = 0
    size: cython.Py_ssize_t = 0
    sent: cython.Py_ssize_t = 0
    if not hasattr(buf, "bytes"):
        raise TypeError(f"expected a buffer that has bytes(), not {type(buf).__name__}; see metalio.buf.wrap")
    source.require()
    left: cython.Py_ssize_t = buf.remaining()
    if left <= 0:
        raise ValueError("this buffer is empty")
    while moved < left and sent == size:
        sent = _move_piece(source, buf.bytes(), left - moved, cython.address(size), False)
        if sent <= 0:
            break
        moved += sent
        buf.advance(sent)
    return _settle(source, moved, left, size, sent, WRITABLE)


@cython.cfunc
@cython.exceptval(-1, check=True)
def _move_piece(
    source: IoSource,
    piece,
    most: cython.Py_ssize_t,
    size: cython.pointer[cython.Py_ssize_t],
    reading: cython.bint,
) -> cython.Py_ssize_t:
    """Move up to so many bytes: how many, or the negative number of an error.  No code of others runs in here."""
    view: Py_buffer
    done: cython.Py_ssize_t = 0
    with cython.critical_section(source):
        borrow(piece, cython.address(view), reading)
        size[0] = view.len if view.len < most else most
        if source.fd >= 0 and size[0]:
            if reading:
                done = _pull(source, cython.cast(cython.p_char, view.buf), size[0])
            else:
                done = _push(source, cython.cast(cython.p_char, view.buf), size[0])
        PyBuffer_Release(cython.address(view))
        source.require()
    return done


@cython.cfunc
def _settle(
    source: IoSource,
    moved: cython.Py_ssize_t,
    wanted: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
    last: cython.Py_ssize_t,
    directions: cython.int,
):
    """The result of a transfer by pieces, of which the last one moved `last` of `size` bytes."""
    with cython.critical_section(source):
        if moved == 0:
            if size == 0:
                raise ValueError("this buffer says that it has bytes remaining, and gives none")
            return refuse(source, -last, directions) if last < 0 else 0
        if last < 0 and last != -EAGAIN:
            if directions & READABLE:
                source.deferred = -last
            else:
                source.deferred_out = -last
        if size == 0:
            # It gave less than it had said.  So the transfer is short, and yet there may be more.
            if source.record is not None and source.record.live:
                source.renew(directions)
        elif moved < wanted:
            source.renew_short(directions)
    return moved


# -- The one loop beneath ---------------------------------------------------------------------------------------------


@cython.cfunc
@cython.exceptval(check=False)
def _move(
    source: IoSource,
    vectors: cython.pointer[iovec],
    count: cython.Py_ssize_t,
    first: cython.Py_ssize_t,
    reading: cython.bint,
) -> cython.Py_ssize_t:
    """Move until all is moved, or a system call was short: how many bytes, or the negative number of an error.

    The `first` bytes are moved with the GIL held.
    """
    fd: cython.int = source.fd
    moved: cython.Py_ssize_t = 0
    last: cython.Py_ssize_t = 0
    cursor: Cursor
    cursor.at = vectors
    cursor.left = count
    cursor.short = False
    if first:
        last = _step(source, fd, cython.address(cursor), first, reading)
        if last < 0 or cursor.short or cursor.left == 0:
            return last
        moved = last
    source.pin()
    with cython.nogil:
        while cursor.left and not cursor.short:
            last = _step(source, fd, cython.address(cursor), _MOST, reading)
            if last < 0:
                break
            moved += last
    source.unpin()
    if last < 0:
        if moved == 0:
            return last
        if last != -EAGAIN:
            if reading:
                source.deferred = -last
            else:
                source.deferred_out = -last
    return moved


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _step(
    source: IoSource, fd: cython.int, cursor: cython.pointer[Cursor], allowance: cython.Py_ssize_t, reading: cython.bint
) -> cython.Py_ssize_t:
    """One system call, of at most so many bytes, and on with the cursor."""
    size: cython.Py_ssize_t = 0
    count: cython.Py_ssize_t = 0
    cut: cython.Py_ssize_t = 0
    while count < cursor.left and count < _VECTORS and size < allowance:
        size += cursor.at[count].iov_len
        count += 1
    if size > allowance:
        cut = size - allowance
        cursor.at[count - 1].iov_len -= cut
        size = allowance
    done: cython.Py_ssize_t
    if count == 1:
        done = source.pull(fd, cursor.at.iov_base, size, 0) if reading else source.push(fd, cursor.at.iov_base, size)
    elif reading:
        done = source.pull_vector(fd, cursor.at, cython.cast(cython.int, count))
    else:
        done = source.push_vector(fd, cursor.at, cython.cast(cython.int, count))
    cursor.at[count - 1].iov_len += cut
    if done < 0:
        return done
    cursor.short = done < size
    rest: cython.size_t = done
    while cursor.left and rest >= cursor.at.iov_len:
        rest -= cursor.at.iov_len
        cursor.at += 1
        cursor.left -= 1
    if cursor.left and rest:
        cursor.at.iov_base = cython.cast(cython.p_char, cursor.at.iov_base) + rest
        cursor.at.iov_len -= rest
    return done
