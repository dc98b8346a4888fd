"""UnixStream: streams, credentials and descriptors."""

import errno
import gc
import io
import os
import resource
import socket
import subprocess
import sys
import textwrap
import warnings

import pytest
from util import (
    BOTH,
    HAS_PEER_CRED,
    LINUX,
    PATIENCE,
    READABLE,
    WRITABLE,
    accept,
    count_fds,
    drain,
    expect_events,
    expect_no_events,
    expect_only,
    fill,
    is_open,
    mine,
    needs_peer_cred,
    read_exactly,
    shrink,
    what,
)

from metalio import PollOpt
from metalio.net import PeerCred, UnixListener, UnixStream

LARGE = 1 << 20


@pytest.fixture
def pair():
    return mine(*UnixStream.pair())


@pytest.fixture
def one(pair):
    return pair[0]


@pytest.fixture
def other(pair):
    return pair[1]


@pytest.fixture
def file(tmp_path):
    """An open file, to be passed along."""
    with open(tmp_path / "file", "w+b") as file:
        yield file


def take_fds(fds):
    """Received descriptors as files, which are closed at the end of the test."""
    return [mine(os.fdopen(fd, "r+b", 0)) for fd in fds]


def same_file(first, second):
    return os.path.sameopenfile(first.fileno(), second.fileno())


def run(script, *args, **options):
    """Run a script in a child process; its output."""
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=PATIENCE * 3,
        **options,
    )
    assert child.returncode == 0, (child.returncode, child.stderr)
    return child.stdout


# -- Bytes ------------------------------------------------------------------------------------------------------------


def test_both_ways(one, other):
    assert one.write(b"ping") == 4
    assert other.read(100) == b"ping"
    assert other.write(bytearray(b"pong")) == 4
    assert one.read() == b"pong"
    assert one.local_addr == one.peer_addr == ""


def test_nothing_there_is_none(one):
    buffer = bytearray(10)
    for read in (
        one.read,
        one.readall,
        lambda: one.read(10),
        lambda: one.readinto(buffer),
        lambda: one.readv([buffer]),
        lambda: one.peek(10),
        lambda: one.peekinto(buffer),
        lambda: one.recv_fds(10),
        lambda: one.read(LARGE),
        lambda: one.recv_fds(LARGE),
    ):
        assert read() is None
    assert buffer == bytes(10)


def test_no_room_is_none(one, other):
    total = fill(one)
    assert total > 0
    for write in (
        lambda: one.write(b"x"),
        lambda: one.write(bytes(LARGE)),
        lambda: one.writev([b"x", b"y"]),
        lambda: one.send_fds(b"x", []),
        lambda: one.send_fds(b"x", [0]),
        lambda: one.send_fds(bytes(LARGE), [0]),
    ):
        assert write() is None
    assert len(drain(other)) == total
    assert other.recv_fds(1) is None
    assert one.write(b"x") == 1


@pytest.mark.parametrize("shut", [lambda stream: stream.close(), lambda stream: stream.shutdown("write")])
def test_the_end_of_the_stream(one, other, shut):
    one.write(b"last")
    shut(one)
    buffer = bytearray(10)
    assert other.read(100) == b"last"
    for _ in range(2):
        assert other.read(100) == b""
        assert other.read() == b""
        assert other.readinto(buffer) == 0
        assert other.readv([buffer, buffer]) == 0
        assert other.peek(1) == b""
        assert other.recv_fds(10) == (b"", [])


def test_half_close(poll, events, one, other):
    poll.registry.register(one, "one", BOTH)
    expect_only(poll, events, "one", "writable")
    other.shutdown(socket.SHUT_WR)
    assert {"readable", "read_closed"} <= expect_events(poll, events, {"one": "read_closed"})["one"]
    assert one.read(10) == b""
    # The other direction is open still.
    assert one.write(b"answer") == 6
    assert other.read(10) == b"answer"
    with pytest.raises(BrokenPipeError):
        other.write(b"x")


def test_vectors_in_order(one, other):
    assert one.writev([b"ab", b"", bytearray(b"cde"), memoryview(b"f")]) == 6
    first, second = bytearray(4), bytearray(4)
    assert other.readv([first, bytearray(0), second]) == 6
    assert first + second == b"abcdef\0\0"
    pieces = [bytes([number % 256]) * 100 for number in range(2000)]
    sent = one.writev(pieces)
    assert drain(other) == b"".join(pieces)[:sent]


def test_peek_leaves_it_there(one, other):
    one.write(b"data")
    buffer = bytearray(2)
    assert other.peek(10) == b"data"
    assert other.peekinto(buffer) == 2
    assert bytes(buffer) == b"da"
    assert other.read(10) == b"data"


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 150_000])
def test_sizes(one, other, size):
    data = os.urandom(size)
    assert one.write(data) == size
    assert other.read(size) == data
    assert one.send_fds(data, []) == size
    assert other.recv_fds(size + 1) == (data, [])
    assert one.write(data) == size
    buffer = bytearray(size)
    assert other.readinto(buffer) == size
    assert buffer == data
    assert other.read(1) is None


def test_a_large_transfer_in_both_directions(poll, events, one, other):
    data = os.urandom(3 << 20)
    poll.registry.register(one, one, BOTH)
    poll.registry.register(other, other, BOTH)
    left = {one: memoryview(data), other: memoryview(data)}
    got = {one: [], other: []}
    while any(left.values()) or any(sum(map(len, pieces)) < len(data) for pieces in got.values()):
        assert poll.poll(events, PATIENCE)
        for event in events:
            stream = event.token
            while event.is_readable() and (piece := stream.read(100_000)):
                got[stream].append(piece)
                if len(piece) < 100_000:
                    break
            while event.is_writable() and left[stream]:
                sent = stream.write(left[stream])
                if sent is None:
                    break
                left[stream] = left[stream][sent:]
    assert b"".join(got[one]) == b"".join(got[other]) == data


def test_a_drained_stream_reports_nothing_more(poll, events, one, other):
    poll.registry.register(other, "other", READABLE)
    for size in (10, 65536, 4, LARGE):
        one.write(b"12345")
        expect_only(poll, events, "other", "readable")
        # Short each time but for the third one, which then meets a would-block.
        assert len(other.read(size)) == min(5, size)
        if size == 4:
            assert other.read(size) == b"5"
        expect_no_events(poll, events)


# -- Under the io module ----------------------------------------------------------------------------------------------


def test_buffered_reader_and_writer(one, other):
    assert one.readable() and one.writable() and not one.seekable()
    with io.BufferedWriter(one) as writer, io.BufferedReader(other) as reader:
        writer.write(b"first\nsecond\nthe rest")
        writer.flush()
        assert reader.readline() == b"first\n"
        assert reader.read(3) == b"sec"
        writer.close()
        assert one.closed
        assert reader.read() == b"ond\nthe rest"
        assert reader.read() == b""
    assert other.closed


def test_text(one, other):
    with io.TextIOWrapper(io.BufferedRWPair(one, one), "utf-8") as text:
        text.write("grüße\n")
        text.flush()
        assert other.read(100) == "grüße\n".encode()
        other.write("zurück\n".encode())
        assert text.readline() == "zurück\n"


def test_buffered_reader_that_would_block(one, other):
    reader = io.BufferedReader(other)
    assert reader.read(1) is None
    one.write(b"x")
    assert reader.read(1) == b"x"


# -- Readiness --------------------------------------------------------------------------------------------------------


def test_room_is_an_edge(poll, events, one, other):
    shrink(one, other)
    poll.registry.register(one, "one", WRITABLE)
    expect_only(poll, events, "one", "writable")
    expect_no_events(poll, events)
    fill(one)
    expect_no_events(poll, events)
    drain(other)
    expect_only(poll, events, "one", "writable")


def test_a_full_send_fds_arms_it_again(poll, events, one, other):
    shrink(one, other)
    poll.registry.register(one, "one", WRITABLE)
    expect_only(poll, events, "one", "writable")
    while one.send_fds(bytes(512), []) is not None:
        pass
    expect_no_events(poll, events)
    drain(other)
    expect_only(poll, events, "one", "writable")


def test_a_short_send_fds_arms_it_again(poll, events, one, other, file):
    poll.registry.register(one, "one", WRITABLE)
    expect_only(poll, events, "one", "writable")
    sent = one.send_fds(bytes(4 * LARGE), [file])
    assert 0 < sent < 4 * LARGE
    drain(other)
    expect_only(poll, events, "one", "writable")


def test_a_closed_peer(poll, events, one, other):
    poll.registry.register(one, "one", BOTH)
    other.close()
    assert {"read_closed", "write_closed"} <= expect_events(poll, events, {"one": ["read_closed", "write_closed"]})[
        "one"
    ]
    assert one.read(1) == b""
    with pytest.raises(BrokenPipeError):
        one.write(b"x")


def test_level_and_oneshot(poll, events, one, other, file):
    poll.registry.register(other, "other", READABLE, PollOpt.LEVEL)
    one.send_fds(b"abc", [file])
    one.write(b"def")
    for _ in range(2):
        expect_only(poll, events, "other", "readable")
    assert other.read(10) == b"abc"
    expect_only(poll, events, "other", "readable")
    assert other.read(10) == b"def"
    expect_no_events(poll, events)
    poll.registry.reregister(other, "other", READABLE, PollOpt.ONESHOT)
    one.send_fds(b"abc", [file])
    one.write(b"def")
    expect_only(poll, events, "other", "readable")
    assert other.read(10) == b"abc"
    # A short read does not arm what is to be armed by hand.
    expect_no_events(poll, events)
    poll.registry.reregister(other, "other", READABLE, PollOpt.ONESHOT)
    expect_only(poll, events, "other", "readable")
    assert other.recv_fds(10) == (b"def", [])


def read_into(stream, size):
    buffer = bytearray(size)
    got = stream.readinto(buffer)
    return got and bytes(buffer[:got])


def read_vector(stream, size):
    first, second = bytearray(2), bytearray(size - 2)
    got = stream.readv([first, second])
    return got and bytes(first + second)[:got]


def receive(stream, size):
    received = stream.recv_fds(size)
    if received is not None:
        take_fds(received[1])
        return received[0]


READERS = pytest.mark.parametrize("read", [UnixStream.read, read_into, read_vector, receive])


def follow(poll, events, stream, read, size, expected):
    """Read by the rule of edge triggering: after an event until nothing is left or a read is short, then poll again."""
    got = b""
    while got != expected:
        assert expected.startswith(got)
        assert poll.poll(events, PATIENCE), f"no event for what follows {got!r}"
        assert [event.token for event in events] == [stream]
        piece = read(stream, size)
        while piece is not None:
            got += piece
            piece = read(stream, size) if len(piece) == size else None


@READERS
@pytest.mark.parametrize("size", [4, 10, 1000, 65536, 100_000])
def test_data_behind_descriptors_is_reported(poll, events, one, other, file, read, size):
    poll.registry.register(other, other, READABLE)
    for _ in range(3):
        # Before any of it is read, so there is one edge for all of it.
        one.write(b"in front")
        for letter in b"abc":
            one.send_fds(bytes([letter]) * 10, [file, file])
        one.write(b"behind")
        follow(poll, events, other, read, size, b"in front" + b"a" * 10 + b"b" * 10 + b"c" * 10 + b"behind")
        assert read(other, size) is None
        expect_no_events(poll, events)
        # And ordinary reads between, full and short ones.
        one.write(b"1234567890")
        follow(poll, events, other, read, size, b"1234567890")
        assert read(other, size) is None


@READERS
def test_data_behind_large_data_with_descriptors_is_reported(poll, events, one, other, file, read):
    poll.registry.register(other, other, READABLE)
    data = os.urandom(100_000)
    for _ in range(3):
        one.send_fds(data, [file])
        one.send_fds(b"x" * 10, [file])
        one.write(b"behind")
        follow(poll, events, other, read, 120_000, data + b"x" * 10 + b"behind")
        assert read(other, 120_000) is None


@READERS
def test_the_end_behind_descriptors_is_reported(poll, events, one, other, file, read):
    poll.registry.register(other, other, READABLE)
    one.send_fds(b"abc", [file])
    one.write(b"behind")
    one.close()
    follow(poll, events, other, read, 100, b"abcbehind")
    # The rest was reported together with the end: the rule is to read on then.
    assert "read_closed" in what(events[0])
    assert not read(other, 100)


def test_both_interests_behind_descriptors(poll, events, one, other, file):
    poll.registry.register(other, "other", BOTH)
    one.send_fds(b"abc", [file])
    one.write(b"behind")
    expect_events(poll, events, {"other": ["readable", "writable"]})
    assert other.read(100) == b"abc"
    expect_events(poll, events, {"other": "readable"})
    assert other.read(100) == b"behind"


@READERS
def test_data_of_another_process_is_reported(poll, events, one, other, read):
    # With SO_PASSCRED the kernel does not join what different processes have written.
    with socket.socket(fileno=os.dup(other.fileno())) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    poll.registry.register(other, other, READABLE)
    for _ in range(3):
        one.write(b"parent ")
        run("import os, sys; os.write(int(sys.argv[1]), b'child ')", one.fileno(), pass_fds=[one.fileno()])
        one.write(b"parent")
        follow(poll, events, other, read, 100, b"parent child parent")
        assert read(other, 100) is None


# -- Misuse -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda stream: stream.read("1"), TypeError),
        (lambda stream: stream.read(1.0), TypeError),
        (lambda stream: stream.readinto(b"read-only"), TypeError),
        (lambda stream: stream.readinto(memoryview(bytearray(4)).toreadonly()), TypeError),
        (lambda stream: stream.readinto(memoryview(bytearray(8))[::2]), BufferError),
        (lambda stream: stream.readinto("text"), TypeError),
        (lambda stream: stream.readinto(5), TypeError),
        (lambda stream: stream.readv(bytearray(2)), TypeError),
        (lambda stream: stream.readv([bytearray(2), b"read-only"]), TypeError),
        (lambda stream: stream.peek(-1), ValueError),
        (lambda stream: stream.write("text"), TypeError),
        (lambda stream: stream.write(None), TypeError),
        (lambda stream: stream.write(memoryview(b"abcd")[::2]), BufferError),
        (lambda stream: stream.writev([b"abc", "text"]), TypeError),
        (lambda stream: stream.writev(5), TypeError),
        (lambda stream: stream.shutdown("neither"), ValueError),
        (lambda stream: stream.shutdown(7), ValueError),
        (lambda stream: stream.send_fds("text", []), TypeError),
        (lambda stream: stream.send_fds(b"", []), ValueError),
        (lambda stream: stream.send_fds(b"", [0]), ValueError),
        (lambda stream: stream.send_fds(memoryview(b"abcd")[::2], [0]), BufferError),
        (lambda stream: stream.send_fds(b"x", 0), TypeError),
        (lambda stream: stream.send_fds(b"x", None), TypeError),
        (lambda stream: stream.send_fds(b"x", ["0"]), TypeError),
        (lambda stream: stream.send_fds(b"x", [True]), TypeError),
        (lambda stream: stream.send_fds(b"x", [1.0]), TypeError),
        (lambda stream: stream.send_fds(b"x", [object()]), TypeError),
        (lambda stream: stream.send_fds(b"x", [-1]), ValueError),
        (lambda stream: stream.send_fds(b"x", [1 << 31]), ValueError),
        (lambda stream: stream.send_fds(b"x", [1 << 80]), ValueError),
        (lambda stream: stream.send_fds(b"x", [0] * 254), ValueError),
        (lambda stream: stream.recv_fds(0), ValueError),
        (lambda stream: stream.recv_fds(-1), ValueError),
        (lambda stream: stream.recv_fds("1"), TypeError),
        (lambda stream: stream.recv_fds(1, -1), ValueError),
        (lambda stream: stream.recv_fds(1, 254), ValueError),
        (lambda stream: stream.recv_fds(1, None), TypeError),
    ],
)
def test_misuse(one, other, use, error):
    other.write(b"data")
    with pytest.raises(error):
        use(one)
    # Nothing was sent, and nothing lost.
    assert other.read(10) is None
    assert one.recv_fds(10) == (b"data", [])


def test_a_released_buffer(one):
    view = memoryview(bytearray(4))
    view.release()
    for use in (one.write, one.readinto, one.peekinto, lambda view: one.readv([view]), lambda v: one.send_fds(v, [0])):
        with pytest.raises(ValueError, match="released"):
            use(view)


@pytest.mark.parametrize("opts", ["never", "registered"])
def test_use_after_close(poll, one, file, opts):
    if opts == "registered":
        poll.registry.register(one, 1, READABLE)
    one.close()
    for use in (
        one.fileno,
        one.read,
        lambda: one.read(0),
        lambda: one.read(10),
        one.readall,
        lambda: one.readinto(bytearray(4)),
        lambda: one.readv([bytearray(4)]),
        lambda: one.peek(4),
        lambda: one.peekinto(bytearray(4)),
        lambda: one.write(b"x"),
        lambda: one.write(b""),
        lambda: one.writev([b"x"]),
        one.flush,
        lambda: one.shutdown("both"),
        one.readable,
        one.writable,
        one.seekable,
        lambda: one.local_addr,
        lambda: one.peer_addr,
        lambda: one.peer_cred,
        lambda: one.send_fds(b"x", [file]),
        lambda: one.recv_fds(10),
        one.take_error,
        one.try_clone,
        one.into_socket,
        one.__enter__,
        lambda: poll.registry.register(one, 1, READABLE),
    ):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert one.closed
    assert repr(one) == "<UnixStream closed>"


def test_closed_by_what_it_asks(one):
    class Closes:
        def fileno(self):
            one.close()
            return 0

    with pytest.raises(ValueError, match="closed"):
        one.send_fds(b"x", [Closes()])


def test_a_fileno_that_fails(one, other):
    class Fails:
        def fileno(self):
            raise LookupError("no")

    class Wrong:
        def fileno(self):
            return "1"

    with pytest.raises(LookupError):
        one.send_fds(b"x", [Fails()])
    with pytest.raises(TypeError):
        one.send_fds(b"x", [Wrong()])
    assert other.read(1) is None


def test_broken_pipe_is_no_signal(one, other, file):
    other.close()
    for write in (
        lambda: one.write(b"x"),
        lambda: one.write(bytes(LARGE)),
        lambda: one.writev([b"x", b"y"]),
        lambda: one.send_fds(b"x", [file]),
        lambda: one.send_fds(bytes(LARGE), [file]),
    ):
        with pytest.raises(BrokenPipeError):
            write()


def test_broken_pipe_where_the_signal_would_kill():
    output = run("""
        import signal
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        from metalio.net import TcpListener, TcpStream, UnixStream
        import select

        one, other = UnixStream.pair()
        with TcpListener.bind("127.0.0.1:0") as listener:
            tcp = TcpStream.connect(listener.local_addr)
            select.select([listener], [], [])
            listener.accept()[0].close()
        select.select([tcp], [], [])
        tcp.shutdown("write")
        other.close()
        for stream in (one, tcp):
            writes = [
                lambda: stream.write(b"x"),
                lambda: stream.write(bytes(1 << 20)),
                lambda: stream.writev([b"x", b"y"]),
                lambda: stream.writev([bytes(1 << 20)] * 2),
            ]
            if stream is one:
                writes.append(lambda: stream.send_fds(b"x", [0]))
                writes.append(lambda: stream.send_fds(bytes(1 << 20), [0]))
            for write in writes:
                try:
                    write()
                except BrokenPipeError:
                    print("broken", end=" ")
            stream.close()
        assert not signal.sigpending()
    """)
    assert output.split() == ["broken"] * 10


# -- The way from and to sockets --------------------------------------------------------------------------------------


def test_from_socket_and_back():
    first, second = socket.socketpair()
    fd = first.fileno()
    stream = mine(UnixStream.from_socket(first))
    mine(second)
    assert first.fileno() == -1
    assert stream.fileno() == fd
    assert stream.read(10) is None
    second.send(b"hello")
    assert stream.read(10) == b"hello"
    sock = mine(stream.into_socket())
    assert stream.closed
    assert sock.fileno() == fd
    assert sock.family == socket.AF_UNIX
    assert sock.gettimeout() == 0


def test_from_what_is_no_unix_stream(one):
    for family, kind in (
        (socket.AF_INET, socket.SOCK_STREAM),
        (socket.AF_UNIX, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET),
    ):
        with socket.socket(family, kind) as sock:
            with pytest.raises(ValueError, match="another kind"):
                UnixStream.from_socket(sock)
            assert sock.fileno() >= 0
    with pytest.raises(ValueError, match="closed"):
        UnixStream.from_socket(sock)
    for thing in (None, 0, one):
        with pytest.raises(TypeError):
            UnixStream.from_socket(thing)


def test_a_clone_shares_the_connection(poll, events, one, other):
    clone = mine(one.try_clone())
    assert type(clone) is UnixStream
    one.close()
    other.write(b"x")
    poll.registry.register(clone, "clone", READABLE)
    expect_only(poll, events, "clone", "readable")
    assert clone.read(1) == b"x"


def test_subclasses():
    class Mine(UnixStream):
        pass

    one, other = mine(*Mine.pair())
    assert type(one) is type(other) is Mine
    with pytest.raises(TypeError):
        Mine()
    with pytest.raises(TypeError):
        UnixStream()


def test_descriptors_are_not_inherited(one, other):
    for stream in (one, other):
        assert not os.get_inheritable(stream.fileno())
        assert not os.get_blocking(stream.fileno())


def test_an_unclosed_one_warns():
    one, other = UnixStream.pair()
    mine(other)
    fd = one.fileno()
    with pytest.warns(ResourceWarning, match="unclosed <UnixStream"):
        del one
    assert not is_open(fd)
    assert other.read(1) == b""


def test_no_references_are_kept(one, other, file):
    data = bytearray(b"data")
    buffer = bytearray(10)
    numbers = [file, file]
    before = [sys.getrefcount(thing) for thing in (data, buffer, file, numbers, one)]
    for _ in range(100):
        one.write(data)
        one.writev([data, data])
        one.send_fds(data, numbers)
        other.readinto(buffer)
        other.readv([buffer, buffer])
        other.recv_fds(100)
        for misuse in (
            lambda: one.send_fds(memoryview(data)[::2], numbers),
            lambda: one.send_fds(data, [file, "x"]),
            lambda: one.send_fds(data[:0], numbers),
            lambda: one.writev([data, "x"]),
        ):
            with pytest.raises((TypeError, ValueError, BufferError)):
                misuse()
    del misuse
    gc.collect()
    assert [sys.getrefcount(thing) for thing in (data, buffer, file, numbers, one)] == before
    # Neither is locked.
    data.append(0)
    buffer.append(0)


# -- Credentials ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(HAS_PEER_CRED, reason="this system has SO_PEERCRED")
def test_less_of_a_peer_cred(one):
    if not sys.platform.startswith(("darwin", "freebsd", "netbsd", "dragonfly")):
        with pytest.raises(NotImplementedError):
            _ = one.peer_cred
    else:
        assert one.peer_cred[1:] == (os.getuid(), os.getgid())
        assert one.peer_cred.pid in (-1, os.getpid())


@needs_peer_cred
def test_peer_cred_of_a_pair(one):
    cred = one.peer_cred
    assert cred == (os.getpid(), os.getuid(), os.getgid())
    assert isinstance(cred, PeerCred)
    assert (cred.pid, cred.uid, cred.gid) == cred
    with pytest.raises(AttributeError):
        one.peer_cred = cred


@needs_peer_cred
def test_peer_cred_of_another_process(tmp_path):
    path = str(tmp_path / "socket")
    script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)"
    with UnixListener.bind(path) as listener, subprocess.Popen([sys.executable, "-c", script, path]) as child:
        stream, _ = accept(listener)
        assert stream.peer_cred == (child.pid, os.getuid(), os.getgid())
        stream.close()
        assert child.wait(PATIENCE) == 0


@needs_peer_cred
def test_no_peer_no_credentials():
    stream = mine(UnixStream.from_socket(socket.socket(socket.AF_UNIX)))
    with pytest.raises(OSError, match="no peer") as caught:
        _ = stream.peer_cred
    assert caught.value.errno == errno.ENOTCONN
    with pytest.raises(OSError) as caught:
        stream.send_fds(b"x", [0])
    assert caught.value.errno == errno.ENOTCONN
    with pytest.raises(OSError):
        stream.recv_fds(1)


# -- Descriptors ------------------------------------------------------------------------------------------------------


def test_descriptors_come_along(one, other, file):
    before = count_fds()
    assert one.send_fds(b"data", [file, other, file.fileno()]) == 4
    data, fds = other.recv_fds(100)
    assert data == b"data"
    assert len(fds) == len(set(fds)) == 3
    assert count_fds() == before + 3
    assert not any(map(os.get_inheritable, fds))
    assert all(type(fd) is int for fd in fds)
    first, second, third = take_fds(fds)
    assert same_file(first, file) and same_file(third, file) and same_file(second, other)
    assert not {first.fileno(), third.fileno()} & {file.fileno()}


def test_a_passed_descriptor_outlives_its_sender(one, other):
    read, write = os.pipe()
    one.send_fds(b"x", [write])
    os.close(write)
    one.close()
    _, fds = other.recv_fds(1)
    os.write(fds[0], b"through")
    os.close(fds[0])
    assert os.read(read, 100) == b"through"
    assert os.read(read, 100) == b""
    os.close(read)


def test_no_descriptors(one, other):
    assert one.send_fds(b"data", ()) == 4
    assert other.recv_fds(2) == (b"da", [])
    assert one.send_fds(b"more", iter([])) == 4
    assert other.recv_fds(100) == (b"tamore", [])


def test_as_many_as_the_kernel_takes(one, other, file):
    before = count_fds()
    assert one.send_fds(b"x", [file] * 253) == 1
    data, fds = other.recv_fds(1)
    assert data == b"x"
    assert len(fds) == 253
    take_fds(fds)
    with pytest.raises(ValueError, match="253"):
        one.send_fds(b"x", [file] * 254)
    assert count_fds() == before + 253
    assert other.recv_fds(1) is None


def test_a_descriptor_that_is_not_open(one, other):
    fd = os.dup(0)
    os.close(fd)
    with pytest.raises(OSError, match="one of the descriptors is not open") as caught:
        one.send_fds(b"x", [0, fd])
    assert caught.value.errno == errno.EBADF
    assert other.read(1) is None


def test_large_data_with_descriptors(one, other, file):
    data = os.urandom(2 * LARGE)
    sent = one.send_fds(data, [file])
    assert 0 < sent < len(data)
    got, fds = other.recv_fds(LARGE)
    take_fds(fds)
    assert len(fds) == 1
    assert data.startswith(got)
    assert got + read_exactly(other, sent - len(got)) == data[:sent]
    assert other.recv_fds(10) is None


def test_messages_are_not_mixed(one, other, file):
    read, write = (mine(os.fdopen(fd, mode, 0)) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
    one.write(b"before ")
    one.send_fds(b"first ", [file])
    one.send_fds(b"second ", [read, write])
    one.write(b"after")
    data, fds = other.recv_fds(1000)
    assert data == b"before first "
    assert same_file(take_fds(fds)[0], file) and len(fds) == 1
    data, fds = other.recv_fds(1000)
    assert data == b"second "
    assert [same_file(got, sent) for got, sent in zip(take_fds(fds), (read, write), strict=True)] == [True, True]
    assert other.recv_fds(1000) == (b"after", [])


def test_every_other_read_discards_them(one, other, file):
    buffer = bytearray(100)
    before = count_fds()
    for read in (
        lambda: other.read(100),
        lambda: other.read(LARGE),
        lambda: other.readinto(buffer),
        lambda: other.readv([buffer]),
        other.readall,
    ):
        one.send_fds(b"data", [file, file])
        assert read() in (b"data", 4)
        assert other.recv_fds(10) is None
    one.send_fds(b"data", [file])
    assert other.peek(10) == b"data"
    data, fds = other.recv_fds(10)
    take_fds(fds)
    assert (data, len(fds)) == (b"data", 1)
    assert count_fds() == before + 1


@pytest.mark.parametrize("most", [0, 1, 2, 3, 252])
def test_more_than_wanted(one, other, file, most):
    before = count_fds()
    assert one.send_fds(b"data", [file] * (most + 1)) == 4
    with pytest.warns(RuntimeWarning, match=f"discarded: {most} were received") as caught:
        data, fds = other.recv_fds(100, most)
    assert caught[0].filename == __file__
    assert data == b"data"
    assert len(fds) == most
    assert count_fds() == before + most
    assert all(same_file(got, file) for got in take_fds(fds))
    one.send_fds(b"data", [file] * most)
    data, fds = other.recv_fds(100, max_fds=most)
    take_fds(fds)
    assert (data, len(fds)) == (b"data", most)


def test_more_than_may_be_open(one, other, file):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    one.send_fds(b"data", [file] * 5)
    before = count_fds()
    free = [os.dup(0) for _ in range(2)]
    limit = max(free) + 1
    for fd in free:
        os.close(fd)
    # The numbers below the limit that are in use have no gap now, but for these two.
    gaps = [number for number in range(limit) if not is_open(number)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        with pytest.warns(RuntimeWarning, match="discarded"):
            data, fds = other.recv_fds(100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert data == b"data"
    assert fds == gaps == free
    assert count_fds() == before + len(gaps)
    take_fds(fds)
    one.write(b"more")
    assert other.recv_fds(100) == (b"more", [])


def test_the_warning_loses_nothing_where_it_is_an_error(one, other, file, monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    before = count_fds()
    one.send_fds(b"data", [file] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data, fds = other.recv_fds(100, 2)
    assert data == b"data"
    assert len(fds) == 2
    assert count_fds() == before + 2
    take_fds(fds)
    assert [(hint.exc_type, hint.object) for hint in unraisable] == [(RuntimeWarning, other)]
    unraisable.clear()


def test_an_exception_after_the_call_leaks_nothing(one, other, file, monkeypatch):
    class Stop(BaseException):
        pass

    def stop(*args):
        raise Stop

    before = count_fds()
    one.send_fds(b"data", [file] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", stop)
        monkeypatch.setattr(warnings, "_showwarning_orig", None, raising=False)
        with pytest.raises(Stop):
            other.recv_fds(100, 2)
    assert count_fds() == before


def test_discarded_ones_do_not_end_the_drain(poll, events, one, other, file):
    poll.registry.register(other, "other", READABLE)
    one.send_fds(b"abc", [file] * 2)
    one.write(b"def")
    expect_only(poll, events, "other", "readable")
    with pytest.warns(RuntimeWarning):
        data, fds = other.recv_fds(100, 0)
    assert (data, fds) == (b"abc", [])
    expect_only(poll, events, "other", "readable")
    assert other.recv_fds(100) == (b"def", [])
    expect_no_events(poll, events)


@pytest.mark.skipif(not LINUX, reason="SO_PASSCRED and SO_PASSPIDFD are Linux's")
@pytest.mark.parametrize("option", ["SO_PASSCRED", "SO_PASSPIDFD"])
def test_credentials_and_descriptors(one, other, file, option):
    number = {"SO_PASSCRED": socket.SO_PASSCRED, "SO_PASSPIDFD": 76}[option]
    with socket.socket(fileno=os.dup(other.fileno())) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, number, 1)
        except OSError:
            pytest.skip(f"no {option} in this kernel")
    before = count_fds()
    one.send_fds(b"data", [file] * 253)
    data, fds = other.recv_fds(100)
    assert (data, len(fds)) == (b"data", 253)
    assert count_fds() == before + 253
    assert all(same_file(got, file) for got in take_fds(fds))
    one.write(b"plain")
    assert other.recv_fds(100) == (b"plain", [])
    assert other.peer_cred.pid == os.getpid()
    assert count_fds() == before + 253


def test_sending_a_stream_through_itself(one, other):
    one.send_fds(b"x", [one, other])
    _, fds = other.recv_fds(1)
    first, second = (mine(UnixStream.from_socket(socket.socket(fileno=fd))) for fd in fds)
    first.write(b"round")
    assert other.read(10) == b"round"
    second.write(b"trip")
    assert one.read(10) == b"trip"
