"""UnixDatagram."""

import contextlib
import errno
import gc
import os
import pathlib
import random
import select
import socket
import sys

import pytest
from util import (
    BOTH,
    MOMENT,
    READABLE,
    WRITABLE,
    count_fds,
    expect_events,
    expect_no_events,
    expect_only,
    is_open,
    mine,
    no_free_descriptors,
)

from metalio.net import UnixDatagram, UnixStream


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "socket")


def bound(path):
    return mine(UnixDatagram.bind(path))


def unbound():
    return mine(UnixDatagram.unbound())


def pair():
    return mine(*UnixDatagram.pair())


def abstract(what):
    return f"\0metalio-test-{os.getpid()}-{what}".encode()


def fill(sock, data=b"x" * 100):
    """Send until it would block; how many datagrams."""
    for count in range(100_000):
        if sock.send(data) is None:
            return count
    raise AssertionError("it never blocks")


# -- Sending and receiving --------------------------------------------------------------------------------------------


def test_a_pair():
    first, second = pair()
    assert first.send(b"hello") == 5
    assert second.recv(10) == b"hello"
    assert second.send(bytearray(b"you")) == 3
    assert first.recv_from(10) == (b"you", None)
    assert first.recv(10) is None
    assert first.local_addr == second.local_addr == first.peer_addr == ""


@pytest.mark.parametrize("kind", [str, os.fsencode, pathlib.Path], ids=["str", "bytes", "path"])
def test_bound_to_a_path(path, kind):
    server = bound(kind(path))
    assert server.local_addr == path
    client = bound(kind(path + "2"))
    assert client.send_to(b"question", kind(path)) == 8
    assert server.recv_from(100) == (b"question", path + "2")
    assert server.send_to(b"answer", path + "2") == 6
    assert client.recv_from(100) == (b"answer", path)


@pytest.mark.skipif(sys.platform != "linux", reason="abstract addresses are Linux's")
def test_abstract_addresses():
    server = bound(abstract("server"))
    assert server.local_addr == abstract("server")
    client = bound(abstract("client"))
    client.connect(abstract("server"))
    assert client.peer_addr == abstract("server")
    client.send(b"x")
    assert server.recv_from(1) == (b"x", abstract("client"))


def test_an_unbound_peer_has_no_address(path):
    server = bound(path)
    client = unbound()
    client.send_to(b"x", path)
    assert server.recv_from(1) == (b"x", None)
    client.connect(path)
    assert client.peer_addr == path
    assert client.send(b"") == 0
    assert server.recv_from_into(bytearray(3)) == (0, None)


def test_each_way_of_receiving():
    first, second = pair()
    for _ in range(4):
        first.send(b"payload")
    assert second.peek(3) == b"pay"
    assert second.peek_from(20) == (b"payload", None)
    assert second.recv(20) == b"payload"
    assert second.recv_from(3) == (b"pay", None)
    buffer = bytearray(9)
    assert second.recv_into(buffer) == 7
    assert buffer == b"payload\0\0"
    assert second.recv_from_into(memoryview(buffer)[5:]) == (4, None)
    assert buffer == b"paylopayl"
    assert second.recv(1) is None
    assert second.recv_from(1) is None
    assert second.recv_into(buffer) is None
    assert second.peek(1) is None


@pytest.mark.parametrize("size", [65535, 65536, 65537, 100_000])
def test_large_datagrams(size):
    first, second = pair()
    data = random.Random(4).randbytes(size)
    assert first.send(data) == size
    assert second.recv(size) == data
    first.send(data)
    assert second.recv(size + 5) == data
    first.send(data)
    assert second.recv(size - 1) == data[:-1]
    first.send(data)
    assert second.recv_from(200_000) == (data, None)


def test_long_paths(tmp_path):
    prefix = str(tmp_path) + "/"
    longest = prefix + "n" * (107 - len(prefix))
    server = bound(longest)
    assert server.local_addr == longest
    client = bound(longest[:-1])
    client.send_to(b"x", longest)
    assert server.recv_from(1) == (b"x", longest[:-1])
    for act in (UnixDatagram.bind, client.connect, lambda path: client.send_to(b"x", path)):
        with pytest.raises(ValueError):
            act(longest + "n")


def test_a_subclass():
    class Mine(UnixDatagram):
        pass

    first, second = mine(*Mine.pair())
    assert type(first) is type(second) is Mine
    assert type(mine(first.try_clone())) is Mine


# -- Errors -----------------------------------------------------------------------------------------------------------


def test_errors_of_addresses(path):
    sock = unbound()
    for act in (sock.connect, lambda path: sock.send_to(b"x", path)):
        with pytest.raises(FileNotFoundError):
            act(path)
        for wrong in (None, 5, ("127.0.0.1", 80)):
            with pytest.raises(TypeError):
                act(wrong)
        for wrong in ("", "null\0byte"):
            with pytest.raises(ValueError):
                act(wrong)
    server = bound(path)
    with pytest.raises(OSError) as caught:
        UnixDatagram.bind(path)
    assert caught.value.errno == errno.EADDRINUSE
    server.close()
    # The path is still there.
    for act in (sock.connect, lambda path: sock.send_to(b"x", path)):
        with pytest.raises(ConnectionRefusedError):
            act(path)


def test_a_socket_of_another_kind(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        with pytest.raises(OSError) as caught:
            unbound().send_to(b"x", path)
        assert caught.value.errno == errno.EPROTOTYPE


def test_unconnected():
    sock = unbound()
    with pytest.raises(OSError, match=r"connect\(\)") as caught:
        sock.send(b"x")
    assert caught.value.errno == errno.ENOTCONN
    with pytest.raises(OSError) as caught:
        _ = sock.peer_addr
    assert caught.value.errno == errno.ENOTCONN


def test_a_peer_that_is_gone():
    first, second = pair()
    second.close()
    with pytest.raises(ConnectionRefusedError):
        first.send(b"x")
    assert first.recv(1) is None


def test_too_large_a_datagram():
    first, second = pair()
    with pytest.raises(OSError) as caught:
        first.send(bytes(1 << 24))
    assert caught.value.errno == errno.EMSGSIZE
    assert first.send(b"x") == 1
    assert second.recv(1) == b"x"


def test_buffers_that_cannot_be_used():
    first, second = pair()
    first.send(b"still there")
    released = memoryview(bytearray(8))
    released.release()
    gaps = memoryview(bytearray(8))[::2]
    for data, error in (("text", TypeError), (None, TypeError), (gaps, BufferError), (released, ValueError)):
        for act in (second.send, second.recv_into, second.recv_from_into):
            with pytest.raises(error):
                act(data)
    for act in (second.recv_into, second.recv_from_into):
        with pytest.raises(TypeError, match="writable"):
            act(b"read-only")
    with pytest.raises(ValueError):
        second.recv(-1)
    assert second.recv(20) == b"still there"


def test_after_close(path):
    sock = bound(path)
    sock.close()
    for act in (
        lambda: sock.recv(1),
        lambda: sock.recv_from(1),
        lambda: sock.recv_into(bytearray(1)),
        lambda: sock.peek(1),
        lambda: sock.send(b"x"),
        lambda: sock.send_to(b"x", path),
        lambda: sock.connect(path),
        lambda: sock.shutdown("both"),
        lambda: sock.local_addr,
        lambda: sock.peer_addr,
        lambda: sock.take_error(),
        lambda: sock.try_clone(),
        lambda: sock.fileno(),
    ):
        with pytest.raises(ValueError, match="closed"):
            act()


def test_not_made_directly():
    with pytest.raises(TypeError):
        UnixDatagram()


# -- Shutting down ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["read", socket.SHUT_RD])
def test_shut_down_reading(how):
    first, second = pair()
    first.send(b"waiting")
    second.shutdown(how)
    assert second.recv(10) == b"waiting"
    assert not second.recv(10)
    with pytest.raises(BrokenPipeError):
        first.send(b"x")


@pytest.mark.parametrize("how", ["write", socket.SHUT_WR])
def test_shut_down_writing(how):
    first, second = pair()
    first.shutdown(how)
    with pytest.raises(BrokenPipeError):
        first.send(b"x")
    second.send(b"y")
    assert first.recv(1) == b"y"


@pytest.mark.parametrize("how", ["neither", None, 3, -1])
def test_shut_down_otherwise(how):
    with pytest.raises(ValueError):
        pair()[0].shutdown(how)


# -- From and to socket.socket ----------------------------------------------------------------------------------------


def test_from_socket():
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    mine(second)
    sock = mine(UnixDatagram.from_socket(first))
    assert first.fileno() == -1
    assert sock.recv(1) is None
    second.send(b"x")
    assert sock.recv(1) == b"x"
    plain = mine(sock.into_socket())
    plain.send(b"y")
    assert second.recv(1) == b"y"


def test_from_what_is_none():
    for family, kind in ((socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM)):
        with socket.socket(family, kind) as plain, pytest.raises(ValueError):
            UnixDatagram.from_socket(plain)
    with pytest.raises(TypeError):
        UnixDatagram.from_socket(unbound())
    plain = mine(unbound().into_socket())
    with pytest.raises(ValueError):
        UnixStream.from_socket(plain)


def test_failures_leak_no_descriptors(path):
    bound(path)
    before = count_fds()
    for _ in range(20):
        with pytest.raises(OSError):
            UnixDatagram.bind(path)
    with no_free_descriptors(1):
        for _ in range(5):
            with pytest.raises(OSError) as caught:
                UnixDatagram.pair()
            assert caught.value.errno == errno.EMFILE
    with no_free_descriptors(), pytest.raises(OSError):
        UnixDatagram.unbound()
    assert count_fds() == before


def test_unclosed_warns():
    sock = UnixDatagram.unbound()
    fd = sock.fileno()
    with pytest.warns(ResourceWarning, match="UnixDatagram"):
        del sock
        gc.collect()
    assert not is_open(fd)


def test_nothing_is_leaked_by_use(path):
    server = bound(path)
    client = bound(path + "2")

    def use():
        for _ in range(100):
            client.send_to(b"x" * 50, path)
            client.send_to(b"y", path)
            assert server.recv_from(100) == (b"x" * 50, path + "2")
            assert server.recv_from_into(bytearray(5)) == (1, path + "2")
            assert server.recv(100_000) is None
            with contextlib.suppress(OSError, ValueError):
                client.send_to(b"x", path + "3")

    use()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(10):
        use()
    gc.collect()
    assert sys.getallocatedblocks() - before < 200


# -- Polling ----------------------------------------------------------------------------------------------------------


def test_an_edge_is_drained_by_would_block_alone(poll, events):
    first, second = pair()
    poll.registry.register(second, "second", READABLE)
    first.send(b"one")
    first.send(b"two")
    expect_only(poll, events, "second", "readable")
    assert second.recv(100) == b"one"
    expect_no_events(poll, events)
    assert second.recv(100) == b"two"
    assert second.recv(100) is None
    expect_no_events(poll, events)
    first.send(b"three")
    expect_only(poll, events, "second", "readable")


def test_would_block_on_sending(poll, events):
    first, second = pair()
    poll.registry.register(first, "first", WRITABLE)
    expect_only(poll, events, "first", "writable")
    for _ in range(3):
        count = fill(first)
        assert first.send(b"x") is None
        assert first.send(bytearray(b"x")) is None
        expect_no_events(poll, events)
        while second.recv(200) is not None:
            count -= 1
        assert count <= 0
        expect_events(poll, events, {"first": "writable"})


def test_a_full_peer_by_its_path(poll, events, path):
    """To a peer that it is not connected to it would block as well; that is what the documentation says of it."""
    server = bound(path)
    client = unbound()
    for _ in range(100_000):
        if client.send_to(b"x", path) is None:
            break
    else:
        raise AssertionError("it never blocks")
    assert server.recv(1) == b"x"
    assert client.send_to(b"x", path) == 1


def test_after_an_error_events_go_on(poll, events, path):
    server = bound(path)
    client = bound(path + "2")
    client.connect(path)
    poll.registry.register(client, "client", BOTH)
    expect_events(poll, events, {"client": "writable"})
    server.close()
    with pytest.raises(ConnectionRefusedError):
        client.send(b"x")
    other = bound(path + "3")
    client.connect(path + "3")
    other.send_to(b"hello", path + "2")
    expect_events(poll, events, {"client": "readable"})
    assert client.recv(10) == b"hello"


def test_shutting_down_is_news_where_something_waits(poll, events):
    first, second = pair()
    poll.registry.register(second, "second", READABLE)
    first.send(b"x")
    expect_only(poll, events, "second", "readable")
    expect_no_events(poll, events, 0)
    second.shutdown("read")
    expect_events(poll, events, {"second": "read_closed"})
    assert second.recv(1) == b"x"


def test_shutting_down_is_an_event(poll, events):
    _, second = pair()
    poll.registry.register(second, "second", READABLE)
    assert second.recv(1) is None
    expect_no_events(poll, events)
    second.shutdown("read")
    expect_events(poll, events, {"second": "readable"})
    for _ in range(3):
        assert not second.recv(1)
        # It is news once.
        expect_no_events(poll, events, 0)


def test_the_kernel_tells_of_room_only_to_the_connected(path):
    """The reason for the warning in the documentation, as poll(2) itself has it."""
    bound(path)
    connected = unbound()
    connected.connect(path)
    stranger = unbound()
    fill(connected)
    waiter = select.poll()
    waiter.register(stranger, select.POLLOUT)
    assert stranger.send_to(b"x", path) is None
    assert waiter.poll(0) == [(stranger.fileno(), select.POLLOUT)]
    waiter = select.poll()
    waiter.register(connected, select.POLLOUT)
    assert waiter.poll(MOMENT * 1000) == []
