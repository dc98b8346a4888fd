"""RingBuf, its reader and its writer."""

import copy
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from util import PATIENCE, WINDOWS, Worker, mine, tcp_pair, wait_readable

from metalio.buf import RingBuf, RingBufReader, RingBufWriter, read_exact, write_all
from metalio.net import UnixStream

SOCKETS = [pytest.param(tcp_pair, id="tcp")]
if not WINDOWS:
    SOCKETS.append(pytest.param(lambda: mine(*UnixStream.pair()), id="unix"))


def wrapped(data, capacity=16, place=10):
    """A ring whose content begins there."""
    ring = RingBuf(capacity)
    write_all(ring, bytes(place + 1))
    ring.reader().advance(place)
    write_all(ring, data)
    ring.reader().advance(1)
    return ring


def content(ring):
    """All that is to be read, without reading it."""
    return read_exact(ring.copy(), ring.reader().remaining())


# -- By itself --------------------------------------------------------------------------------------------------------


def test_an_empty_one():
    ring = RingBuf(100)
    assert ring.capacity == 100
    assert ring.is_empty() and not ring.is_full()
    assert (ring.reader().remaining(), ring.reader().has_remaining()) == (0, False)
    assert (ring.writer().remaining(), ring.writer().has_remaining()) == (100, True)
    assert bytes(ring.reader().bytes()) == b""
    assert len(ring.writer().mut_bytes()) == 100


def test_a_full_one():
    ring = RingBuf(5)
    write_all(ring, b"hello")
    assert ring.is_full() and not ring.is_empty()
    assert (ring.writer().remaining(), ring.writer().has_remaining()) == (0, False)
    assert len(ring.writer().mut_bytes()) == 0
    assert ring.reader().bytes() == b"hello"


def test_written_and_read_at_the_same_time():
    ring = RingBuf(8)
    reader, writer = ring.reader(), ring.writer()
    writer.mut_bytes()[:5] = b"hello"
    assert reader.remaining() == 0
    writer.advance(5)
    assert reader.bytes() == b"hello"
    reader.advance(4)
    assert writer.remaining() == 7
    assert len(writer.mut_bytes()) == 3, "up to where it wraps around"
    writer.mut_bytes()[:] = b"123"
    writer.advance(3)
    assert len(writer.mut_bytes()) == 4
    writer.mut_bytes()[:] = b"4567"
    writer.advance(4)
    assert ring.is_full()
    assert reader.remaining() == 8
    assert reader.bytes() == b"o123"
    reader.advance(4)
    assert reader.bytes() == b"4567"
    reader.advance(4)
    assert ring.is_empty()


def test_advance_across_the_end():
    ring = wrapped(b"abcdefghij")
    reader = ring.reader()
    reader.advance(8)
    assert reader.bytes() == b"ij"
    ring = wrapped(b"ab")
    ring.writer().advance(14)
    assert ring.is_full()
    ring.reader().advance(16)
    assert ring.is_empty()


@pytest.mark.parametrize("count", [-1, 11, 1 << 62, 1 << 100, -(1 << 100)])
def test_advancing_past_an_end(count):
    ring = wrapped(b"0123456789", capacity=20, place=15)
    with pytest.raises(ValueError):
        ring.reader().advance(count)
    with pytest.raises(ValueError):
        ring.writer().advance(count)
    assert (ring.reader().remaining(), ring.writer().remaining()) == (10, 10)
    assert content(ring) == b"0123456789"
    for end in (ring.reader(), ring.writer()):
        with pytest.raises(TypeError):
            end.advance("1")


def test_overflow_and_underflow():
    ring = wrapped(b"0123456789")
    with pytest.raises(EOFError):
        write_all(ring, b"1234567")
    with pytest.raises(EOFError):
        read_exact(ring, 11)
    assert content(ring) == b"0123456789"
    write_all(ring, b"abcdef")
    assert read_exact(ring, 16) == b"0123456789abcdef"


def test_what_wraps_around_is_moved_as_a_whole():
    ring = wrapped(b"ab")
    write_all(ring, b"0123456789")
    assert ring.reader().bytes() == b"ab012"
    assert read_exact(ring, 12) == b"ab0123456789"


def test_an_empty_ring_begins_anew():
    """What comes next lies in one piece."""
    ring = wrapped(b"ab")
    assert read_exact(ring, 2) == b"ab"
    write_all(ring, b"0123456789abcdef")
    assert ring.reader().bytes() == b"0123456789abcdef"
    ring = wrapped(b"ab")
    ring.reader().advance(2)
    assert len(ring.writer().mut_bytes()) == 16


def test_reading_does_not_move_the_writer():
    """A view to write to is good for as long as its writer does nothing else."""
    ring = wrapped(b"ab")
    view = ring.writer().mut_bytes()
    assert read_exact(ring, 2) == b"ab"
    assert ring.is_empty()
    view[:3] = b"xyz"
    ring.writer().advance(3)
    assert content(ring) == b"xyz"


def test_ends_by_their_types():
    ring = RingBuf(8)
    assert type(ring.reader()) is RingBufReader
    assert type(ring.writer()) is RingBufWriter
    write_all(RingBufWriter(ring), b"abc")
    assert RingBufReader(ring).bytes() == b"abc"
    for kind in (RingBufReader, RingBufWriter):
        for arguments in ((), (None,), (8,), (ring.reader(),)):
            with pytest.raises(TypeError):
                kind(*arguments)
        with pytest.raises(TypeError):
            kind.__new__(kind)


def test_the_wrong_end():
    ring = wrapped(b"abc")
    with pytest.raises(TypeError, match=r"reader\(\)"):
        read_exact(ring.writer(), 1)
    with pytest.raises(TypeError, match=r"writer\(\)"):
        write_all(ring.reader(), b"x")
    assert content(ring) == b"abc"


def test_an_end_keeps_its_ring():
    ring = RingBuf(8)
    write_all(ring, b"abc")
    reader = ring.reader()
    del ring
    assert reader.bytes() == b"abc"


def test_what_is_to_be_read_is_read_only():
    with pytest.raises(TypeError):
        wrapped(b"abc").reader().bytes()[0] = 1


@pytest.mark.parametrize("duplicate", [RingBuf.copy, copy.copy, copy.deepcopy])
def test_copies(duplicate):
    ring = wrapped(b"0123456789")
    other = duplicate(ring)
    assert type(other) is RingBuf
    assert other.capacity == 16
    assert read_exact(other, 10) == b"0123456789"
    write_all(other, b"other")
    assert content(ring) == b"0123456789"
    assert read_exact(ring, 10) == b"0123456789"
    assert content(other) == b"other"
    assert duplicate(RingBuf(3)).is_empty()


def test_written_to_from_itself():
    ring = wrapped(b"01234567")
    write_all(ring, ring.reader().bytes())
    assert content(ring) == b"0123456701234"


def test_repr():
    ring = wrapped(b"abc")
    assert repr(ring) == "<RingBuf: 3 of 16>"
    assert repr(ring.reader()) == "<RingBufReader: 3 to read>"
    assert repr(ring.writer()) == "<RingBufWriter: room for 13>"


# -- Against a bytearray ----------------------------------------------------------------------------------------------


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.binary(max_size=12)),
        st.tuples(st.just("fill"), st.binary(max_size=12)),
        st.tuples(st.just("read"), st.integers(0, 12)),
        st.tuples(st.just("take"), st.integers(-2, 14)),
        st.tuples(st.just("copy"), st.none()),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(st.integers(1, 12), OPERATIONS)
def test_any_operations(capacity, operations):
    ring, model = RingBuf(capacity), bytearray()
    for name, value in operations:
        reader, writer = ring.reader(), ring.writer()
        if name == "write":
            if len(model) + len(value) > capacity:
                with pytest.raises(EOFError):
                    write_all(ring, value)
            else:
                write_all(ring, value)
                model += value
        elif name == "fill":
            room = writer.mut_bytes()
            part = value[: len(room)]
            room[: len(part)] = part
            writer.advance(len(part))
            model += part
        elif name == "read":
            if value > len(model):
                with pytest.raises(EOFError):
                    read_exact(reader, value)
            else:
                assert read_exact(reader, value) == model[:value]
                del model[:value]
        elif name == "take":
            if 0 <= value <= len(model):
                reader.advance(value)
                del model[:value]
            else:
                with pytest.raises(ValueError):
                    reader.advance(value)
        else:
            ring = copy.copy(ring)
        check(ring, model)


def check(ring, model):
    reader, writer = ring.reader(), ring.writer()
    free = ring.capacity - len(model)
    assert (reader.remaining(), writer.remaining()) == (len(model), free)
    assert (reader.has_remaining(), writer.has_remaining()) == (len(model) > 0, free > 0)
    assert (ring.is_empty(), ring.is_full()) == (not model, not free)
    shown, room = reader.bytes(), writer.mut_bytes()
    assert shown == model[: len(shown)]
    assert (len(shown) > 0, len(room) > 0) == (len(model) > 0, free > 0)
    assert len(shown) <= len(model) and len(room) <= free
    assert content(ring) == model


@given(
    st.integers(1, 40),
    st.lists(
        st.tuples(st.sampled_from(["peer writes", "read_buf", "write_buf", "take", "put"]), st.integers(1, 50)),
        max_size=40,
    ),
)
@settings(deadline=None)
@pytest.mark.parametrize("make", SOCKETS)
def test_any_operations_through_a_socket(make, capacity, operations):
    """Bytes go in and out of the ring by a stream and by hand, in any order."""
    ours, theirs = make()
    ring, model = RingBuf(capacity), bytearray()
    number = 0
    waiting = sent = b""
    try:
        for name, size in operations:
            data = bytes((number + index) % 251 for index in range(size))
            if name == "peer writes":
                assert theirs.write(data) == size
                number += size
                waiting += data
            elif name == "read_buf":
                room = capacity - len(model)
                if not room:
                    with pytest.raises(ValueError, match="full"):
                        ours.read_buf(ring)
                elif not waiting:
                    assert ours.read_buf(ring) is None
                else:
                    wait_readable(ours)
                    count = ours.read_buf(ring.writer() if size % 2 else ring)
                    # What is on its way over loopback may come in parts.
                    assert 0 < count <= min(room, len(waiting))
                    model += waiting[:count]
                    waiting = waiting[count:]
            elif name == "write_buf":
                if not model:
                    with pytest.raises(ValueError, match="empty"):
                        ours.write_buf(ring)
                else:
                    assert ours.write_buf(ring.reader() if size % 2 else ring) == len(model)
                    sent += model
                    model.clear()
            elif name == "take":
                size = min(size, len(model))
                assert read_exact(ring, size) == model[:size]
                del model[:size]
            elif size <= capacity - len(model):
                write_all(ring, data)
                number += size
                model += data
            check(ring, model)
        received = b""
        while len(received) < len(sent):
            wait_readable(theirs)
            received += theirs.read(65536)
        assert received == sent
        assert theirs.read(1) is None
    finally:
        ours.close()
        theirs.close()


# -- Threads ----------------------------------------------------------------------------------------------------------


def test_one_thread_writes_and_another_reads():
    ring = RingBuf(61)
    total = 200_000
    pattern = bytes(range(251))
    stop = threading.Event()

    def write():
        done = 0
        while done < total and not stop.is_set():
            size = min(1 + done % 40, total - done)
            start = done % 251
            try:
                write_all(ring, (pattern + pattern)[start : start + size])
            except EOFError:
                # Let the other one have the GIL.
                time.sleep(0)
                continue
            done += size

    def read():
        done = 0
        reader = ring.reader()
        while done < total and not stop.is_set():
            view = reader.bytes()
            start = done % 251
            assert view == (pattern + pattern)[start : start + len(view)]
            reader.advance(len(view))
            done += len(view)
            if not view:
                time.sleep(0)
        return done

    workers = [Worker(write), Worker(read)]
    try:
        assert workers[1].finish(PATIENCE * 3) == total
        workers[0].finish()
    finally:
        stop.set()
    assert ring.is_empty()
