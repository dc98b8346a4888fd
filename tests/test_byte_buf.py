"""ByteBuf, and what it shares with RingBuf: memory of its own."""

import contextlib
import gc
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metalio.buf import ByteBuf, RingBuf, read_exact, write_all


@pytest.fixture(params=[ByteBuf, RingBuf])
def kind(request):
    return request.param


def filled(data, capacity=16):
    buf = ByteBuf(capacity)
    write_all(buf, data)
    return buf


def to_read(data, capacity=16):
    buf = filled(data, capacity)
    buf.flip()
    return buf


# -- Making one -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [0, -1, -(1 << 40)])
def test_capacities_that_are_none(kind, capacity):
    with pytest.raises(ValueError, match="at least 1"):
        kind(capacity)


@pytest.mark.parametrize("capacity", ["8", 8.0, None, b"8"])
def test_capacities_of_the_wrong_type(kind, capacity):
    with pytest.raises(TypeError):
        kind(capacity)


def test_arguments(kind):
    assert kind(capacity=7).capacity == 7
    for arguments in ((), (1, 2)):
        with pytest.raises(TypeError):
            kind(*arguments)
    with pytest.raises(TypeError):
        kind.__new__(kind)
    with pytest.raises(OverflowError):
        kind(1 << 80)
    with pytest.raises(MemoryError):
        kind(sys.maxsize // 2)
    with pytest.raises(AttributeError):
        kind(7).capacity = 8


def test_the_types_are_final(kind):
    with pytest.raises(TypeError):
        type("Mine", (kind,), {})


# -- Written, read, written again -------------------------------------------------------------------------------------


def test_a_round():
    buf = ByteBuf(8)
    assert not buf.is_reading()
    assert (buf.remaining(), buf.has_remaining(), buf.capacity) == (8, True, 8)
    buf.mut_bytes()[:5] = b"hello"
    assert buf.remaining() == 8, "nothing is written before it says so"
    buf.advance(5)
    assert (buf.remaining(), len(buf.mut_bytes())) == (3, 3)
    buf.flip()
    assert buf.is_reading()
    assert (buf.remaining(), buf.has_remaining()) == (5, True)
    assert buf.bytes() == b"hello"
    buf.advance(2)
    assert buf.bytes() == b"llo"
    buf.advance(3)
    assert (buf.remaining(), buf.has_remaining(), bytes(buf.bytes())) == (0, False, b"")
    buf.flip()
    assert (buf.remaining(), len(buf.mut_bytes())) == (8, 8)


def test_what_was_left_unread_is_kept():
    buf = to_read(b"hello", 8)
    assert read_exact(buf, 3) == b"hel"
    buf.flip()
    assert buf.remaining() == 6
    write_all(buf, b" world"[:6])
    buf.flip()
    assert buf.bytes() == b"lo world"


def test_flipping_back_at_once_changes_nothing():
    buf = to_read(b"hello", 8)
    buf.flip()
    assert buf.remaining() == 3
    buf.flip()
    assert buf.bytes() == b"hello"


@pytest.mark.parametrize("buf", [filled(b"hello"), to_read(b"hello")], ids=["written", "read"])
def test_clear(buf):
    buf.clear()
    assert not buf.is_reading()
    assert buf.remaining() == 16
    buf.flip()
    assert buf.remaining() == 0


def test_the_wrong_direction():
    buf = filled(b"hello")
    with pytest.raises(ValueError, match=r"flip\(\) it"):
        buf.bytes()
    with pytest.raises(ValueError, match=r"flip\(\) it"):
        read_exact(buf, 1)
    buf.flip()
    with pytest.raises(ValueError, match=r"clear\(\) it"):
        buf.mut_bytes()
    with pytest.raises(ValueError, match=r"clear\(\) it"):
        write_all(buf, b"x")
    assert buf.bytes() == b"hello"


@pytest.mark.parametrize("count", [-1, 6, 1 << 62, 1 << 100, -(1 << 100)])
def test_advancing_past_an_end(count):
    buf = filled(b"x" * 11)
    with pytest.raises(ValueError):
        buf.advance(count)
    assert buf.remaining() == 5
    buf.advance(0)
    buf.flip()
    buf.advance(6)
    with pytest.raises(ValueError):
        buf.advance(count)
    assert buf.bytes() == b"xxxxx"


@pytest.mark.parametrize("count", ["1", 1.0, None])
def test_advancing_by_what_is_no_number(count):
    buf = filled(b"hello")
    with pytest.raises(TypeError):
        buf.advance(count)
    assert buf.remaining() == 11


def test_repr():
    assert repr(filled(b"hello")) == "<ByteBuf: 5 written of 16>"
    assert repr(to_read(b"hello")) == "<ByteBuf: 5 to read of 16>"


# -- Views ------------------------------------------------------------------------------------------------------------


def test_views_are_of_its_own_memory():
    buf = ByteBuf(8)
    room = buf.mut_bytes()
    write_all(buf, b"abc")
    assert room[:3] == b"abc"
    buf.flip()
    shown = buf.bytes()
    room[0] = ord("X")
    assert shown == b"Xbc"


def test_what_is_to_be_read_is_read_only():
    with pytest.raises(TypeError):
        to_read(b"abc").bytes()[0] = 1


def test_views_outlive_the_buffer(kind):
    if kind is ByteBuf:
        buf = ByteBuf(1 << 16)
        view = buf.mut_bytes()
    else:
        buf = RingBuf(1 << 16)
        view = buf.writer().mut_bytes()
    del buf
    gc.collect()
    view[:] = b"y" * (1 << 16)
    assert view == b"y" * (1 << 16)


def test_nobody_can_resize_or_free_the_memory():
    """Not even who digs it out."""
    buf = ByteBuf(64)
    view = buf.mut_bytes()
    memory = view.obj
    for change in (memory.clear, lambda: memory.extend(b"x"), memory.pop):
        with pytest.raises(BufferError):
            change()
    view.release()
    for found in gc.get_objects():
        if type(found) is memoryview:
            with contextlib.suppress(ValueError):
                if found.obj is memory:
                    found.release()
    with pytest.raises(BufferError):
        memory.clear()
    write_all(buf, b"still there")
    buf.flip()
    assert read_exact(buf, 11) == b"still there"
    with pytest.raises(ValueError, match="released"):
        buf.bytes()


def test_memory_is_freed(kind):
    tracemalloc.start()
    try:
        for _ in range(20):
            buf = kind(1 << 20)
            view = (buf if kind is ByteBuf else buf.writer()).mut_bytes()
            del view, buf
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()


# -- Against a model --------------------------------------------------------------------------------------------------


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.binary(max_size=12)),
        st.tuples(st.just("fill"), st.binary(max_size=12)),
        st.tuples(st.just("read"), st.integers(0, 12)),
        st.tuples(st.just("advance"), st.integers(-2, 12)),
        st.tuples(st.just("flip"), st.none()),
        st.tuples(st.just("clear"), st.none()),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(st.integers(1, 16), OPERATIONS)
def test_any_operations(capacity, operations):
    buf = ByteBuf(capacity)
    content, reading = b"", False
    for name, value in operations:
        left = len(content) if reading else capacity - len(content)
        if name == "flip":
            buf.flip()
            reading = not reading
        elif name == "clear":
            buf.clear()
            content, reading = b"", False
        elif name == "write" and not reading:
            if len(value) > left:
                with pytest.raises(EOFError):
                    write_all(buf, value)
            else:
                write_all(buf, value)
                content += value
        elif name == "fill" and not reading:
            part = value[:left]
            buf.mut_bytes()[: len(part)] = part
            buf.advance(len(part))
            content += part
        elif name == "read" and reading:
            if value > left:
                with pytest.raises(EOFError):
                    read_exact(buf, value)
            else:
                assert read_exact(buf, value) == content[:value]
                content = content[value:]
        elif name == "advance" and (reading or not 0 <= value <= left):
            if 0 <= value <= left:
                buf.advance(value)
                content = content[value:]
            else:
                with pytest.raises(ValueError):
                    buf.advance(value)
        assert buf.is_reading() is reading
        assert buf.remaining() == (len(content) if reading else capacity - len(content))
        assert buf.has_remaining() is (buf.remaining() > 0)
        if reading:
            assert buf.bytes() == content
        else:
            assert len(buf.mut_bytes()) == buf.remaining()
