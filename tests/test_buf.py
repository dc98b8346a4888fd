"""The protocols, and moving all or nothing: read_exact, read_exact_into, write_all."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from util import apart

import metalio.buf
from metalio.buf import (
    Buf,
    ByteBuf,
    MutBuf,
    RingBuf,
    read_exact,
    read_exact_into,
    wrap,
    wrap_mut,
    write_all,
)


class Chunks:
    """A `Buf` of somebody else's, in pieces."""

    def __init__(self, *chunks):
        self.chunks = list(chunks)
        self.calls = []

    def remaining(self):
        return sum(map(len, self.chunks))

    def has_remaining(self):
        return self.remaining() > 0

    def bytes(self):
        return self.chunks[0] if self.chunks else b""

    def advance(self, count):
        self.calls.append(count)
        assert 0 <= count <= len(self.chunks[0])
        self.chunks[0] = self.chunks[0][count:]
        if not self.chunks[0]:
            del self.chunks[0]


class Rooms:
    """A `MutBuf` of somebody else's, in pieces."""

    def __init__(self, *sizes):
        self.rooms = [bytearray(size) for size in sizes]
        self.content = b""
        self.at = 0
        self.calls = []

    def remaining(self):
        return sum(map(len, self.rooms)) - self.at

    def has_remaining(self):
        return self.remaining() > 0

    def mut_bytes(self):
        return memoryview(self.rooms[0])[self.at :] if self.rooms else bytearray()

    def advance(self, count):
        self.calls.append(count)
        assert 0 <= count <= len(self.rooms[0]) - self.at
        self.content += self.rooms[0][self.at : self.at + count]
        self.at += count
        if self.at == len(self.rooms[0]):
            del self.rooms[0]
            self.at = 0


def ring_of(data):
    """In which they wrap around."""
    ring = RingBuf(max(len(data), 2))
    ring.writer().advance(ring.capacity // 2 + 1)
    ring.reader().advance(ring.capacity // 2)
    if data:
        write_all(ring, data[: ring.capacity - 1])
        ring.reader().advance(1)
        write_all(ring, data[ring.capacity - 1 :])
    else:
        ring.reader().advance(1)
    return ring


def byte_buf_of(data):
    buf = ByteBuf(len(data) + 3)
    write_all(buf, data)
    buf.flip()
    return buf


READERS = {
    "ByteBuf": byte_buf_of,
    "RingBuf": ring_of,
    "reader": lambda data: ring_of(data).reader(),
    "SliceBuf": wrap,
    "foreign": lambda data: Chunks(*filter(None, (data[:3], data[3:4], data[4:]))),
}


def rest(buf):
    """What is left to read."""
    reader = buf.reader() if isinstance(buf, RingBuf) else buf
    return read_exact(buf, reader.remaining())


class Written:
    """Room for so many bytes, and what was written there."""

    def __init__(self, kind, size):
        self.kind, self.memory = kind, bytearray(size)
        if kind == "MutSliceBuf":
            self.buf = wrap_mut(self.memory)
        elif kind == "foreign":
            self.buf = Rooms(*filter(None, (min(size, 3), min(max(size - 3, 0), 1), max(size - 4, 0))))
        elif kind == "ByteBuf":
            self.buf = ByteBuf(max(size, 1))
            self.buf.advance(self.buf.capacity - size)
        else:
            ring = RingBuf(max(size + 1, 2))
            ring.writer().advance(ring.capacity // 2 + 1)
            ring.reader().advance(ring.capacity // 2)
            ring.writer().advance(ring.capacity - 1 - size)
            self.ring = ring
            self.buf = ring if kind == "RingBuf" else ring.writer()

    def content(self, count):
        if self.kind == "MutSliceBuf":
            return self.memory[:count]
        if self.kind == "foreign":
            return self.buf.content
        if self.kind == "ByteBuf":
            self.buf.flip()
            return rest(self.buf)[-count:] if count else b""
        return rest(self.ring)[-count:] if count else b""


WRITERS = ["ByteBuf", "RingBuf", "writer", "MutSliceBuf", "foreign"]


# -- The protocols ----------------------------------------------------------------------------------------------------


def test_what_is_a_buf():
    ring = RingBuf(8)
    for buf in (ByteBuf(8), ring.reader(), wrap(b""), Chunks()):
        assert isinstance(buf, Buf)
    for buf in (ByteBuf(8), ring.writer(), wrap_mut(bytearray()), Rooms()):
        assert isinstance(buf, MutBuf)
    for other in (ring.writer(), wrap_mut(bytearray()), Rooms(), b"", bytearray(), memoryview(b""), ring):
        assert not isinstance(other, Buf)
    for other in (ring.reader(), wrap(b""), Chunks(), b"", bytearray(), memoryview(b""), ring):
        assert not isinstance(other, MutBuf)


def test_names():
    for name in metalio.buf.__all__:
        assert getattr(metalio.buf, name).__doc__, name


# -- All or nothing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", READERS.values(), ids=READERS)
@given(st.binary(max_size=30), st.integers(0, 40))
@settings(deadline=None)
def test_read_exact(make, data, size):
    buf = make(data)
    if size > len(data):
        with pytest.raises(EOFError, match=f"{size} bytes cannot be moved: {len(data)} remain"):
            read_exact(buf, size)
        assert rest(buf) == data
    else:
        result = read_exact(buf, size)
        assert type(result) is bytes
        assert result == data[:size]
        assert rest(buf) == data[size:]


@pytest.mark.parametrize("make", READERS.values(), ids=READERS)
@given(st.binary(max_size=30), st.integers(0, 40))
@settings(deadline=None)
def test_read_exact_into(make, data, size):
    buf, target = make(data), bytearray(size)
    if size > len(data):
        with pytest.raises(EOFError):
            read_exact_into(buf, target)
        assert (target, rest(buf)) == (bytes(size), data)
    else:
        assert read_exact_into(buf, target) is None
        assert (target, rest(buf)) == (data[:size], data[size:])
    # Nothing holds it any more.
    target.append(1)


@pytest.mark.parametrize("kind", WRITERS)
@given(st.binary(max_size=30), st.integers(0, 40))
@settings(deadline=None)
def test_write_all(kind, data, size):
    written, source = Written(kind, size), bytearray(data)
    if len(data) > size:
        with pytest.raises(EOFError, match=f"{len(data)} bytes cannot be moved: {size} remain"):
            write_all(written.buf, source)
        assert written.content(0) == b""
    else:
        assert write_all(written.buf, source) is None
        assert written.content(len(data)) == data
    source.append(1)


@pytest.mark.parametrize("make", READERS.values(), ids=READERS)
def test_sizes_that_are_none(make):
    buf = make(b"hello")
    for size in (-1, -(1 << 70)):
        with pytest.raises(ValueError):
            read_exact(buf, size)
    for size in (6, sys.maxsize, 1 << 70):
        with pytest.raises(EOFError):
            read_exact(buf, size)
    for size in (1.0, "1", None):
        with pytest.raises(TypeError):
            read_exact(buf, size)
    assert rest(buf) == b"hello"


@pytest.mark.parametrize("make", READERS.values(), ids=READERS)
def test_targets_that_are_none(make):
    buf = make(b"hello")
    for target, error in (
        (b"12", TypeError),
        ("12", TypeError),
        (None, TypeError),
        (memoryview(bytearray(4))[::2], BufferError),
    ):
        with pytest.raises(error):
            read_exact_into(buf, target)
    assert rest(buf) == b"hello"


@pytest.mark.parametrize("kind", WRITERS)
def test_data_that_are_none(kind):
    written = Written(kind, 5)
    for data, error in (("12", TypeError), (None, TypeError), (7, TypeError), (memoryview(b"1234")[::2], BufferError)):
        with pytest.raises(error):
            write_all(written.buf, data)
    write_all(written.buf, b"hello")
    assert written.content(5) == b"hello"


@pytest.mark.parametrize("other", [b"abc", bytearray(3), memoryview(b"abc"), None, 8, object(), [b"abc"]], ids=type)
def test_what_is_no_buffer(other):
    for call in (
        lambda: read_exact(other, 1),
        lambda: read_exact_into(other, bytearray(1)),
        lambda: write_all(other, b"x"),
    ):
        with pytest.raises(TypeError, match="expected a buffer"):
            call()


def test_one_reference_is_counted_as_one():
    buf, data, target = byte_buf_of(b"x" * 100), b"data" * 10, bytearray(10)
    before = [sys.getrefcount(thing) for thing in (buf, data, target)]
    for _ in range(5):
        read_exact_into(buf, target)
        with pytest.raises(EOFError):
            read_exact(buf, 1000)
        with pytest.raises(ValueError):
            write_all(buf, data)
    assert [sys.getrefcount(thing) for thing in (buf, data, target)] == before


def test_running_out_of_memory():
    """The buffer is as it was, and not taken for busy."""
    testcapi = pytest.importorskip("_testcapi")

    def run():
        for make in READERS.values():
            for start in range(5):
                buf = make(b"x" * 10_000)
                testcapi.set_nomemory(start, start + 1)
                try:
                    result = read_exact(buf, 9_000)
                except MemoryError:
                    result = b""
                    met.append(make)
                finally:
                    testcapi.remove_mem_hooks()
                assert rest(buf) == b"x" * (10_000 - len(result))
        assert set(met) == set(READERS.values())

    met = []
    apart(run)


# -- Buffers of others that misbehave ---------------------------------------------------------------------------------


def test_one_that_promises_more_than_it_has():
    class Liar(Chunks):
        def remaining(self):
            return 100

    with pytest.raises(RuntimeError, match="though 100 bytes remain"):
        read_exact(Liar(b"abc"), 5)

    class Cramped(Rooms):
        def remaining(self):
            return 100

    with pytest.raises(RuntimeError, match="though 100 bytes remain"):
        write_all(Cramped(3), b"12345")


def test_pieces_longer_than_needed():
    buf = Chunks(b"abcdef")
    assert read_exact(buf, 2) == b"ab"
    assert buf.calls == [2]
    buf = Rooms(6)
    write_all(buf, b"12")
    assert (buf.content, buf.calls) == (b"12", [2])


@pytest.mark.parametrize("left", ["5", 5.0, None])
def test_remaining_that_is_no_number(left):
    class Odd(Chunks):
        def remaining(self):
            return left

    with pytest.raises(TypeError):
        read_exact(Odd(b"abcde"), 5)


def test_exceptions_of_theirs_propagate():
    class Failing(Chunks):
        def advance(self, count):
            raise ZeroDivisionError

    target = bytearray(2)
    with pytest.raises(ZeroDivisionError):
        read_exact_into(Failing(b"abc"), target)
    target.append(1)


def test_advance_that_uses_what_is_being_moved():
    """It may do as it likes with its own buffer, and with ours."""

    class Meddler(Chunks):
        def advance(self, count):
            super().advance(count)
            with pytest.raises(BufferError):
                target.append(1)
            self.chunks.clear()
            self.chunks.append(b"other")

    target = bytearray(8)
    buf = Meddler(b"abc", b"defgh")
    read_exact_into(buf, target)
    assert target == b"abcother"
