"""What is said and done on Windows only."""

import contextlib
import gc
import os
import signal
import socket
import sys
import tempfile
import threading
import time

import pytest
from program import unix_sockets
from util import (
    ALARM,
    PATIENCE,
    READABLE,
    WRITABLE,
    Worker,
    count_fds,
    expect_events,
    expect_no_events,
    expect_only,
    mine,
    send_signal,
    socket_pair,
    tcp_listener,
    tcp_pair,
)

from metalio import Events, Interest, Poll, PollOpt
from metalio.net import TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream

if sys.platform != "win32":
    pytest.skip("for Windows", allow_module_level=True)

LEVEL = PollOpt.LEVEL
ONESHOT = PollOpt.ONESHOT


class Number:
    def __init__(self, number):
        self.number = number

    def fileno(self):
        return self.number


# -- What is no socket ------------------------------------------------------------------------------------------------


def test_only_sockets_can_be_polled(poll):
    reading, writing = os.pipe()
    with open(reading, "rb", 0) as reader, open(writing, "wb", 0) as writer, tempfile.TemporaryFile() as file:
        for thing in (reader, writer, file, Number(0), Number(1), Number(7), Number(1 << 24), Number((1 << 31) - 1)):
            with pytest.raises(OSError, match="no open socket"):
                poll.registry.register(thing, "t", READABLE, LEVEL)
            with pytest.raises(FileNotFoundError):
                poll.registry.deregister(thing)


def test_a_closed_socket(poll):
    left, _ = socket_pair()
    number = left.fileno()
    left.close()
    with pytest.raises(OSError, match="no open socket"):
        poll.registry.register(Number(number), "t", READABLE, LEVEL)


def test_a_socket_by_its_number(poll, events):
    """What `metalio.unix.SourceFd` is for elsewhere."""
    first, second = socket_pair()
    number = Number(first.fileno())
    poll.registry.register(number, "number", READABLE, LEVEL)
    with pytest.raises(FileExistsError):
        poll.registry.register(Number(first.fileno()), "again", READABLE, LEVEL)
    expect_no_events(poll, events)
    second.send(b"x")
    expect_only(poll, events, "number", "readable")
    poll.registry.reregister(first, "socket", READABLE, LEVEL)
    expect_only(poll, events, "socket", "readable")
    poll.registry.deregister(number)
    expect_no_events(poll, events)
    with pytest.raises(FileNotFoundError):
        poll.registry.deregister(first)
    with pytest.raises(TypeError):
        poll.registry.register(first.fileno(), "t", READABLE, LEVEL)


# -- What the platform lacks ------------------------------------------------------------------------------------------


def test_interests_and_options_of_other_platforms(poll):
    stream, _ = tcp_pair()
    for interest in (Interest.AIO, Interest.LIO, Interest.AIO | READABLE):
        with pytest.raises(NotImplementedError, match="kqueue"):
            poll.registry.register(stream, "t", interest)
    with pytest.raises(NotImplementedError, match="epoll"):
        poll.registry.register(stream, "t", READABLE, PollOpt.EXCLUSIVE)
    with pytest.raises(ValueError, match="no selector 'epoll' on this machine: there is afd"):
        Poll(selector="epoll")


def test_what_unix_sockets_lack():
    for call in (
        lambda: UnixStream.pair(),
        lambda: UnixStream.connect(b"\0abstract"),
        lambda: UnixListener.bind(b"\0abstract"),
        lambda: UnixDatagram.bind("path"),
        lambda: UnixDatagram.pair(),
        lambda: UnixDatagram.unbound(),
        lambda: UnixDatagram(),
        lambda: UnixStream.__new__(UnixStream).send_fds(b"x", []),
        lambda: UnixStream.__new__(UnixStream).recv_fds(1),
    ):
        with pytest.raises(NotImplementedError, match=r"Windows .* Unix"):
            call()


@pytest.mark.skipif(unix_sockets(), reason="this Windows has Unix sockets")
def test_a_windows_without_unix_sockets(tmp_path):
    for call in (UnixStream.connect, UnixListener.bind):
        with pytest.raises(OSError, match="Unix sockets came with Windows 10 1803") as raised:
            call(tmp_path / "path")
        assert raised.value.winerror == 10047


@pytest.mark.skipif(not unix_sockets(), reason="this Windows has no Unix sockets, which came with Windows 10 1803")
def test_unix_sockets(poll, events, tmp_path):
    path = str(tmp_path / "socket")
    with UnixListener.bind(path) as listener:
        assert listener.local_addr == path
        poll.registry.register(listener, "l", READABLE)
        with pytest.raises(OSError, match="unlink"):
            UnixListener.bind(path)
        with UnixStream.connect(path) as client:
            poll.registry.register(client, "c", READABLE | WRITABLE)
            expect_events(poll, events, {"l": "readable", "c": "writable"})
            server, addr = listener.accept()
            with server:
                assert (addr, client.local_addr, client.peer_addr) == ("", "", path)
                assert server.peer_cred == (os.getpid(), -1, -1)
                poll.registry.register(server, "s", READABLE)
                assert server.read(10) is None
                assert client.write(b"hello") == 5
                expect_events(poll, events, {"s": "readable"})
                assert server.read(10) == b"hello"
                assert server.writev([b"a", b"b"]) == 2
                expect_events(poll, events, {"c": "readable"})
                assert client.read(10) == b"ab"
                server.shutdown("write")
                expect_events(poll, events, {"c": "read_closed"})
                assert client.read(10) == b""
    os.unlink(path)


def test_what_unix_has():
    with pytest.raises(NotImplementedError, match="Unix"):
        import metalio.unix  # noqa: F401


def test_reuse_port():
    for kind in (TcpListener, UdpSocket):
        with pytest.raises(NotImplementedError, match="SO_REUSEPORT"):
            kind.bind("127.0.0.1:0", reuse_port=True)


# -- Errors -----------------------------------------------------------------------------------------------------------


def test_errors_are_those_of_the_socket_module():
    listener = tcp_listener()
    other = mine(socket.socket())
    with pytest.raises(OSError) as expected:
        other.bind(listener.local_addr)
    with pytest.raises(OSError) as found:
        TcpListener.bind(listener.local_addr)
    assert type(found.value) is type(expected.value)
    assert (found.value.errno, found.value.winerror) == (expected.value.errno, expected.value.winerror)
    assert str(found.value).startswith(f"[WinError {found.value.winerror}] ")


# -- Handles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opts", [PollOpt.EDGE, LEVEL, ONESHOT], ids=repr)
@pytest.mark.parametrize("polled", [False, True])
def test_registering_leaks_no_handle(poll, events, opts, polled):
    """10,000 times over all: register and close, most often while a request is under way."""
    with TcpListener.bind("127.0.0.1:0") as listener:
        address = listener.local_addr
        before = 0
        for number in range(1_700):
            stream = TcpStream.connect(address)
            poll.registry.register(stream, number, READABLE | WRITABLE, opts)
            if polled:
                poll.poll(events, 0)
            stream.close()
            accepted = listener.accept()
            if accepted:
                accepted[0].close()
            if number == 200:
                before = count_fds()
        while accepted := listener.accept():
            accepted[0].close()
        poll.poll(events, 0)
        assert count_fds() <= before + 2


def test_polls_leak_no_handle(events):
    left, right = tcp_pair()
    before = 0
    for number in range(500):
        with Poll() as poll:
            poll.registry.register(left, "l", READABLE)
            poll.registry.register(right, "r", WRITABLE)
            expect_only(poll, events, "r", "writable")
        if number == 20:
            before = count_fds()
    gc.collect()
    assert count_fds() <= before + 2


def test_a_handle_that_was_closed_and_is_used_again(poll, events):
    """A foreign socket that was closed without being deregistered is forgotten, whatever state it was in."""
    for opts in (LEVEL, ONESHOT):
        for reported in (False, True):
            left, right = socket_pair()
            number = left.fileno()
            poll.registry.register(left, "old", READABLE, opts)
            if reported:
                right.send(b"x")
                expect_only(poll, events, "old", "readable")
            left.close()
            again = [mine(socket.socket()) for _ in range(8)]
            assert number in [sock.fileno() for sock in again]
            expect_no_events(poll, events)
            for sock in again:
                poll.registry.register(sock, "new", READABLE, LEVEL)
                poll.registry.deregister(sock)


# -- Requests ---------------------------------------------------------------------------------------------------------


def test_more_sockets_than_a_handle_of_the_driver_takes(poll):
    events = Events(256)
    pairs = [tcp_pair() for _ in range(100)]
    for number, (stream, _) in enumerate(pairs):
        poll.registry.register(stream, number, READABLE)
    for _, peer in pairs:
        peer.write(b"x")
    found = set()
    while len(found) < 100:
        assert poll.poll(events, PATIENCE)
        found |= {event.token for event in events}
    for stream, _ in pairs[::2]:
        stream.close()
    for stream, peer in pairs[1::2]:
        assert stream.read(10) == b"x"
        peer.write(b"y")
    found = set()
    while len(found) < 50:
        assert poll.poll(events, PATIENCE)
        found |= {event.token for event in events}
    assert found == set(range(1, 100, 2))


def test_closing_while_requests_are_under_way():
    streams = [stream for _ in range(40) for stream in tcp_pair()]
    for _ in range(20):
        with Poll() as poll:
            for stream in streams:
                poll.registry.register(stream, "t", READABLE)


def test_what_is_reregistered_all_the_time(poll, events):
    """Each time the request under way asks for the wrong thing, and is taken back."""
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE)
    for number in range(500):
        poll.registry.reregister(stream, number, WRITABLE if number % 2 else READABLE)
    expect_only(poll, events, 499, "writable")
    poll.registry.reregister(stream, "last", READABLE)
    expect_no_events(poll, events)
    peer.write(b"x")
    expect_only(poll, events, "last", "readable")


# -- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("polling", [True, False])
def test_signals_at_any_moment_are_not_lost(poll, events, polling):
    """Each is sent when the one before was handled, wherever that was: about to sleep, asleep, or awake again."""
    handled = threading.Semaphore(0)
    over = threading.Event()
    before = signal.signal(ALARM, lambda *_: handled.release())

    def send(main):
        for number in range(100):
            if number % 7 == 0:
                time.sleep(0.0005)
            if number == 99:
                over.set()
            send_signal(main, ALARM)
            assert handled.acquire(timeout=PATIENCE), "a signal was lost"

    try:
        worker = Worker(send, threading.get_ident())
        while not over.is_set():
            if polling:
                with contextlib.suppress(InterruptedError):
                    assert poll.poll_interruptible(events, PATIENCE) == 1, "a signal did not end the wait"
            else:
                assert poll.poll(events, 0.01) == 0
        worker.finish()
    finally:
        signal.signal(ALARM, before)
