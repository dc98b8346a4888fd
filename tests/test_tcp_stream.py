"""TcpStream."""

import array
import ctypes
import errno
import io
import mmap
import signal
import socket
import sys
import threading
import time
import weakref

import pytest
from util import (
    BOTH,
    PATIENCE,
    READABLE,
    WINDOWS,
    WRITABLE,
    Worker,
    accept,
    close_all,
    count_fds,
    drain,
    expect_events,
    expect_no_events,
    expect_only,
    fill,
    is_blocking,
    is_inheritable,
    is_open,
    mine,
    read_exactly,
    run_python,
    same_socket,
    shrink,
    sleeping,
    tcp_listener,
    tcp_pair,
    wait_readable,
    wait_writable,
)

from metalio import Events, Poll, PollOpt
from metalio.net import TcpListener, TcpStream

LARGE = 8 << 20
PATTERN = bytes(range(251))


def pattern(size):
    """Bytes in which a shift or a gap shows."""
    return (PATTERN * (size // 251 + 1))[:size]


@pytest.fixture
def pair():
    return tcp_pair()


def roomy_pair(size=400_000):
    """A pair of which the second takes in so much while nobody reads."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size * 4)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        with TcpListener.from_socket(sock) as listener:
            client = mine(TcpStream.connect(listener.local_addr))
            server, _ = accept(listener)
    return client, server


def wait_for(stream, size):
    """Wait until so much has arrived."""
    deadline = time.monotonic() + PATIENCE
    while len(stream.peek(size) or b"") < size:
        assert time.monotonic() < deadline
        wait_readable(stream)


def reset(stream, peer):
    """Have the peer reset the connection."""
    peer.linger = 0
    peer.close()
    wait_readable(stream)


# -- Connecting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("addr", ["127.0.0.1:0", "[::1]:0"])
def test_connect(poll, events, addr):
    listener = tcp_listener(addr)
    stream = mine(TcpStream.connect(listener.local_addr))
    assert is_blocking(stream.fileno()) is False
    assert is_inheritable(stream.fileno()) is False
    assert repr(stream) == f"<TcpStream fd={stream.fileno()}>"
    poll.registry.register(stream, "t", BOTH)
    expect_events(poll, events, {"t": "writable"})
    assert stream.take_error() is None
    server, peer = accept(listener)
    assert stream.peer_addr == server.local_addr == listener.local_addr
    assert stream.local_addr == server.peer_addr == peer


def test_connect_by_string_and_by_tuple():
    listener = tcp_listener()
    host, port = listener.local_addr
    for addr in ((host, port), f"{host}:{port}"):
        wait_writable(mine(TcpStream.connect(addr)))
        accept(listener)


@pytest.mark.parametrize("opts", [PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT], ids=repr)
def test_refused(poll, events, opts):
    listener = tcp_listener()
    addr = listener.local_addr
    listener.close()
    stream = mine(TcpStream.connect(addr))
    poll.registry.register(stream, "t", WRITABLE, opts)
    expect_events(poll, events, {"t": {"writable", "error"}})
    error = stream.take_error()
    assert isinstance(error, ConnectionRefusedError)
    assert error.errno == errno.ECONNREFUSED
    assert stream.take_error() is None
    with pytest.raises(OSError, match="not connected"):
        _ = stream.peer_addr


def test_a_refused_connection_tells_by_reading_and_writing():
    listener = tcp_listener()
    addr = listener.local_addr
    listener.close()
    for use in (lambda stream: stream.read(1), lambda stream: stream.write(b"x")):
        stream = mine(TcpStream.connect(addr))
        wait_readable(stream)
        with pytest.raises(ConnectionRefusedError):
            use(stream)


def test_unreachable():
    before = count_fds()
    with pytest.raises(OSError) as caught:
        TcpStream.connect("255.255.255.255:80")
    assert caught.value.errno in (errno.ENETUNREACH, errno.EACCES, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL)
    assert count_fds() == before


def test_connect_arguments():
    with pytest.raises(TypeError):
        TcpStream.connect()
    with pytest.raises(TypeError, match="class methods"):
        TcpStream()
    with pytest.raises(ValueError, match="resolve"):
        TcpStream.connect("localhost:80")


# -- Reading ----------------------------------------------------------------------------------------------------------


def test_would_block(pair):
    stream, _ = pair
    buffer = bytearray(b"unchanged")
    assert stream.read(10) is None
    assert stream.read() is None
    assert stream.readall() is None
    assert stream.readinto(buffer) is None
    assert stream.readv([buffer]) is None
    assert stream.peek(10) is None
    assert stream.peekinto(buffer) is None
    assert buffer == b"unchanged"
    assert stream.read(LARGE) is None
    assert stream.readinto(bytearray(LARGE)) is None
    assert stream.readv([bytearray(LARGE)] * 2) is None
    assert stream.readv([bytearray(1)] * 2000) is None


def test_end_of_stream(pair):
    stream, peer = pair
    peer.close()
    wait_readable(stream)
    buffer = bytearray(b"unchanged")
    for _ in range(2):
        assert stream.read(10) == b""
        assert stream.read() == b""
        assert stream.readall() == b""
        assert stream.readinto(buffer) == 0
        assert stream.readv([buffer, buffer]) == 0
        assert stream.peek(10) == b""
        assert stream.peekinto(buffer) == 0
        assert stream.read(LARGE) == b""
        assert stream.readinto(bytearray(LARGE)) == 0
    assert buffer == b"unchanged"


@pytest.mark.parametrize("size", [1, 2, 10, 100, 65535, 65536, 65537, 1 << 20])
def test_read_sizes(pair, size):
    stream, peer = pair
    peer.write(b"0123456789")
    wait_readable(stream)
    got = stream.read(size)
    assert type(got) is bytes
    assert got == b"0123456789"[:size]
    assert drain(stream) == b"0123456789"[size:]


def test_read_nothing(pair):
    stream, peer = pair
    assert stream.read(0) == b""
    assert stream.peek(0) == b""
    assert stream.readinto(bytearray()) == 0
    assert stream.peekinto(bytearray()) == 0
    assert stream.readv([]) == 0
    assert stream.readv([bytearray(), bytearray()]) == 0
    assert stream.readv([bytearray()] * 3000) == 0
    peer.write(b"x")
    wait_readable(stream)
    assert stream.read(0) == b""
    assert stream.readv([bytearray()] * 3000) == 0
    assert stream.read(5) == b"x"


@pytest.mark.parametrize("size", [-1, -2, -sys.maxsize])
def test_read_all(pair, size):
    stream, peer = pair
    peer.write(b"0123456789")
    wait_readable(stream)
    assert stream.read(size) == b"0123456789"
    assert stream.read(size) is None
    peer.write(b"abc")
    peer.close()
    wait_readable(stream)
    assert stream.read(size) == b"abc"
    assert stream.read(size) == b""


def test_read_all_of_much(pair):
    stream, peer = pair
    data = pattern(1 << 20)
    sent = peer.write(data)
    got = b""
    while len(got) < sent:
        wait_readable(stream)
        got += stream.readall() or b""
    assert got == data[:sent]


@pytest.mark.parametrize("size", [1 << 40, 1 << 62, sys.maxsize])
def test_read_more_than_memory_holds(pair, size):
    """It may fail, but takes nothing away then."""
    stream, peer = pair
    data = pattern(150_000)
    assert peer.write(data) == len(data)
    got = b""
    while len(got) < len(data):
        wait_readable(stream)
        try:
            got += stream.read(size)
        except (MemoryError, OverflowError):
            got += stream.read(len(data)) or b""
    assert got == data


@pytest.mark.parametrize("size", [1 << 64, -(1 << 64)])
def test_read_sizes_beyond_all_numbers(pair, size):
    stream, peer = pair
    peer.write(b"x")
    wait_readable(stream)
    for read in (stream.read, stream.peek):
        with pytest.raises((OverflowError, ValueError)):
            read(size)
    assert stream.read(5) == b"x"


@pytest.mark.parametrize("size", ["1", 1.0, None, b"1", [], object()])
def test_read_sizes_of_a_wrong_type(pair, size):
    stream, _ = pair
    for read in (stream.read, stream.peek):
        with pytest.raises(TypeError):
            read(size)


def test_peek(pair):
    stream, peer = pair
    peer.write(b"0123456789")
    wait_readable(stream)
    buffer = bytearray(20)
    for _ in range(2):
        assert stream.peek(4) == b"0123"
        assert stream.peek(100) == b"0123456789"
        assert stream.peekinto(buffer) == 10
        assert buffer[:10] == b"0123456789"
    assert stream.read(100) == b"0123456789"
    for size in (-1, -100):
        with pytest.raises(ValueError, match="negative"):
            stream.peek(size)
    with pytest.raises(TypeError):
        stream.peek()
    with pytest.raises((MemoryError, OverflowError)):
        stream.peek(sys.maxsize)


def test_readinto_kinds_of_buffers(pair):
    stream, peer = pair
    mapped = mmap.mmap(-1, 4096)
    for buffer in (
        bytearray(4),
        memoryview(bytearray(4)),
        memoryview(bytearray(8))[2:6],
        array.array("i", [0]),
        (ctypes.c_char * 4)(),
        mapped,
    ):
        peer.write(b"abcd")
        wait_readable(stream)
        assert stream.readinto(buffer) == 4
        assert bytes(memoryview(buffer).cast("B"))[:4] == b"abcd"
    mapped.close()
    buffer = memoryview(bytearray(8))
    peer.write(b"abcd")
    wait_readable(stream)
    assert stream.readinto(buffer[2:4]) == 2
    assert bytes(buffer) == b"\0\0ab\0\0\0\0"
    assert stream.readinto(buffer) == 2
    assert bytes(buffer) == b"cdab\0\0\0\0"


def released():
    view = memoryview(bytearray(8))
    view.release()
    return view


NOT_WRITABLE = [b"bytes", memoryview(b"bytes"), memoryview(bytearray(5)).toreadonly()]
NO_BUFFERS = ["text", None, 5, 1.5, [], object(), {}]
ODD_BUFFERS = [memoryview(bytearray(8))[::2], memoryview(bytearray(8))[::-1]]


@pytest.mark.parametrize(
    "wrap", [lambda buffer: buffer, lambda buffer: [buffer], lambda buffer: [bytearray(2), buffer]]
)
def test_buffers_that_cannot_be_read_into(pair, wrap):
    stream, peer = pair
    peer.write(b"x")
    wait_readable(stream)
    reads = [stream.readinto, stream.peekinto] if not isinstance(wrap(b""), list) else [stream.readv]
    for read in reads:
        for buffer in NOT_WRITABLE + NO_BUFFERS:
            with pytest.raises(TypeError):
                read(wrap(buffer))
        for buffer in ODD_BUFFERS:
            with pytest.raises((BufferError, ValueError)):
                read(wrap(buffer))
        with pytest.raises(ValueError):
            read(wrap(released()))
    # Nothing was taken, and nothing is held.
    assert stream.read(10) == b"x"


def test_a_readonly_buffer_gets_a_hint(pair):
    stream, _ = pair
    with pytest.raises(TypeError, match="writable buffer such as a bytearray, not bytes"):
        stream.readinto(b"bytes")


def test_buffers_are_given_back(pair):
    stream, peer = pair
    buffers = [bytearray(4) for _ in range(20)]

    def all_free():
        for buffer in buffers:
            # A bytearray that is exported cannot be resized.
            buffer.append(0)
            buffer.pop()

    def calls():
        yield lambda: stream.readinto(buffers[0])
        yield lambda: stream.peekinto(buffers[0])
        yield lambda: stream.readv(buffers[:3])
        yield lambda: stream.readv(buffers)
        yield lambda: stream.readv([*buffers, b"readonly"])
        yield lambda: stream.readv([*buffers[:3], None])
        yield lambda: stream.write(buffers[0])
        yield lambda: stream.writev(buffers)
        yield lambda: stream.writev([*buffers, "text"])

    for _ in range(2):
        for call in calls():
            before = [sys.getrefcount(buffer) for buffer in buffers]
            try:
                call()
            except (TypeError, ValueError):
                pass
            all_free()
            assert [sys.getrefcount(buffer) for buffer in buffers] == before
        peer.write(b"x" * 1000)
        wait_readable(stream)
    stream.close()
    for call in calls():
        with pytest.raises((TypeError, ValueError)):
            call()
        all_free()


# -- Writing ----------------------------------------------------------------------------------------------------------


def test_write_kinds_of_buffers(pair):
    stream, peer = pair
    for data in (
        b"abcd",
        bytearray(b"abcd"),
        memoryview(b"abcd"),
        memoryview(b"..abcd..")[2:6],
        array.array("B", b"abcd"),
        array.array("i", [1]),
        (ctypes.c_char * 4)(*b"abcd"),
        type("Bytes", (bytes,), {})(b"abcd"),
    ):
        assert stream.write(data) == 4
        assert read_exactly(peer, 4) == bytes(memoryview(data).cast("B"))


def test_write_nothing(pair):
    stream, peer = pair
    for data in (b"", bytearray(), memoryview(b"")):
        assert stream.write(data) == 0
    assert stream.writev([]) == 0
    assert stream.writev([b"", b""]) == 0
    assert stream.writev([b""] * 3000) == 0
    fill(stream)
    assert stream.write(b"") == 0
    assert peer.read(0) == b""


@pytest.mark.parametrize("data", ["text", None, 5, [], object()], ids=lambda data: type(data).__name__)
def test_write_wrong_types(pair, data):
    stream, peer = pair
    with pytest.raises(TypeError):
        stream.write(data)
    with pytest.raises(TypeError):
        stream.writev([b"x", data])
    with pytest.raises(TypeError):
        stream.writev(5)
    with pytest.raises(TypeError):
        stream.write()
    assert peer.read(1) is None


def test_write_odd_buffers(pair):
    stream, peer = pair
    for data in ODD_BUFFERS:
        with pytest.raises((BufferError, ValueError)):
            stream.write(data)
        with pytest.raises((BufferError, ValueError)):
            stream.writev([b"x", data])
    with pytest.raises(ValueError):
        stream.write(released())
    assert peer.read(1) is None


def test_write_until_it_would_block(pair):
    stream, peer = pair
    total = fill(stream)
    for write in (
        lambda: stream.write(b"x"),
        lambda: stream.writev([b"x", b"y"]),
        lambda: stream.write(bytes(LARGE)),
        lambda: stream.writev([bytes(LARGE)]),
    ):
        # What the peer's side of the kernel takes over meanwhile makes room here.
        while (sent := write()) is not None:
            assert sent > 0
            total += sent
    assert len(read_exactly(peer, total)) == total
    wait_writable(stream)
    assert stream.write(b"x") == 1


def test_the_whole_write_is_tried(pair):
    """A write is short only where no more could be written: not for its size."""
    stream, peer = pair
    data = pattern(LARGE * 4)
    sent = stream.write(data)
    assert 65536 < sent < len(data)
    assert read_exactly(peer, sent) == data[:sent]


def test_write_after_the_peer_is_gone(pair):
    stream, peer = pair
    reset(stream, peer)
    before = signal.getsignal(signal.SIGPIPE)
    # The default is to die of it.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        with pytest.raises(ConnectionResetError):
            stream.write(b"x")
        for _ in range(2):
            with pytest.raises(BrokenPipeError):
                stream.write(b"x")
            with pytest.raises(BrokenPipeError):
                stream.writev([b"x", b"y"])
            with pytest.raises(BrokenPipeError):
                stream.write(bytes(LARGE))
            with pytest.raises(BrokenPipeError):
                stream.writev([bytes(LARGE)] * 10)
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert stream.read(1) == b""


def test_read_after_a_reset(pair):
    stream, peer = pair
    reset(stream, peer)
    with pytest.raises(ConnectionResetError):
        stream.read(1)
    assert stream.read(1) == b""


@pytest.mark.parametrize("size", [1, 1000, 65536, 65537, 200_000, 262144, 300_000])
@pytest.mark.parametrize("how", ["read", "readall", "readinto", "readv", "pieces"])
def test_what_came_before_a_reset_is_not_lost(size, how):
    peer, stream = roomy_pair()
    data = pattern(size)
    assert peer.write(data) == size
    # The reset throws away what is still under way.
    wait_for(stream, size)
    reset(stream, peer)
    got = b""
    ended = False
    while not ended:
        buffer = bytearray(size + 5)
        try:
            if how == "readall":
                piece = stream.read()
            elif how == "read":
                piece = stream.read(size + 5)
            elif how == "pieces":
                piece = stream.read(4096)
            elif how == "readinto":
                piece = bytes(buffer[: stream.readinto(buffer)])
            else:
                half = memoryview(buffer)
                piece = bytes(buffer[: stream.readv([half[: size // 2], half[size // 2 :]])])
        except ConnectionResetError:
            ended = True
        else:
            assert piece, "the reset was not told"
            got += piece
    assert got == data
    assert stream.read(10) == b""


# -- Large transfers --------------------------------------------------------------------------------------------------


def transfer(stream, peer, write, read, size=LARGE):
    """Send from one thread and read in another."""
    data = pattern(size)

    def send():
        view = memoryview(data)
        while view:
            sent = write(stream, view)
            if sent is None:
                wait_writable(stream)
            else:
                view = view[sent:]

    def receive():
        got = bytearray()
        while len(got) < size:
            piece = read(peer)
            if piece is None:
                wait_readable(peer)
            else:
                assert piece
                got += piece
        return got

    sender, receiver = Worker(send), Worker(receive)
    sender.finish()
    assert receiver.finish() == data
    assert peer.read(1) is None


def read_into(size):
    def read(stream):
        buffer = bytearray(size)
        got = stream.readinto(buffer)
        return None if got is None else buffer[:got]

    return read


def read_vector(count, size):
    def read(stream):
        buffers = [bytearray(size) for _ in range(count)]
        got = stream.readv(buffers)
        return None if got is None else b"".join(buffers)[:got]

    return read


def write_vector(count, size):
    def write(stream, view):
        return stream.writev([view[index * size : (index + 1) * size] for index in range(count)])

    return write


def write_whole(stream, view):
    return stream.write(view)


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (write_whole, lambda stream: stream.read(LARGE)),
        (write_whole, lambda stream: stream.readall()),
        (write_whole, lambda stream: stream.read(1000)),
        (lambda stream, view: stream.write(view[:1000]), lambda stream: stream.read(LARGE)),
        (lambda stream, view: stream.write(bytes(view)), read_into(LARGE)),
        (lambda stream, view: stream.write(bytearray(view)), read_into(100_000)),
        (write_vector(3, 1 << 20), read_vector(3, 1 << 20)),
        (write_vector(1025, 100), read_vector(1025, 100)),
        (write_vector(3000, 7000), read_vector(3000, 7000)),
        (write_vector(9, 65536), read_vector(9, 65535)),
        (write_vector(2, 65537), read_vector(65, 1009)),
    ],
)
def test_large_transfers(pair, write, read):
    transfer(*pair, write, read)


def test_large_transfers_with_small_buffers(pair):
    shrink(*pair, size=65536)
    transfer(*pair, write_whole, lambda stream: stream.read(LARGE), size=1 << 20)


def test_both_directions_at_once(pair):
    stream, peer = pair
    workers = [
        Worker(transfer, stream, peer, write_whole, lambda source: source.read(LARGE)),
        Worker(transfer, peer, stream, write_whole, read_into(LARGE)),
    ]
    for worker in workers:
        worker.finish()


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 10, 1023, 1024, 1025, 2049, 3000])
@pytest.mark.parametrize("size", [1, 3])
def test_vectors(pair, count, size):
    stream, peer = pair
    data = pattern(count * size)
    pieces = [data[index * size : (index + 1) * size] for index in range(count)]
    assert stream.writev(pieces) == len(data)
    assert read_exactly(peer, len(data)) == data
    assert stream.writev(iter(pieces)) == len(data)
    buffers = [bytearray(size) for _ in range(count)]
    if count:
        wait_readable(peer)
    assert peer.readv(tuple(buffers)) == len(data)
    assert b"".join(buffers) == data


def test_vectors_with_empty_buffers_between(pair):
    stream, peer = pair
    pieces = []
    for index in range(2100):
        pieces += [b"", bytes([index % 251]), b"", b""]
    data = b"".join(pieces)
    assert stream.writev(pieces) == len(data)
    buffers = [bytearray(len(piece)) for piece in pieces]
    wait_readable(peer)
    assert peer.readv(buffers) == len(data)
    assert b"".join(buffers) == data


def test_a_vector_around_the_limits():
    """Where one system call ends and the next begins."""
    stream, peer = roomy_pair()
    for sizes in (
        [65535, 1, 1],
        [65536, 1],
        [65537],
        [1, 65536],
        [65536, 65536, 65536],
        [0, 65536, 0, 1],
        [1] * 1024 + [70000],
        [100] * 1024 + [0] + [100] * 1024,
    ):
        data = pattern(sum(sizes))
        pieces, position = [], 0
        for size in sizes:
            pieces.append(data[position : position + size])
            position += size
        assert stream.writev(pieces) == len(data)
        buffers = [bytearray(size) for size in sizes]
        wait_for(peer, len(data))
        assert peer.readv(buffers) == len(data)
        assert b"".join(buffers) == data


def test_what_is_no_vector(pair):
    stream, _ = pair
    for call in (stream.readv, stream.writev):
        for wrong in (None, 5, object()):
            with pytest.raises(TypeError):
                call(wrong)
        with pytest.raises(TypeError):
            call()

    def odd():
        yield bytearray(1)
        raise LookupError("odd")

    for call in (stream.readv, stream.writev):
        with pytest.raises(LookupError, match="odd"):
            call(odd())


def test_a_vector_that_closes_the_stream(pair):
    stream, peer = pair

    def odd():
        yield bytearray(1)
        stream.close()
        yield bytearray(1)

    with pytest.raises(ValueError, match="closed"):
        stream.readv(odd())
    with pytest.raises(ValueError, match="closed"):
        stream.writev(odd())
    wait_readable(peer)
    assert peer.read(1) == b""


def test_a_string_is_a_vector_of_nothing_useful(pair):
    stream, peer = pair
    with pytest.raises(TypeError):
        stream.writev("text")
    with pytest.raises(TypeError):
        stream.writev(b"bytes")
    assert peer.read(1) is None


# -- Threads that use one stream --------------------------------------------------------------------------------------


def test_closing_during_a_large_transfer():
    """Over and over, at whatever point; the descriptor must go and nothing else be hit."""
    for number in range(30):
        stream, peer = tcp_pair()
        data = bytes(1 << 20)
        descriptor = stream.fileno()
        started = threading.Event()

        def write(stream=stream, data=data, started=started):
            try:
                while True:
                    stream.write(data)
                    started.set()
            except ValueError:
                return "closed"

        def read(peer=peer):
            buffer = bytearray(1 << 20)
            while peer.readinto(buffer) != 0:
                pass
            return "end"

        writer, reader = Worker(write), Worker(read)
        if number % 2:
            started.wait(PATIENCE)
        stream.close()
        assert writer.finish() == "closed"
        assert reader.finish() == "end"
        assert not is_open(descriptor)
        peer.close()


def test_closing_during_a_large_read():
    for _ in range(30):
        stream, peer = tcp_pair()
        descriptor = stream.fileno()

        def read(stream=stream):
            buffer = bytearray(1 << 20)
            try:
                while True:
                    stream.readinto(buffer)
            except ValueError:
                return "closed"

        reader = Worker(read)
        peer.write(bytes(1 << 20))
        stream.close()
        assert reader.finish() == "closed"
        assert not is_open(descriptor)
        peer.close()


def test_a_buffer_cannot_be_resized_during_a_transfer(pair):
    """Whether it is met during one is up to chance; what must not happen is a crash, or other bytes."""
    stream, peer = pair
    data = bytearray(pattern(4 << 20))
    stop = threading.Event()
    refused = 0

    def resize():
        nonlocal refused
        while not stop.is_set():
            try:
                data.extend(b"12345678" * 10_000)
                del data[4 << 20 :]
            except BufferError:
                refused += 1

    def read():
        while not stop.is_set() or peer.peek(1):
            peer.readall()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        resizer, reader = Worker(resize), Worker(read)
        for _ in range(200):
            stream.write(data)
            if refused > 3:
                break
    finally:
        stop.set()
        sys.setswitchinterval(interval)
    resizer.finish()
    reader.finish()


def test_many_threads_on_one_stream(pair):
    """What each gets is up to chance, but no byte is lost or comes twice."""
    stream, peer = pair
    each, size = 50, 100_000

    def write():
        done = 0
        while done < each * size:
            done += stream.write(bytes(size)[: each * size - done]) or 0

    def read():
        got = 0
        buffer = bytearray(size)
        while True:
            count = peer.readinto(buffer)
            if count == 0:
                return got
            got += count or 0

    writers = [Worker(write) for _ in range(2)]
    readers = [Worker(read) for _ in range(2)]
    for writer in writers:
        writer.finish()
    stream.shutdown("write")
    assert sum(reader.finish() for reader in readers) == each * size * 2


# -- Urgent data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opts", [PollOpt.EDGE, PollOpt.LEVEL], ids=repr)
@pytest.mark.parametrize(
    "read",
    [
        lambda stream: stream.read(100),
        lambda stream: stream.read(100_000),
        lambda stream: read_into(100)(stream),
        lambda stream: read_into(100_000)(stream),
        lambda stream: read_vector(10, 10)(stream),
    ],
)
def test_reading_stops_at_urgent_data_and_what_is_behind_it_is_reported(poll, events, pair, opts, read):
    stream, peer = pair
    poll.registry.register(stream, "t", READABLE, opts)
    with peer.into_socket() as sock:
        for _ in range(3):
            sock.send(b"ab")
            sock.send(b"!", socket.MSG_OOB)
            sock.send(b"cd")
            got = b""
            while len(got) < 4:
                expect_only(poll, events, "t", "readable")
                got += read(stream)
            assert got == b"abcd"
            poll.poll(events, 0)
            assert stream.read(10) is None
        sock.send(b"ef")
        expect_only(poll, events, "t", "readable")
        # It comes between the event and the read.
        sock.send(b"?", socket.MSG_OOB)
        sock.send(b"gh")
        got = read(stream)
        while len(got) < 4:
            expect_only(poll, events, "t", "readable")
            got += read(stream)
        assert got == b"efgh"


# -- Shutting down ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["write", socket.SHUT_WR, 1])
def test_shutdown_write(pair, how):
    stream, peer = pair
    assert stream.shutdown(how) is None
    wait_readable(peer)
    assert peer.read(1) == b""
    with pytest.raises(BrokenPipeError):
        stream.write(b"x")
    peer.write(b"back")
    wait_readable(stream)
    assert stream.read(10) == b"back"


@pytest.mark.parametrize("how", ["read", socket.SHUT_RD, 0])
def test_shutdown_read(pair, how):
    stream, peer = pair
    stream.shutdown(how)
    assert stream.read(1) == b""
    assert stream.write(b"x") == 1
    assert read_exactly(peer, 1) == b"x"


@pytest.mark.parametrize("how", ["both", socket.SHUT_RDWR, 2])
def test_shutdown_both(pair, how):
    stream, peer = pair
    stream.shutdown(how)
    assert stream.read(1) == b""
    with pytest.raises(BrokenPipeError):
        stream.write(b"x")
    assert not stream.closed
    wait_readable(peer)
    assert peer.read(1) == b""


@pytest.mark.parametrize("how", ["", "READ", 3, -1, None, 1.5, b"read", object(), (), 1 << 80])
def test_shutdown_of_what(pair, how):
    stream, _ = pair
    with pytest.raises(ValueError, match="SHUT_RD"):
        stream.shutdown(how)


def test_shutdown_of_what_cannot_be_hashed(pair):
    stream, _ = pair
    for how in ([], {}):
        with pytest.raises((TypeError, ValueError)):
            stream.shutdown(how)
    with pytest.raises(TypeError):
        stream.shutdown()


def test_shutdown_of_a_connection_that_is_gone(pair):
    stream, peer = pair
    reset(stream, peer)
    with pytest.raises(OSError) as caught:
        stream.shutdown("write")
    assert caught.value.errno == errno.ENOTCONN


# -- Options ----------------------------------------------------------------------------------------------------------


def peer_of_options(stream):
    return same_socket(stream)


def test_nodelay_and_keepalive(pair):
    stream, _ = pair
    with peer_of_options(stream) as sock:
        for name, level, option in (
            ("nodelay", socket.IPPROTO_TCP, socket.TCP_NODELAY),
            ("keepalive", socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        ):
            assert getattr(stream, name) is False
            for value in (True, False, 1, 0, "yes", ""):
                setattr(stream, name, value)
                assert getattr(stream, name) is bool(value)
                assert bool(sock.getsockopt(level, option)) is bool(value)


def test_an_option_whose_value_raises(pair):
    stream, _ = pair

    class Odd:
        def __bool__(self):
            raise LookupError

    for name in ("nodelay", "keepalive"):
        with pytest.raises(LookupError):
            setattr(stream, name, Odd())
    for name in ("nodelay", "keepalive", "ttl", "linger", "local_addr", "peer_addr"):
        with pytest.raises((AttributeError, TypeError, NotImplementedError)):
            delattr(stream, name)


@pytest.mark.parametrize("addr", ["127.0.0.1:0", "[::1]:0"])
def test_ttl(addr):
    stream, _ = tcp_pair(addr)
    for value in (1, 64, 255):
        stream.ttl = value
        assert stream.ttl == value
    for wrong in (256, -5):
        with pytest.raises(OSError):
            stream.ttl = wrong
    for wrong in ("5", None, 5.0):
        with pytest.raises(TypeError):
            stream.ttl = wrong
    with pytest.raises(OverflowError):
        stream.ttl = 1 << 40
    assert stream.ttl == 255


def test_linger(pair):
    stream, peer = pair
    assert stream.linger is None
    for value in (0, 1, 30, None, 5):
        stream.linger = value
        assert stream.linger == value
    for wrong in (-1, -(1 << 30)):
        with pytest.raises(ValueError):
            stream.linger = wrong
    for wrong in ("5", 0.5, 1.0, b""):
        with pytest.raises(TypeError):
            stream.linger = wrong
    with pytest.raises(OverflowError):
        stream.linger = 1 << 40
    assert stream.linger == 5
    stream.linger = 0
    stream.close()
    wait_readable(peer)
    with pytest.raises(ConnectionResetError):
        peer.read(1)


def test_addresses_cannot_be_set(pair):
    stream, _ = pair
    for name in ("local_addr", "peer_addr", "closed"):
        with pytest.raises(AttributeError):
            setattr(stream, name, 1)
    with pytest.raises(AttributeError):
        stream.anything = 1


# -- From and to others -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=lambda family: family.name)
def test_from_socket(family):
    with socket.create_server(("", 0), family=family) as server:
        sock = socket.create_connection(("::1" if family == socket.AF_INET6 else "127.0.0.1", server.getsockname()[1]))
        number = sock.fileno()
        stream = mine(TcpStream.from_socket(sock))
        assert sock.fileno() == -1
        assert stream.fileno() == number
        assert stream.read(1) is None
        other = mine(server.accept()[0])
        other.send(b"x")
        wait_readable(stream)
        assert stream.read(10) == b"x"


def test_from_what_is_no_tcp_socket():
    kinds = [(socket.AF_INET, socket.SOCK_DGRAM)]
    if not WINDOWS:
        kinds.append((socket.AF_UNIX, socket.SOCK_STREAM))
    for family, kind in kinds:
        with socket.socket(family, kind) as sock:
            with pytest.raises(ValueError, match="another kind"):
                TcpStream.from_socket(sock)
            assert sock.fileno() >= 0
    with pytest.raises(ValueError, match="closed"):
        TcpStream.from_socket(sock)
    stream, _ = tcp_pair()
    for wrong in (None, 5, stream, object(), "socket", socket.socket):
        with pytest.raises(TypeError):
            TcpStream.from_socket(wrong)


def test_from_a_tls_socket():
    ssl = pytest.importorskip("ssl")
    context = ssl.create_default_context()
    with socket.socket() as sock, context.wrap_socket(sock, server_hostname="x") as tls:
        with pytest.raises(TypeError, match="SSLSocket"):
            TcpStream.from_socket(tls)
        assert tls.fileno() >= 0


def test_from_a_socket_that_is_registered(poll, events):
    """Its registration was that of a foreign source, and stays until the descriptor is closed or it is deregistered."""
    stream, peer = tcp_pair()
    sock = stream.into_socket()
    poll.registry.register(sock, "foreign", READABLE, PollOpt.LEVEL)
    stream = mine(TcpStream.from_socket(sock))
    with pytest.raises(FileExistsError):
        poll.registry.register(stream, "own", READABLE)
    peer.write(b"x")
    expect_only(poll, events, "foreign", "readable")


def test_into_socket(poll, events, pair):
    stream, peer = pair
    poll.registry.register(stream, "t", READABLE)
    number = stream.fileno()
    peer.write(b"x")
    expect_only(poll, events, "t", "readable")
    with stream.into_socket() as sock:
        assert list(events) == []
        assert stream.closed
        assert sock.fileno() == number
        assert sock.type == socket.SOCK_STREAM and sock.family == socket.AF_INET
        assert sock.gettimeout() == 0
        assert sock.recv(10) == b"x"
        peer.write(b"y")
        wait_readable(sock)
        expect_no_events(poll, events)
        with pytest.raises(ValueError):
            stream.into_socket()
        stream.close()
        assert sock.recv(10) == b"y"
    assert peer.closed is False


def test_there_and_back_again(pair):
    stream, peer = pair
    for _ in range(5):
        stream = mine(TcpStream.from_socket(stream.into_socket()))
    peer.write(b"x")
    wait_readable(stream)
    assert stream.read(5) == b"x"


def test_into_socket_during_a_transfer():
    """It is refused, or comes before or after; what must not happen is that bytes go to somebody else's descriptor."""
    outcomes = set()
    for _ in range(20):
        stream, peer = tcp_pair()
        stop = threading.Event()

        def write(stream=stream, stop=stop):
            data = bytes(1 << 20)
            try:
                while not stop.is_set():
                    stream.write(data)
            except ValueError:
                return "gone"
            return "stopped"

        writer = Worker(write)
        sock = None
        for _ in range(50):
            peer.read(1 << 20)
            try:
                sock = stream.into_socket()
                break
            except RuntimeError as error:
                assert "under way" in str(error)
        stop.set()
        outcomes.add(writer.finish())
        if sock is None:
            sock = stream.into_socket()
        assert sock.fileno() >= 0
        sock.close()
        peer.close()
    assert outcomes <= {"gone", "stopped"}


def test_try_clone(poll, events, pair):
    stream, peer = pair
    clone = mine(stream.try_clone())
    assert type(clone) is TcpStream
    assert clone.fileno() != stream.fileno()
    assert is_inheritable(clone.fileno()) is False
    assert clone.peer_addr == stream.peer_addr
    poll.registry.register(stream, "stream", READABLE)
    poll.registry.register(clone, "clone", READABLE)
    peer.write(b"x")
    expect_events(poll, events, {"stream": "readable", "clone": "readable"})
    assert clone.read(1) == b"x"
    assert stream.read(1) is None
    assert clone.read(1) is None
    stream.close()
    assert clone.write(b"y") == 1
    peer.write(b"z")
    expect_only(poll, events, "clone", "readable")
    clone.close()
    wait_readable(peer)
    assert peer.read(5) == b"y"


def test_a_clone_is_not_registered(poll, events, pair):
    stream, peer = pair
    poll.registry.register(stream, "t", READABLE)
    clone = mine(stream.try_clone())
    with pytest.raises(FileNotFoundError):
        poll.registry.deregister(clone)
    stream.close()
    # The file is open still, and nobody has registered it.
    peer.write(b"x")
    wait_readable(clone)
    expect_no_events(poll, events)


# -- With the io module -----------------------------------------------------------------------------------------------


def test_io_predicates(pair):
    stream, _ = pair
    assert stream.readable() is True and stream.writable() is True and stream.seekable() is False
    assert stream.flush() is None


def test_buffered_reader(pair):
    stream, peer = pair
    peer.write(b"one\ntwo\nthree")
    wait_readable(stream)
    reader = io.BufferedReader(stream)
    assert reader.readline() == b"one\n"
    assert reader.peek(1)[:3] == b"two"
    assert reader.read(4) == b"two\n"
    assert reader.read(100) == b"three"
    assert reader.read(1) is None
    peer.write(b"x")
    peer.close()
    wait_readable(stream)
    assert reader.read() == b"x"
    assert reader.read() == b""
    reader.close()
    assert stream.closed


def test_buffered_writer(pair):
    stream, peer = pair
    writer = io.BufferedWriter(stream, 1 << 16)
    assert writer.write(b"hello") == 5
    assert peer.read(1) is None
    writer.flush()
    assert read_exactly(peer, 5) == b"hello"
    with pytest.raises(BlockingIOError):
        for _ in range(1000):
            writer.write(bytes(1 << 16))
    while peer.read(1 << 20):
        pass
    sent = 0
    while True:
        try:
            writer.flush()
            break
        except BlockingIOError:
            sent += len(drain(peer))
    writer.close()
    assert stream.closed


def test_buffered_pair_and_text(pair):
    stream, peer = pair
    text = io.TextIOWrapper(io.BufferedRWPair(stream, stream), encoding="utf-8", newline="\n", write_through=True)
    text.write("grüße\n")
    text.flush()
    assert read_exactly(peer, 8) == "grüße\n".encode()
    peer.write("zurück\n".encode())
    wait_readable(stream)
    assert text.readline() == "zurück\n"
    text.close()
    assert stream.closed


# -- Closing ----------------------------------------------------------------------------------------------------------


def test_after_close(pair):
    stream, _ = pair
    stream.close()
    stream.close()
    assert stream.closed is True
    assert repr(stream) == "<TcpStream closed>"
    buffer = bytearray(5)

    def assign(name, value):
        return lambda: setattr(stream, name, value)

    for use in (
        lambda: stream.read(1),
        lambda: stream.read(0),
        lambda: stream.read(),
        lambda: stream.readall(),
        lambda: stream.read(LARGE),
        lambda: stream.readinto(buffer),
        lambda: stream.readinto(bytearray()),
        lambda: stream.readv([buffer]),
        lambda: stream.readv([]),
        lambda: stream.peek(1),
        lambda: stream.peek(0),
        lambda: stream.peekinto(buffer),
        lambda: stream.write(b"x"),
        lambda: stream.write(b""),
        lambda: stream.write(buffer),
        lambda: stream.write(bytes(LARGE)),
        lambda: stream.writev([b"x"]),
        lambda: stream.writev([]),
        lambda: stream.flush(),
        lambda: stream.shutdown("both"),
        lambda: stream.readable(),
        lambda: stream.writable(),
        lambda: stream.seekable(),
        lambda: stream.fileno(),
        lambda: stream.take_error(),
        lambda: stream.try_clone(),
        lambda: stream.into_socket(),
        lambda: stream.__enter__(),
        lambda: stream.local_addr,
        lambda: stream.peer_addr,
        lambda: stream.nodelay,
        lambda: stream.ttl,
        lambda: stream.keepalive,
        lambda: stream.linger,
        assign("nodelay", True),
        assign("ttl", 5),
        assign("keepalive", True),
        assign("linger", 5),
    ):
        with pytest.raises(ValueError, match="closed TcpStream"):
            use()


def test_context_manager(pair):
    stream, peer = pair
    with stream as same:
        assert same is stream
    assert stream.closed
    wait_readable(peer)
    assert peer.read(1) == b""


def test_dropped(poll, events, pair):
    stream, peer = tcp_pair()
    before = count_fds()
    stream, peer = (mine(TcpStream.from_socket(stream.into_socket())) for stream in (stream, peer))
    clone = stream.try_clone()
    number = clone.fileno()
    poll.registry.register(clone, "t", READABLE)
    peer.write(b"x")
    expect_only(poll, events, "t", "readable")
    with pytest.warns(ResourceWarning, match=f"unclosed <TcpStream fd={number}>"):
        del clone
    assert list(events) == []
    assert not is_open(number)
    expect_no_events(poll, events)
    assert count_fds() == before


def test_no_warning_for_a_closed_one(recwarn):
    stream, peer = tcp_pair()
    stream.close()
    peer.close()
    alive = weakref.ref(stream)
    del stream, peer
    close_all()
    assert alive() is None
    assert not recwarn.list


def test_a_warning_that_is_an_error_closes_it_all_the_same(selector):
    errors = run_python(
        """
        import os
        from metalio.net import TcpListener

        listener = TcpListener.bind("127.0.0.1:0")
        number = listener.fileno()
        del listener
        try:
            os.fstat(number)
        except OSError:
            pass
        else:
            raise SystemExit("still open")
        """,
        "-W",
        "error",
    )
    assert "ResourceWarning: unclosed <TcpListener" in errors


def test_an_empty_one_does_no_harm():
    stream = TcpStream.__new__(TcpStream)
    assert stream.closed
    for use in (lambda: stream.read(1), lambda: stream.write(b"x"), lambda: stream.local_addr, stream.try_clone):
        with pytest.raises(ValueError, match="closed"):
            use()
    stream.close()


def test_references(pair):
    stream, peer = pair
    buffer = bytearray(10)
    peer.write(b"x" * 1000)
    wait_readable(stream)

    def counts():
        return [sys.getrefcount(thing) for thing in (stream, buffer, None)]

    def use():
        for _ in range(300):
            stream.peek(5)
            stream.peekinto(buffer)
            stream.readinto(memoryview(buffer)[:1])
            stream.write(buffer)
            stream.writev([buffer, buffer])
            stream.readv([memoryview(buffer)[:1]] * 2)
            _ = stream.peer_addr, stream.local_addr, stream.ttl, stream.linger
        peer.readall()

    use()
    before = counts()
    use()
    after = counts()
    assert after[:2] == before[:2]
    assert abs(after[2] - before[2]) < 100


def test_subclass(poll, events):
    class Connection(TcpStream):
        def __init__(self):
            raise AssertionError("the class methods do not call it")

        @property
        def double(self):
            return self.fileno() * 2

    listener = tcp_listener()
    with Connection.connect(listener.local_addr) as connection:
        assert type(connection) is Connection
        assert connection.double == connection.fileno() * 2
        connection.buffer = b""
        poll.registry.register(connection, connection, WRITABLE)
        assert poll.poll(events, PATIENCE) == 1
        assert events[0].token is connection
        with connection.try_clone() as clone:
            assert type(clone) is Connection
            assert not hasattr(clone, "buffer")
    assert connection.closed
    assert list(events) == []


def test_a_subclass_with_a_finaliser_of_its_own(poll):
    """It need not call the base's: the descriptor goes all the same."""

    class Careless(TcpListener):
        def __del__(self):
            pass

    listener = Careless.bind("127.0.0.1:0")
    number = listener.fileno()
    poll.registry.register(listener, "t", READABLE)
    del listener
    assert not is_open(number)


def test_sleeping_in_a_poll_and_reading_elsewhere(selector, pair):
    """A thread that waits is told of what comes after another has drained."""
    stream, peer = pair
    with Poll(selector=selector) as poll:
        events = Events()
        poll.registry.register(stream, "t", READABLE)
        peer.write(b"x")
        assert poll.poll(events, PATIENCE) == 1
        worker = Worker(poll.poll, events, PATIENCE)
        sleeping(worker)
        assert stream.read(10) == b"x"
        peer.write(b"y")
        assert worker.finish() == 1
        assert stream.read(10) == b"y"
