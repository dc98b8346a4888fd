"""read_buf and write_buf of streams and pipes."""

import contextlib
import os
import socket
import sys
import time

import pytest
from test_buf import Chunks, Rooms
from test_gil import Bystander
from test_ring_buf import content, wrapped
from util import (
    MOMENT,
    PATIENCE,
    READABLE,
    WINDOWS,
    WRITABLE,
    Worker,
    expect_no_events,
    expect_only,
    fill,
    mine,
    shrink,
    tcp_pair,
    wait_readable,
)

from metalio.buf import ByteBuf, RingBuf, read_exact, wrap, wrap_mut, write_all
from metalio.net import TcpStream, UnixStream

if not WINDOWS:
    import fcntl

    from metalio.unix import pipe


def pipe_pair():
    return mine(*pipe.new())


PAIRS = {"tcp": tcp_pair}
LOCAL = "tcp" if WINDOWS else "unix"
if not WINDOWS:
    PAIRS |= {"unix": lambda: mine(*UnixStream.pair()), "pipe": pipe_pair}


@pytest.fixture(params=PAIRS)
def ends(request):
    """The end that is written to, and the end that is read from."""
    return PAIRS[request.param]()


def put(sender, receiver, data):
    assert sender.write(data) == len(data)
    wait_readable(receiver)


# -- What they do -----------------------------------------------------------------------------------------------------


def test_filling_a_byte_buf(ends):
    sender, receiver = ends
    buf = ByteBuf(8)
    assert receiver.read_buf(buf) is None
    put(sender, receiver, b"hello")
    assert receiver.read_buf(buf) == 5
    assert buf.remaining() == 3
    put(sender, receiver, b"world")
    assert receiver.read_buf(buf) == 3
    with pytest.raises(ValueError, match="full"):
        receiver.read_buf(buf)
    buf.flip()
    assert read_exact(buf, 8) == b"hellowor"
    buf.clear()
    assert receiver.read_buf(buf) == 2
    sender.close()
    wait_readable(receiver)
    assert receiver.read_buf(buf) == 0
    assert receiver.read_buf(buf) == 0
    buf.flip()
    assert read_exact(buf, 2) == b"ld"


def test_draining_a_byte_buf(ends):
    sender, receiver = ends
    buf = ByteBuf(8)
    write_all(buf, b"hello")
    buf.flip()
    buf.advance(1)
    assert sender.write_buf(buf) == 4
    assert buf.remaining() == 0
    with pytest.raises(ValueError, match="empty"):
        sender.write_buf(buf)
    wait_readable(receiver)
    assert receiver.read(100) == b"ello"
    assert receiver.read(100) is None


@pytest.mark.parametrize("whole", [True, False])
def test_a_ring(ends, whole):
    sender, receiver = ends
    ring = wrapped(b"ab")
    put(sender, receiver, b"0123456789")
    assert receiver.read_buf(ring if whole else ring.writer()) == 10
    assert content(ring) == b"ab0123456789"
    assert sender.write_buf(ring if whole else ring.reader()) == 12
    assert ring.is_empty()
    with pytest.raises(ValueError, match="empty"):
        sender.write_buf(ring)
    wait_readable(receiver)
    assert receiver.read_buf(ring) == 12
    write_all(ring, b"full")
    with pytest.raises(ValueError, match="full"):
        receiver.read_buf(ring)
    assert read_exact(ring, 16) == b"ab0123456789full"


def test_slices(ends):
    sender, receiver = ends
    data = bytearray(6)
    there, here = wrap(b"hello"), wrap_mut(data)
    assert sender.write_buf(there) == 5
    assert not there.has_remaining()
    wait_readable(receiver)
    assert receiver.read_buf(here) == 5
    assert here.remaining() == 1
    assert data == b"hello\0"
    for call in (lambda: sender.write_buf(there), lambda: sender.write_buf(wrap(b""))):
        with pytest.raises(ValueError, match="empty"):
            call()
    with pytest.raises(ValueError, match="full"):
        receiver.read_buf(wrap_mut(bytearray()))
    del here
    data.append(1)


def test_buffers_of_others(ends):
    sender, receiver = ends
    there, here = Chunks(b"hel", b"l", b"o wor", b"ld"), Rooms(2, 3, 10)
    assert sender.write_buf(there) == 11
    assert there.calls == [3, 1, 5, 2]
    wait_readable(receiver)
    assert receiver.read_buf(here) == 11
    assert here.calls == [2, 3, 6]
    assert here.content == b"hello world"
    assert receiver.read_buf(here) is None
    with pytest.raises(ValueError, match="empty"):
        sender.write_buf(there)
    with pytest.raises(ValueError, match="full"):
        receiver.read_buf(Rooms())
    sender.close()
    wait_readable(receiver)
    assert receiver.read_buf(here) == 0
    assert here.remaining() == 4


def test_the_end_behind_the_last_piece(ends):
    """It is told by the next call."""
    sender, receiver = ends
    put(sender, receiver, b"abc")
    sender.close()
    here = Rooms(3, 3)
    assert receiver.read_buf(here) == 3
    assert receiver.read_buf(here) == 0
    assert here.content == b"abc"


def test_no_more_is_moved_than_remains(ends):
    """Whatever pieces they give."""
    sender, receiver = ends

    class Generous(Rooms):
        def remaining(self):
            return 4 - len(self.content)

    put(sender, receiver, b"0123456789")
    here = Generous(10)
    assert receiver.read_buf(here) == 4
    assert here.content == b"0123"
    with pytest.raises(ValueError, match="full"):
        receiver.read_buf(here)
    assert receiver.read(10) == b"456789"


# -- What they refuse -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [bytearray(3), memoryview(bytearray(3)), b"abc", None, 8, object()], ids=type)
def test_what_is_no_buffer(ends, other):
    sender, receiver = ends
    with pytest.raises(TypeError, match="expected a buffer"):
        receiver.read_buf(other)
    with pytest.raises(TypeError, match="expected a buffer"):
        sender.write_buf(other)


def test_the_wrong_direction(ends):
    sender, receiver = ends
    buf = ByteBuf(8)
    write_all(buf, b"abc")
    put(sender, receiver, b"x")
    with pytest.raises(ValueError, match=r"flip\(\)"):
        sender.write_buf(buf)
    buf.flip()
    with pytest.raises(ValueError, match=r"flip\(\)"):
        receiver.read_buf(buf)
    ring = RingBuf(8)
    for wrong in (ring.reader(), wrap(bytearray(3))):
        with pytest.raises(TypeError):
            receiver.read_buf(wrong)
    for wrong in (ring.writer(), wrap_mut(bytearray(3))):
        with pytest.raises(TypeError):
            sender.write_buf(wrong)
    assert read_exact(buf, 3) == b"abc"
    assert receiver.read(10) == b"x"


def test_closed_streams(ends):
    sender, receiver = ends
    sender.close()
    receiver.close()
    buf, data, ring = ByteBuf(8), bytearray(3), wrapped(b"ab")
    for room in (buf, ring, ring.writer(), wrap_mut(data), Rooms(3)):
        with pytest.raises(ValueError, match="closed"):
            receiver.read_buf(room)
    write_all(buf, b"abc")
    buf.flip()
    for left in (buf, ring, ring.reader(), wrap(data), Chunks(b"abc")):
        with pytest.raises(ValueError, match="closed"):
            sender.write_buf(left)
    # Nothing is kept busy, nothing is held.
    assert read_exact(buf, 3) == b"abc"
    write_all(ring, b"cd")
    assert content(ring) == b"abcd"
    data.append(1)


def test_failing_streams_leave_the_buffer_as_it_was(ends):
    sender, receiver = ends
    receiver.close()
    ring = wrapped(b"0123456789")
    # On Windows the reset takes a while, and stays what is told.
    broken = ConnectionError if WINDOWS else BrokenPipeError
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(OSError):
        while time.monotonic() < deadline:
            sender.write_buf(wrap(b"x"))
    for buf in (ring, ring.reader()):
        with pytest.raises(broken):
            sender.write_buf(buf)
    assert content(ring) == b"0123456789"
    write_all(ring, b"abcdef")
    there = Chunks(b"abc")
    with pytest.raises(broken):
        sender.write_buf(there)
    assert there.chunks == [b"abc"]


def test_would_block_leaves_the_buffer_as_it_was(ends):
    sender, _ = ends
    fill(sender)
    while sender.write(b"x"):
        pass
    there, ring, data = Chunks(b"abc"), wrapped(b"0123456789"), bytearray(b"abc")
    for buf in (ring, ring.reader(), there, wrap(data)):
        assert sender.write_buf(buf) is None
    assert (there.chunks, content(ring)) == ([b"abc"], b"0123456789")
    del buf
    data.append(1)


@pytest.mark.parametrize("kind", PAIRS)
def test_would_block_leaves_the_room_as_it_was(kind):
    _, receiver = PAIRS[kind]()
    ring, data, here = wrapped(b"ab"), bytearray(3), Rooms(3)
    for buf in (ring, ring.writer(), wrap_mut(data), here):
        assert receiver.read_buf(buf) is None
    del buf
    data.append(1)
    write_all(ring, b"cd")
    assert content(ring) == b"abcd"
    assert here.calls == []


def test_an_error_behind_the_first_piece_is_kept_for_the_next_call():
    ours, theirs = tcp_pair()
    ours.write(b"never read, which makes the close a reset")
    theirs.write(b"abc")
    theirs.close()
    here = Rooms(3, 3)
    assert ours.read_buf(here) == 3
    with pytest.raises(ConnectionResetError):
        ours.read_buf(here)
    assert here.content == b"abc"


# -- One system call --------------------------------------------------------------------------------------------------


class Disguised(socket.socket):
    """Not what it says."""

    def getsockopt(self, *arguments):
        return socket.SOCK_STREAM


def message_ends(kind):
    """Two ends where what one call writes is read by one call, or else is lost; and never joined."""
    if kind == "pipe":
        reading, writing = os.pipe2(os.O_DIRECT)
        return (
            mine(pipe.Sender.from_file(open(writing, "wb", buffering=0))),
            mine(pipe.Receiver.from_file(open(reading, "rb", buffering=0))),
        )
    family, make = {
        "tcp": (socket.AF_INET, TcpStream.from_socket),
        "unix": (socket.AF_UNIX, UnixStream.from_socket),
    }[kind]
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return [mine(make(Disguised(family, socket.SOCK_STREAM, fileno=end.detach()))) for end in pair]


@pytest.mark.parametrize("kind", PAIRS)
def test_what_wraps_around_takes_one_system_call(kind):
    sender, receiver = message_ends(kind)
    ring = wrapped(b"ab")
    assert len(ring.writer().mut_bytes()) == 3
    # A second call would not find the rest of it any more, but "other".
    sender.write(b"0123456789")
    sender.write(b"other")
    assert receiver.read_buf(ring) == 10
    assert content(ring) == b"ab0123456789"
    assert receiver.read(100) == b"other"
    # A second call would make another message.
    assert len(ring.reader().bytes()) == 5
    assert sender.write_buf(ring) == 12
    assert receiver.read(100) == b"ab0123456789"
    assert receiver.read(100) is None


# -- Edges ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize(
    "make", [ByteBuf, RingBuf, lambda size: wrapped(b"a", size + 1, size - 10), lambda size: Rooms(10, size - 10)]
)
def test_a_short_read_ends_the_drain(poll, events, kind, make):
    sender, receiver = PAIRS[kind]()
    poll.registry.register(receiver, "r", READABLE)
    buf = make(64)
    for size in (10, 20):
        sender.write(b"x" * size)
        expect_only(poll, events, "r", "readable")
        assert receiver.read_buf(buf) == size
        expect_no_events(poll, events)


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("make", [wrap, lambda data: Chunks(data[:1000], data[1000:])])
def test_a_short_write_ends_the_drain(poll, events, kind, make):
    sender, receiver = PAIRS[kind]()
    if kind != "pipe":
        shrink(sender, receiver)
    poll.registry.register(sender, "s", WRITABLE)
    expect_only(poll, events, "s", "writable")
    data = b"x" * (4 << 20)
    buf = make(data)
    count = sender.write_buf(buf)
    assert 0 < count < len(data)
    assert buf.remaining() == len(data) - count
    deadline = time.monotonic() + PATIENCE
    while poll.poll(events, MOMENT) == 0:
        assert time.monotonic() < deadline, "the sender is not reported again"
        while receiver.read(1 << 20):
            pass
    assert [event.token for event in events] == ["s"]
    assert sender.write_buf(buf) > 0


def test_a_buffer_that_gave_less_than_it_had_said(poll, events):
    """The read is short without having read all; so there is another event."""
    sender, receiver = PAIRS[LOCAL]()
    poll.registry.register(receiver, "r", READABLE)

    class Cramped(Rooms):
        def remaining(self):
            return super().remaining() + 10

    put(sender, receiver, b"0123456789")
    expect_only(poll, events, "r", "readable")
    here = Cramped(4)
    assert receiver.read_buf(here) == 4
    expect_only(poll, events, "r", "readable")
    with pytest.raises(ValueError, match="gives none"):
        receiver.read_buf(here)
    assert receiver.read(10) == b"456789"


# -- Large ones, which go on without the GIL --------------------------------------------------------------------------

LARGE = 1 << 20


def large_pipe():
    if WINDOWS:
        pytest.skip("Windows has no pipes that take a megabyte")
    sender, receiver = pipe_pair()
    try:
        fcntl.fcntl(sender, fcntl.F_SETPIPE_SZ, LARGE)
    except PermissionError:
        pytest.skip("no pipe of that size for this user")
    return sender, receiver


@pytest.mark.parametrize("place", [0, 5, LARGE // 2, LARGE - 5])
def test_large_rings(place):
    sender, receiver = large_pipe()
    data = os.urandom(LARGE)
    ring = RingBuf(LARGE)
    ring.writer().advance(place + 1)
    ring.reader().advance(place)
    assert sender.write(data) == LARGE
    assert receiver.read_buf(ring) == LARGE - 1
    ring.reader().advance(1)
    assert receiver.read_buf(ring) == 1
    assert content(ring) == data
    assert sender.write_buf(ring) == LARGE
    back = bytearray(LARGE)
    assert receiver.readinto(back) == LARGE
    assert back == data


needs_gil = pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="there is no GIL here")


def meet(prepare, call, meddle):
    """Have another thread meddle while `call` goes on without the GIL.  It may miss a chance, so there are several."""
    for _ in range(200):
        prepare()
        chance, met, errors = [True], [], []

        def action(chance=chance, met=met, errors=errors):
            if chance:
                met.append(True)
                try:
                    meddle()
                except BaseException as error:
                    errors.append(error)

        with Bystander(action).waiting():
            result = call()
            chance.clear()
        if errors:
            raise errors[0]
        if met:
            return result
    raise AssertionError("the call never gave up the GIL")


def all_refused(*calls):
    for call in calls:
        with pytest.raises(RuntimeError, match="under way"):
            call()


@needs_gil
def test_nobody_gets_at_a_byte_buf_in_between():
    sender, receiver = large_pipe()
    data = os.urandom(LARGE)
    buf = ByteBuf(LARGE)

    def prepare():
        while receiver.read(LARGE):
            pass
        buf.clear()
        assert sender.write(data) == LARGE

    def meddle():
        all_refused(
            lambda: buf.advance(1),
            buf.flip,
            buf.clear,
            lambda: receiver.read_buf(buf),
            lambda: write_all(buf, b"x"),
            lambda: write_all(buf, b""),
        )

    assert meet(prepare, lambda: receiver.read_buf(buf), meddle) == LARGE
    buf.flip()
    assert buf.bytes() == data

    def prepare_to_write():
        prepare()
        assert receiver.read_buf(buf) == LARGE
        buf.flip()

    def meddle_with_reading():
        all_refused(
            lambda: buf.advance(1),
            buf.flip,
            buf.clear,
            lambda: sender.write_buf(buf),
            lambda: read_exact(buf, 1),
            lambda: read_exact(buf, LARGE + 1),
        )

    assert meet(prepare_to_write, lambda: sender.write_buf(buf), meddle_with_reading) == LARGE
    assert buf.remaining() == 0


@needs_gil
def test_nobody_gets_at_slices_in_between():
    sender, receiver = large_pipe()
    data = os.urandom(LARGE)

    def prepare():
        nonlocal there, here
        while receiver.read(LARGE):
            pass
        there, here = wrap(data), wrap_mut(bytearray(LARGE))

    def prepare_to_read():
        prepare()
        assert sender.write(data) == LARGE

    there = here = None
    assert (
        meet(
            prepare,
            lambda: sender.write_buf(there),
            lambda: all_refused(lambda: there.advance(1), lambda: read_exact(there, 1)),
        )
        == LARGE
    )
    assert (
        meet(
            prepare_to_read,
            lambda: receiver.read_buf(here),
            lambda: all_refused(lambda: here.advance(1), lambda: write_all(here, b"x")),
        )
        == LARGE
    )
    assert (there.remaining(), here.remaining()) == (LARGE, 0)


@needs_gil
def test_a_ring_can_be_read_from_while_it_is_written_to():
    sender, receiver = large_pipe()
    data = os.urandom(LARGE)
    ring = RingBuf(2 * LARGE)
    reader, writer = ring.reader(), ring.writer()
    taken = []

    def prepare():
        while receiver.read(LARGE):
            pass
        taken.clear()
        reader.advance(reader.remaining())
        write_all(ring, data)
        reader.advance(LARGE - 5)
        assert sender.write(data) == LARGE

    def take():
        # It becomes empty, and yet does not begin anew, since something is on its way in.
        taken.append(read_exact(ring, 5))
        taken.append(len(writer.mut_bytes()))
        all_refused(lambda: writer.advance(1), lambda: write_all(ring, b"x"), lambda: receiver.read_buf(ring))

    assert meet(prepare, lambda: receiver.read_buf(ring), take) == LARGE
    assert taken == [data[-5:], LARGE]
    assert content(ring) == data

    def prepare_to_write():
        while receiver.read(LARGE):
            pass
        reader.advance(reader.remaining())
        write_all(ring, data)

    def put():
        write_all(ring, b"more")
        all_refused(lambda: reader.advance(1), lambda: read_exact(ring, 1), lambda: sender.write_buf(ring))

    assert meet(prepare_to_write, lambda: sender.write_buf(ring), put) == LARGE
    assert content(ring) == b"more"


@needs_gil
def test_a_stream_that_is_closed_in_between():
    sender = receiver = None
    buf = ByteBuf(LARGE)

    def prepare():
        nonlocal sender, receiver
        sender, receiver = large_pipe()
        buf.clear()
        assert sender.write(bytes(LARGE)) == LARGE

    assert meet(prepare, lambda: receiver.read_buf(buf), lambda: receiver.close()) == LARGE
    assert receiver.closed
    with pytest.raises(ValueError, match="closed"):
        receiver.read_buf(ByteBuf(1))


def test_transfers_in_several_threads():
    """A ring between two streams, each with a thread of its own."""
    source, entry = tcp_pair()
    exit, sink = tcp_pair()
    ring = RingBuf(4099)
    data = os.urandom(1 << 20)

    def feed():
        view = memoryview(data)
        while view:
            count = source.write(view)
            view = view[count or 0 :]
        source.close()

    def into():
        while True:
            try:
                if entry.read_buf(ring) == 0:
                    return
            except ValueError:
                time.sleep(0)

    def out():
        left = len(data)
        while left:
            try:
                left -= exit.write_buf(ring) or 0
            except ValueError:
                time.sleep(0)
        exit.close()

    def collect():
        pieces = []
        while (piece := sink.read(65536)) != b"":
            if piece is None:
                wait_readable(sink)
            else:
                pieces.append(piece)
        return b"".join(pieces)

    workers = [Worker(function) for function in (feed, into, out)]
    assert Worker(collect).finish(PATIENCE * 3) == data
    for worker in workers:
        worker.finish()


# -- Callers' code ----------------------------------------------------------------------------------------------------


def test_buffers_that_close_the_stream():
    sender, receiver = PAIRS[LOCAL]()

    class Closing(Rooms):
        def advance(self, count):
            super().advance(count)
            receiver.close()

    put(sender, receiver, b"0123456789")
    here = Closing(4, 4)
    with pytest.raises(ValueError, match="closed"):
        receiver.read_buf(here)
    assert here.content == b"0123"


def test_buffers_that_read_on():
    sender, receiver = PAIRS[LOCAL]()

    class Greedy(Rooms):
        def advance(self, count):
            super().advance(count)
            read.append(receiver.read(2))

    read = []
    put(sender, receiver, b"0123456789")
    here = Greedy(3, 3)
    assert receiver.read_buf(here) == 6
    assert (here.content, read) == (b"012567", [b"34", b"89"])


def test_exceptions_of_theirs_propagate():
    sender, receiver = PAIRS[LOCAL]()
    memory = bytearray(4)

    class Failing:
        def remaining(self):
            return 4

        def mut_bytes(self):
            return memory

        bytes = mut_bytes

        def advance(self, count):
            raise ConnectionResetError("mine")

    put(sender, receiver, b"0123456789")
    with pytest.raises(ConnectionResetError, match="mine"):
        receiver.read_buf(Failing())
    with pytest.raises(ConnectionResetError, match="mine"):
        receiver.write_buf(Failing())
    assert memory == b"0123"
    memory.append(1)
    assert receiver.read(10) == b"456789"


@pytest.mark.parametrize("piece", [b"0123", None, "0123", memoryview(bytearray(8))[::2]], ids=repr)
def test_pieces_that_cannot_be_written(piece):
    sender, receiver = PAIRS[LOCAL]()

    class Odd(Rooms):
        def mut_bytes(self):
            return piece

    put(sender, receiver, b"x")
    with pytest.raises((TypeError, BufferError)):
        receiver.read_buf(Odd(4))
    assert receiver.read(1) == b"x"


def test_references_are_given_back(ends):
    sender, receiver = ends
    buf, ring, data = ByteBuf(64), RingBuf(64), bytearray(64)
    ends_of_ring = (ring.reader(), ring.writer())
    put(sender, receiver, b"x" * 60)
    things = (sender, receiver, buf, ring, *ends_of_ring, data)
    before = [sys.getrefcount(thing) for thing in things]
    for _ in range(3):
        for room in (buf, ring, ends_of_ring[1], wrap_mut(data)):
            assert receiver.read_buf(room) in (60, 4)
            put(sender, receiver, b"x" * 60)
            if room is buf:
                buf.clear()
            else:
                ends_of_ring[0].advance(ring.reader().remaining())
            while receiver.read(1000):
                pass
            put(sender, receiver, b"x" * 60)
            with pytest.raises(ValueError):
                receiver.read_buf(wrap_mut(bytearray()))
            with pytest.raises(ValueError):
                sender.write_buf(ring)
    del room
    assert [sys.getrefcount(thing) for thing in things] == before
