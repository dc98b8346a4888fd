"""UnixListener."""

import errno
import os
import pathlib
import resource
import socket

import pytest
from util import PATIENCE, READABLE, count_fds, expect_no_events, expect_only, is_open, mine, wait_readable

from metalio import PollOpt
from metalio.net import UnixListener, UnixStream


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "socket")


@pytest.fixture
def listener(path):
    return mine(UnixListener.bind(path))


def connect(path):
    return mine(UnixStream.connect(path))


def abstract(what):
    return f"\0metalio-test-{os.getpid()}-{what}".encode()


# -- Addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, os.fsencode, pathlib.Path, lambda path: memoryview(path.encode())])
def test_a_path_of_each_kind(path, kind):
    listener = mine(UnixListener.bind(kind(path)))
    assert listener.local_addr == path
    client = mine(UnixStream.connect(kind(path)))
    assert client.peer_addr == path
    stream, addr = listener.accept()
    mine(stream)
    assert addr == ""
    assert stream.local_addr == path
    assert client.write(b"ping") == 4
    assert stream.read(10) == b"ping"


def test_an_abstract_address():
    name = abstract("listener") + b"\0and more"
    listener = mine(UnixListener.bind(name))
    assert listener.local_addr == name
    client = connect(name)
    assert client.peer_addr == name
    mine(listener.accept()[0])
    with pytest.raises(ConnectionRefusedError):
        UnixStream.connect(name + b"x")


def test_the_longest_addresses(path):
    longest = path + "x" * (107 - len(os.fsencode(path)))
    assert mine(UnixListener.bind(longest)).local_addr == longest
    connect(longest)
    name = abstract("longest").ljust(108, b"x")
    assert mine(UnixListener.bind(name)).local_addr == name
    connect(name)


def test_the_address_of_a_bound_peer(listener, path, tmp_path):
    with socket.socket(socket.AF_UNIX) as client:
        client.bind(str(tmp_path / "client"))
        client.connect(path)
        stream, addr = listener.accept()
        mine(stream)
        assert addr == str(tmp_path / "client") == stream.peer_addr


@pytest.mark.parametrize("make", [UnixListener.bind, UnixStream.connect])
@pytest.mark.parametrize(
    ("addr", "error"),
    [
        (None, TypeError),
        (5, TypeError),
        (("localhost", 80), TypeError),
        ("", ValueError),
        (b"", ValueError),
        ("a\0b", ValueError),
        ("x" * 108, ValueError),
        (b"\0" + b"x" * 108, ValueError),
    ],
)
def test_what_is_no_address(make, addr, error):
    before = count_fds()
    with pytest.raises(error):
        make(addr)
    assert count_fds() == before


@pytest.mark.parametrize("backlog", ["1", None, 1 << 40])
def test_what_is_no_backlog(path, backlog):
    with pytest.raises((TypeError, OverflowError)):
        UnixListener.bind(path, backlog=backlog)
    with pytest.raises(TypeError):
        UnixListener.bind(path, 16)
    assert not os.path.exists(path)


def test_the_file_stays_and_is_in_the_way(path):
    UnixListener.bind(path).close()
    assert os.path.exists(path)
    before = count_fds()
    with pytest.raises(OSError, match="unlink") as caught:
        UnixListener.bind(path)
    assert caught.value.errno == errno.EADDRINUSE
    assert count_fds() == before
    with pytest.raises(ConnectionRefusedError):
        UnixStream.connect(path)
    os.unlink(path)
    with pytest.raises(FileNotFoundError):
        UnixStream.connect(path)
    UnixListener.bind(path).close()


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        UnixListener.bind(tmp_path / "no" / "socket")


# -- Accepting --------------------------------------------------------------------------------------------------------


def test_accept_gives_none_until_there_is_a_connection(listener, path):
    assert listener.accept() is None
    clients = [connect(path) for _ in range(3)]
    for client in clients:
        stream, _ = listener.accept()
        mine(stream)
        assert type(stream) is UnixStream
        assert not os.get_inheritable(stream.fileno())
        assert not os.get_blocking(stream.fileno())
        stream.write(b"hello")
        assert client.read(5) == b"hello"
    assert listener.accept() is None


def test_a_full_backlog(path):
    listener = mine(UnixListener.bind(path, backlog=1))
    before = count_fds()
    clients = []
    with pytest.raises(BlockingIOError, match="backlog is full"):
        for _ in range(10):
            clients.append(connect(path))
    assert clients
    assert count_fds() == before + len(clients)
    mine(listener.accept()[0])
    connect(path)


def test_edges(poll, events, listener, path):
    poll.registry.register(listener, "listener", READABLE)
    expect_no_events(poll, events)
    connect(path)
    connect(path)
    expect_only(poll, events, "listener", "readable")
    expect_no_events(poll, events)
    for _ in range(2):
        mine(listener.accept()[0])
    assert listener.accept() is None
    expect_no_events(poll, events)
    connect(path)
    expect_only(poll, events, "listener", "readable")


def test_levels(poll, events, listener, path):
    poll.registry.register(listener, "listener", READABLE, PollOpt.LEVEL)
    connect(path)
    expect_only(poll, events, "listener", "readable")
    expect_only(poll, events, "listener", "readable")
    mine(listener.accept()[0])
    expect_no_events(poll, events)


def test_without_descriptors_it_stays_armed(poll, events, listener, path):
    poll.registry.register(listener, "listener", READABLE)
    connect(path)
    expect_only(poll, events, "listener", "readable")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    try:
        with pytest.raises(OSError) as caught:
            listener.accept()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
    expect_only(poll, events, "listener", "readable")
    mine(listener.accept()[0])
    assert listener.accept() is None
    expect_no_events(poll, events)


# -- Sockets of the socket module, clones, and the end ----------------------------------------------------------------


def test_from_socket(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    fd = sock.fileno()
    listener = mine(UnixListener.from_socket(sock))
    assert sock.fileno() == -1
    assert listener.fileno() == fd
    assert listener.accept() is None
    connect(path)
    mine(listener.accept()[0])


@pytest.mark.parametrize(
    ("family", "kind"), [(socket.AF_INET, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_SEQPACKET)]
)
def test_from_a_socket_of_another_kind(family, kind, path):
    with socket.socket(family, kind) as sock:
        sock.bind(path if family == socket.AF_UNIX else ("127.0.0.1", 0))
        sock.listen()
        with pytest.raises(ValueError, match="another kind"):
            UnixListener.from_socket(sock)
        assert sock.fileno() >= 0


def test_from_what_is_no_listening_socket(listener):
    with socket.socket(socket.AF_UNIX) as sock:
        with pytest.raises(ValueError, match="listen"):
            UnixListener.from_socket(sock)
        assert sock.fileno() >= 0
    with pytest.raises(ValueError, match="closed"):
        UnixListener.from_socket(sock)
    for other in (None, 3, listener):
        with pytest.raises(TypeError):
            UnixListener.from_socket(other)


def test_clone_and_into_socket(listener, path):
    clone = mine(listener.try_clone())
    assert type(clone) is UnixListener
    assert clone.fileno() != listener.fileno()
    sock = mine(listener.into_socket())
    assert listener.closed
    connect(path)
    wait_readable(sock)
    mine(clone.accept()[0])
    connect(path)
    mine(sock.accept()[0])


def test_it_cannot_be_made_by_hand():
    with pytest.raises(TypeError):
        UnixListener()


def test_the_end(poll, events, listener, path):
    class Mark:
        pass

    fd = listener.fileno()
    poll.registry.register(listener, Mark(), READABLE)
    connect(path)
    assert not listener.closed
    with listener as same:
        assert same is listener
    listener.close()
    assert listener.closed
    assert not is_open(fd)
    assert repr(listener) == "<UnixListener closed>"
    expect_no_events(poll, events)
    for use in (
        listener.accept,
        listener.fileno,
        listener.take_error,
        listener.try_clone,
        listener.into_socket,
        lambda: listener.local_addr,
        listener.__enter__,
        lambda: poll.registry.register(listener, 1, READABLE),
    ):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_an_unclosed_one_warns(path):
    listener = UnixListener.bind(path)
    fd = listener.fileno()
    with pytest.warns(ResourceWarning, match="unclosed <UnixListener"):
        del listener
    assert not is_open(fd)


def test_dropping_a_registered_one_drops_its_event(poll, events, path):
    listener = UnixListener.bind(path)
    poll.registry.register(listener, "listener", READABLE)
    connect(path)
    assert poll.poll(events, PATIENCE) == 1
    with pytest.warns(ResourceWarning):
        del listener
    assert list(events) == []
    expect_no_events(poll, events)
