"""SliceBuf and MutSliceBuf, wrap and wrap_mut."""

import array
import gc
import weakref

import pytest

from metalio.buf import MutSliceBuf, SliceBuf, read_exact, read_exact_into, wrap, wrap_mut, write_all


def test_reading():
    buf = wrap(b"hello")
    assert type(buf) is SliceBuf
    assert (buf.remaining(), buf.has_remaining()) == (5, True)
    assert buf.bytes() == b"hello"
    buf.advance(2)
    assert buf.bytes() == b"llo"
    assert read_exact(buf, 3) == b"llo"
    assert (buf.remaining(), buf.has_remaining(), bytes(buf.bytes())) == (0, False, b"")
    with pytest.raises(EOFError):
        read_exact(buf, 1)


def test_writing():
    data = bytearray(5)
    buf = wrap_mut(data)
    assert type(buf) is MutSliceBuf
    assert (buf.remaining(), buf.has_remaining()) == (5, True)
    buf.mut_bytes()[:2] = b"he"
    buf.advance(2)
    assert len(buf.mut_bytes()) == 3
    with pytest.raises(EOFError):
        write_all(buf, b"llo!")
    assert data == b"he\0\0\0"
    write_all(buf, b"llo")
    assert (buf.remaining(), buf.has_remaining(), bytes(buf.mut_bytes())) == (0, False, b"")
    assert data == b"hello"


@pytest.mark.parametrize("kind", [SliceBuf, MutSliceBuf])
@pytest.mark.parametrize("count", [-1, 6, 1 << 62, 1 << 100])
def test_advancing_past_an_end(kind, count):
    buf = kind(bytearray(8))
    buf.advance(3)
    with pytest.raises(ValueError):
        buf.advance(count)
    assert buf.remaining() == 5
    with pytest.raises(TypeError):
        buf.advance(1.0)


@pytest.mark.parametrize(
    "data, content",
    [
        (b"", b""),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"abcdef")[1:4], b"bcd"),
        (array.array("H", [1, 2]), array.array("H", [1, 2]).tobytes()),
        (array.array("H"), b""),
        (memoryview(b"abcdef").cast("B", (2, 3)), b"abcdef"),
        (memoryview(b"abc").cast("c"), b"abc"),
    ],
    ids=repr,
)
def test_whatever_has_bytes(data, content):
    buf = wrap(data)
    assert buf.remaining() == len(content)
    shown = buf.bytes()
    assert (shown.tobytes(), shown.format, shown.ndim, shown.readonly) == (content, "B", 1, True)
    assert read_exact(buf, len(content)) == content


def test_a_writable_one_of_wider_items():
    data = array.array("H", [0, 0])
    buf = wrap_mut(data)
    write_all(buf, b"\xff\xff\xff")
    assert data.tobytes() == b"\xff\xff\xff\0"
    assert len(buf.mut_bytes()) == 1


@pytest.mark.parametrize("data", ["text", None, 8, [1], SliceBuf(b"")], ids=repr)
def test_what_has_no_bytes(data):
    for kind in (wrap, wrap_mut):
        with pytest.raises(TypeError):
            kind(data)


@pytest.mark.parametrize("data", [b"abc", memoryview(bytearray(3)).toreadonly(), b""], ids=repr)
def test_what_cannot_be_written(data):
    with pytest.raises(TypeError, match="writable"):
        wrap_mut(data)


def test_what_does_not_lie_in_one_piece():
    for kind in (wrap, wrap_mut):
        with pytest.raises(BufferError):
            kind(memoryview(bytearray(8))[::2])


def test_arguments():
    for kind in (SliceBuf, MutSliceBuf):
        with pytest.raises(TypeError):
            kind()
        with pytest.raises(TypeError):
            kind.__new__(kind)
        with pytest.raises(TypeError):
            kind(bytearray(), bytearray())
        with pytest.raises(TypeError):
            type("Mine", (kind,), {})


def test_one_direction_only():
    with pytest.raises(TypeError, match="for reading"):
        write_all(wrap(bytearray(3)), b"x")
    with pytest.raises(TypeError, match="for writing"):
        read_exact(wrap_mut(bytearray(3)), 1)


def test_nothing_is_copied():
    data = bytearray(b"abc")
    buf = wrap(data)
    data[0] = ord("X")
    assert read_exact(buf, 3) == b"Xbc"


@pytest.mark.parametrize("kind", [wrap, wrap_mut])
def test_the_memory_is_kept_and_let_go(kind):
    data = bytearray(b"abc")
    buf = kind(data)
    with pytest.raises(BufferError):
        data.append(1)
    if kind is wrap:
        read_exact(buf, 2)
        with pytest.raises(EOFError):
            read_exact(buf, 2)
    else:
        write_all(buf, b"xy")
        with pytest.raises(EOFError):
            write_all(buf, b"xy")
    with pytest.raises(BufferError):
        data.append(1)
    del buf
    data.append(1)


def test_a_view_that_is_released_elsewhere():
    view = memoryview(bytearray(b"abc"))
    buf = wrap(view)
    view.release()
    assert read_exact(buf, 3) == b"abc"
    released = memoryview(b"abc")
    released.release()
    with pytest.raises(ValueError):
        wrap(released)


def test_who_digs_out_the_view_and_releases_it():
    """Does harm to nothing but this buffer."""
    for buf, use in (
        (wrap(b"abc"), lambda buf: read_exact(buf, 1)),
        (wrap(b"abc"), lambda buf: buf.bytes()),
        (wrap_mut(bytearray(3)), lambda buf: write_all(buf, b"x")),
        (wrap_mut(bytearray(3)), lambda buf: buf.mut_bytes()),
    ):
        for found in gc.get_referents(buf):
            if type(found) is memoryview:
                found.release()
        for _ in range(2):
            with pytest.raises(ValueError, match="released"):
                use(buf)


class Memory(bytearray):
    """A bytearray that can refer to others, and be referred to weakly."""


@pytest.mark.parametrize("kind", [wrap, wrap_mut])
def test_cycles_are_collected(kind):
    data = Memory(b"abc")
    data.buf = kind(data)
    if kind is wrap:
        read_exact(data.buf, 1)
    else:
        write_all(data.buf, b"x")
    gone = weakref.ref(data)
    del data
    gc.collect()
    assert gone() is None


def test_moving_within_the_same_memory():
    data = bytearray(b"0123456789")
    write_all(wrap_mut(memoryview(data)[2:]), memoryview(data)[:8])
    assert data == b"0101234567"
    data = bytearray(b"0123456789")
    read_exact_into(wrap(memoryview(data)[:8]), memoryview(data)[2:])
    assert data == b"0101234567"


def test_repr():
    buf = wrap(b"abc")
    buf.advance(1)
    assert repr(buf) == "<SliceBuf: 2 to read of 3>"
    assert repr(wrap_mut(bytearray(3))) == "<MutSliceBuf: room for 3 of 3>"
