"""metalio.unix.pipe."""

import errno
import fcntl
import gc
import io
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap

import pytest
from util import (
    PATIENCE,
    READABLE,
    WRITABLE,
    count_fds,
    drain,
    expect_events,
    expect_no_events,
    expect_only,
    fill,
    is_open,
    mine,
    open_descriptors,
    read_exactly,
)

import metalio.unix.pipe
from metalio import PollOpt
from metalio.unix import pipe

LARGE = 1 << 20


@pytest.fixture
def ends():
    return mine(*pipe.new())


@pytest.fixture
def sender(ends):
    return ends[0]


@pytest.fixture
def receiver(ends):
    return ends[1]


def child(script, **options):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], **options)


# -- Bytes ------------------------------------------------------------------------------------------------------------


def test_names():
    assert metalio.unix.pipe is pipe
    assert pipe.Sender.__name__ == "Sender"
    assert pipe.Receiver.__module__ == "metalio.unix.pipe"


def test_what_goes_in_comes_out(sender, receiver):
    assert sender.write(b"hello") == 5
    assert sender.write(memoryview(b" world")) == 6
    assert receiver.read(5) == b"hello"
    assert receiver.read() == b" world"
    buffer = bytearray(10)
    assert sender.writev([b"ab", b"", bytearray(b"cd")]) == 4
    assert receiver.readinto(buffer) == 4
    assert sender.write(bytes(buffer[:4])) == 4
    first, second = bytearray(3), bytearray(3)
    assert receiver.readv([first, second]) == 4
    assert first + second == b"abcd\0\0"


def test_descriptors_are_private_and_non_blocking(sender, receiver):
    for end in (sender, receiver):
        assert not os.get_inheritable(end.fileno())
        assert not os.get_blocking(end.fileno())


def test_nothing_there_is_none(receiver):
    buffer = bytearray(10)
    for read in (
        receiver.read,
        receiver.readall,
        lambda: receiver.read(10),
        lambda: receiver.read(LARGE),
        lambda: receiver.readinto(buffer),
        lambda: receiver.readv([buffer, buffer]),
    ):
        assert read() is None


def test_no_room_is_none(sender, receiver):
    total = fill(sender)
    for write in (
        lambda: sender.write(b"x"),
        lambda: sender.write(bytes(LARGE)),
        lambda: sender.writev([b"x", b"y"]),
    ):
        assert write() is None
    assert len(drain(receiver)) == total
    assert sender.write(b"x") == 1


def test_the_end_of_the_stream(sender, receiver):
    sender.write(b"last")
    sender.close()
    buffer = bytearray(10)
    assert receiver.read(100) == b"last"
    for _ in range(2):
        assert receiver.read(100) == receiver.read() == b""
        assert receiver.readinto(buffer) == receiver.readv([buffer, buffer]) == 0


def test_nobody_reads(sender, receiver):
    receiver.close()
    for write in (
        lambda: sender.write(b"x"),
        lambda: sender.write(bytes(LARGE)),
        lambda: sender.writev([b"x", b"y"]),
        lambda: sender.writev([bytes(LARGE)] * 2),
    ):
        with pytest.raises(BrokenPipeError):
            write()


def test_large_transfers(poll, events, sender, receiver):
    data = os.urandom(3 << 20)
    left = memoryview(data)
    got = []
    poll.registry.register(sender, "sender", WRITABLE)
    poll.registry.register(receiver, "receiver", READABLE)
    while sum(map(len, got)) < len(data):
        assert poll.poll(events, PATIENCE)
        for event in events:
            if event.token == "receiver":
                while piece := receiver.read(100_000):
                    got.append(piece)
                    if len(piece) < 100_000:
                        break
            else:
                while left and (sent := sender.write(left)):
                    left = left[sent:]
    assert b"".join(got) == data


def test_many_buffers(sender, receiver):
    fcntl.fcntl(sender.fileno(), fcntl.F_SETPIPE_SZ, 1 << 18)
    pieces = [bytes([number % 251]) * 50 for number in range(2000)]
    sent = sender.writev(pieces)
    assert sent > 0
    assert read_exactly(receiver, sent) == b"".join(pieces)[:sent]
    assert receiver.read(1) is None


# -- Readiness --------------------------------------------------------------------------------------------------------


def test_edges(poll, events, sender, receiver):
    poll.registry.register(receiver, "receiver", READABLE)
    poll.registry.register(sender, "sender", WRITABLE)
    expect_only(poll, events, "sender", "writable")
    sender.write(b"abc")
    expect_only(poll, events, "receiver", "readable")
    expect_no_events(poll, events)
    assert receiver.read(100) == b"abc"
    expect_no_events(poll, events)
    sender.write(b"def")
    expect_only(poll, events, "receiver", "readable")
    assert receiver.read(3) == b"def"
    assert receiver.read(3) is None
    fill(sender)
    assert receiver.readinto(bytearray(1 << 17)) > 0
    assert receiver.read(1) is None
    expect_events(poll, events, {"sender": "writable"})


def test_level_and_oneshot(poll, events, sender, receiver):
    poll.registry.register(receiver, 1, READABLE, PollOpt.LEVEL)
    sender.write(b"abc")
    for _ in range(2):
        expect_only(poll, events, 1, "readable")
    poll.registry.reregister(receiver, 2, READABLE, PollOpt.ONESHOT)
    expect_only(poll, events, 2, "readable")
    sender.write(b"def")
    expect_no_events(poll, events)


def test_the_other_end_closes(poll, events, sender, receiver):
    poll.registry.register(receiver, "receiver", READABLE)
    sender.close()
    assert "read_closed" in expect_events(poll, events, {"receiver": "read_closed"})["receiver"]
    assert receiver.read(1) == b""


def test_nobody_reads_any_more(poll, events, sender, receiver):
    poll.registry.register(sender, "sender", WRITABLE)
    expect_only(poll, events, "sender", "writable")
    receiver.close()
    # For kqueue that is an end, and no error.
    expect_events(
        poll, events, {"sender": ["write_closed"] if poll.selector_name == "kqueue" else ["error", "write_closed"]}
    )
    with pytest.raises(BrokenPipeError):
        sender.write(b"x")


# -- Under the io module ----------------------------------------------------------------------------------------------


def test_buffered(sender, receiver):
    with io.BufferedWriter(sender) as writer, io.BufferedReader(receiver) as reader:
        writer.write(b"first\nsecond")
        writer.flush()
        assert reader.readline() == b"first\n"
        writer.close()
        assert sender.closed
        assert reader.read() == b"second"
    assert receiver.closed


def test_text(sender, receiver):
    with io.TextIOWrapper(io.BufferedWriter(sender), "utf-8") as writer:
        writer.write("grüße\n")
    with io.TextIOWrapper(io.BufferedReader(receiver), "utf-8") as reader:
        assert list(reader) == ["grüße\n"]


def test_the_io_module_sees_the_direction(sender, receiver):
    assert sender.writable() and not sender.readable() and not sender.seekable()
    assert receiver.readable() and not receiver.writable() and not receiver.seekable()
    with pytest.raises(io.UnsupportedOperation):
        io.BufferedReader(sender)
    with pytest.raises(io.UnsupportedOperation):
        io.BufferedWriter(receiver)


# -- SIGPIPE ----------------------------------------------------------------------------------------------------------

BROKEN = """
    import os, signal, sys
    {prepare}
    from metalio.unix import pipe

    sender, receiver = pipe.new()
    receiver.close()
    for write in (
        lambda: sender.write(b"x"),
        lambda: sender.write(bytes(1 << 20)),
        lambda: sender.writev([b"x", b"y"]),
        lambda: sender.writev([bytes(1 << 20)] * 2),
    ):
        try:
            write()
        except BrokenPipeError:
            print("broken", end=" ")
    sender.close()
    {after}
"""


@pytest.mark.parametrize(
    ("prepare", "after"),
    [
        pytest.param("", "", id="as Python sets it"),
        pytest.param(
            "signal.signal(signal.SIGPIPE, signal.SIG_DFL)",
            "assert not signal.sigpending() and not signal.pthread_sigmask(signal.SIG_BLOCK, ())",
            id="default",
        ),
        pytest.param(
            "calls = []; signal.signal(signal.SIGPIPE, lambda *args: calls.append(args))",
            "assert not calls",
            id="a handler",
        ),
        pytest.param(
            "signal.signal(signal.SIGPIPE, signal.SIG_DFL); signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})",
            "assert not signal.sigpending(); assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGPIPE}",
            id="blocked",
        ),
        pytest.param(
            "signal.signal(signal.SIGPIPE, signal.SIG_DFL); signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE});"
            "signal.raise_signal(signal.SIGPIPE)",
            "assert signal.sigpending() == {signal.SIGPIPE}; signal.sigwait({signal.SIGPIPE})",
            id="pending before",
        ),
    ],
)
def test_broken_pipe_is_no_signal(prepare, after):
    script = textwrap.dedent(BROKEN).format(prepare=prepare, after=after)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE * 3)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["broken"] * 4


def test_a_signal_of_somebody_else_is_delivered():
    script = """
        import os, signal
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        from metalio.unix import pipe

        sender, receiver = pipe.new()
        sender.write(b"x")
        receiver.close()
        try:
            sender.write(b"x")
        except BrokenPipeError:
            os.kill(os.getpid(), signal.SIGPIPE)
    """
    with child(script) as process:
        assert process.wait(PATIENCE * 3) == -signal.SIGPIPE


# -- Files ------------------------------------------------------------------------------------------------------------


def test_the_pipes_of_a_subprocess(poll, events):
    before = count_fds()
    script = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1]); sys.stderr.write('done')"
    with child(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        sender = mine(pipe.Sender.from_file(process.stdin))
        outputs = [mine(pipe.Receiver.from_file(file)) for file in (process.stdout, process.stderr)]
        assert process.stdin.closed and process.stdout.closed and process.stderr.closed
        assert count_fds() == before + 3
        data = os.urandom(200_000)
        left = memoryview(data)
        got = dict.fromkeys(outputs, b"")
        open_ones = set(outputs)
        poll.registry.register(sender, sender, WRITABLE)
        for output in outputs:
            poll.registry.register(output, output, READABLE)
        while open_ones:
            assert poll.poll(events, PATIENCE * 3)
            for event in events:
                if event.token is sender:
                    while left and (sent := sender.write(left)):
                        left = left[sent:]
                    if not left:
                        sender.close()
                else:
                    while piece := event.token.read(65536):
                        got[event.token] += piece
                    if piece == b"":
                        open_ones.discard(event.token)
        assert process.wait(PATIENCE) == 0
    assert got[outputs[0]] == data[::-1]
    assert got[outputs[1]] == b"done"


def opened(fd, mode, buffering=-1, **options):
    return mine(os.fdopen(fd, mode, buffering, **options))


def files(reading=0, writing=0):
    """The two ends of a blocking pipe as file objects, with buffers of that size."""
    read, write = os.pipe()
    return opened(read, "rb", reading), opened(write, "wb", writing)


@pytest.mark.parametrize("buffering", [0, -1])
def test_from_file(buffering):
    reader, writer = files(buffering, buffering)
    before = open_descriptors()
    inodes = sorted(before.values())
    receiver, sender = mine(pipe.Receiver.from_file(reader), pipe.Sender.from_file(writer))
    assert type(receiver) is pipe.Receiver and type(sender) is pipe.Sender
    assert reader.closed and writer.closed
    assert sorted(open_descriptors().values()) == inodes
    for end in (receiver, sender):
        assert not os.get_blocking(end.fileno())
        assert not os.get_inheritable(end.fileno())
    # Closing the files again closes nobody's descriptor.
    reader.close()
    writer.close()
    sender.write(b"x")
    assert receiver.read(10) == b"x"
    sender.close()
    assert receiver.read(10) == b""


def test_what_was_written_before_comes_first():
    reader, writer = files(0, -1)
    writer.write(b"buffered ")
    sender = mine(pipe.Sender.from_file(writer))
    sender.write(b"and not")
    assert reader.read(100) == b"buffered and not"


def test_what_does_not_fit_is_kept():
    reader, writer = files(0, LARGE)
    size = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    data = os.urandom(size + 1000)
    writer.write(data)
    before = count_fds()
    with pytest.raises(BlockingIOError, match="flush it first"):
        pipe.Sender.from_file(writer)
    assert count_fds() == before
    assert not writer.closed
    assert os.get_blocking(writer.fileno())
    got = reader.read(size)
    sender = mine(pipe.Sender.from_file(writer))
    assert writer.closed
    assert got + reader.read(size) == data
    assert sender.write(b"x") == 1


def test_a_file_that_cannot_be_flushed():
    reader, writer = files(0, -1)
    writer.write(b"data")
    reader.close()
    before = count_fds()
    with pytest.raises(BrokenPipeError):
        pipe.Sender.from_file(writer)
    assert count_fds() == before
    assert os.get_blocking(writer.fileno())
    with pytest.raises(BrokenPipeError):
        writer.close()
    assert writer.closed


def test_a_file_that_has_read_ahead():
    reader, writer = files(-1, 0)
    writer.write(b"first\nsecond\n")
    assert reader.readline() == b"first\n"
    os.set_inheritable(reader.fileno(), True)
    before = open_descriptors()
    with pytest.raises(ValueError, match="read ahead"):
        pipe.Receiver.from_file(reader)
    # All is as it was.
    assert open_descriptors() == before
    assert os.get_blocking(reader.fileno()) and os.get_inheritable(reader.fileno())
    writer.write(b"third\n")
    assert reader.readline() == b"second\n"
    receiver = mine(pipe.Receiver.from_file(reader))
    assert receiver.read(100) == b"third\n"


def test_a_file_with_data_in_the_pipe_has_not_read_ahead():
    reader, writer = files(-1, 0)
    writer.write(b"data")
    receiver = mine(pipe.Receiver.from_file(reader))
    assert receiver.read(100) == b"data"
    assert receiver.read(100) is None


def test_a_file_that_does_not_own_its_descriptor():
    owner, writer = files()
    receiver = mine(pipe.Receiver.from_file(opened(owner.fileno(), "rb", closefd=False)))
    assert is_open(owner.fileno())
    writer.write(b"x")
    owner.close()
    assert receiver.read(1) == b"x"


def test_a_fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    receiver = mine(pipe.Receiver.from_file(opened(os.open(path, os.O_RDWR), "rb", 0)))
    sender = mine(pipe.Sender.from_file(opened(os.open(path, os.O_WRONLY), "wb", 0)))
    sender.write(b"x")
    assert receiver.read(1) == b"x"


@pytest.mark.parametrize("buffering", [0, -1])
def test_the_wrong_end(buffering):
    reader, writer = files(buffering, buffering)
    with pytest.raises(ValueError, match="for reading"):
        pipe.Sender.from_file(reader)
    with pytest.raises(ValueError, match="for writing"):
        pipe.Receiver.from_file(writer)
    assert os.get_blocking(reader.fileno()) and os.get_blocking(writer.fileno())


@pytest.mark.parametrize("take", [pipe.Receiver.from_file, pipe.Sender.from_file])
def test_what_is_no_pipe(take, tmp_path):
    for mode in ("wb", "rb"):
        with open(tmp_path / "file", mode) as file:
            with pytest.raises(ValueError, match="no pipe"):
                take(file)
            assert not file.closed
    with pytest.raises(ValueError, match="closed"):
        take(file)
    with open(tmp_path / "file", "r+b") as file, pytest.raises(TypeError):
        take(file)
    with open(os.devnull, "rb") as file, pytest.raises(ValueError, match="no pipe"):
        take(file)
    reader, _ = files()
    with open(reader.fileno(), closefd=False) as file, pytest.raises(TypeError, match="binary"):
        take(file)
    first, second = mine(*socket.socketpair())
    for thing in (None, 0, io.BytesIO(), first):
        with pytest.raises(TypeError):
            take(thing)
    with pytest.raises(ValueError, match="no pipe"):
        take(mine(second.makefile("rb")))


def test_out_of_descriptors():
    reader, writer = files(-1, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    before = open_descriptors()
    # No room at all; for the duplicate, but not for what it takes to look into the buffer; for one of the two of that.
    for room in (0, 1, 2):
        resource.setrlimit(resource.RLIMIT_NOFILE, (probe + room, hard))
        try:
            with pytest.raises(OSError) as caught:
                pipe.Receiver.from_file(reader)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert caught.value.errno == errno.EMFILE
        assert open_descriptors() == before
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + 1, hard))
    try:
        with pytest.raises(OSError) as caught:
            pipe.new()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
    writer.write(b"x")
    assert reader.read(1) == b"x"


# -- Misuse, and the end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda sender, receiver: receiver.read("1"), TypeError),
        (lambda sender, receiver: receiver.read(1.0), TypeError),
        (lambda sender, receiver: receiver.readinto(b"read-only"), TypeError),
        (lambda sender, receiver: receiver.readinto(memoryview(bytearray(8))[::2]), BufferError),
        (lambda sender, receiver: receiver.readinto(5), TypeError),
        (lambda sender, receiver: receiver.readv([bytearray(2), b"read-only"]), TypeError),
        (lambda sender, receiver: receiver.readv(5), TypeError),
        (lambda sender, receiver: sender.write("text"), TypeError),
        (lambda sender, receiver: sender.write(None), TypeError),
        (lambda sender, receiver: sender.write(memoryview(b"abcd")[::2]), BufferError),
        (lambda sender, receiver: sender.writev([b"x", "text"]), TypeError),
        (lambda sender, receiver: pipe.Sender(), TypeError),
        (lambda sender, receiver: pipe.Receiver(), TypeError),
        (lambda sender, receiver: pipe.new(1), TypeError),
        (lambda sender, receiver: sender.read(1), AttributeError),
        (lambda sender, receiver: receiver.write(b"x"), AttributeError),
        (lambda sender, receiver: receiver.peek(1), AttributeError),
    ],
)
def test_misuse(sender, receiver, use, error):
    sender.write(b"data")
    with pytest.raises(error):
        use(sender, receiver)
    assert receiver.read(100) == b"data"


def test_a_released_buffer(sender, receiver):
    view = memoryview(bytearray(4))
    view.release()
    for use in (sender.write, receiver.readinto, lambda view: sender.writev([view])):
        with pytest.raises(ValueError, match="released"):
            use(view)


def test_use_after_close(poll, sender, receiver):
    poll.registry.register(sender, 1, WRITABLE)
    with sender, receiver:
        pass
    assert sender.closed and receiver.closed
    sender.close()
    buffer = bytearray(4)
    for use in (
        sender.fileno,
        lambda: sender.write(b"x"),
        lambda: sender.write(b""),
        lambda: sender.writev([b"x"]),
        sender.flush,
        sender.readable,
        sender.writable,
        sender.seekable,
        sender.__enter__,
        receiver.fileno,
        receiver.read,
        lambda: receiver.read(0),
        receiver.readall,
        lambda: receiver.readinto(buffer),
        lambda: receiver.readv([buffer]),
        receiver.readable,
        receiver.writable,
        receiver.seekable,
        receiver.__enter__,
        lambda: poll.registry.register(receiver, 1, READABLE),
    ):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert repr(sender) == "<Sender closed>"
    assert repr(receiver) == "<Receiver closed>"


def test_unclosed_ones_warn():
    sender, receiver = pipe.new()
    fds = sender.fileno(), receiver.fileno()
    with pytest.warns(ResourceWarning, match="unclosed <Sender"):
        del sender
    with pytest.warns(ResourceWarning, match="unclosed <Receiver"):
        del receiver
    assert not is_open(fds[0]) and not is_open(fds[1])


def test_no_references_are_kept(sender, receiver):
    data, buffer = bytearray(b"data"), bytearray(10)
    before = [sys.getrefcount(thing) for thing in (data, buffer, sender, receiver)]
    for _ in range(100):
        sender.write(data)
        sender.writev([data, data])
        receiver.readinto(buffer)
        receiver.readv([buffer, buffer])
        with pytest.raises(TypeError):
            sender.writev([data, "x"])
    gc.collect()
    assert [sys.getrefcount(thing) for thing in (data, buffer, sender, receiver)] == before
    data.append(0)
    buffer.append(0)
