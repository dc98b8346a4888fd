"""metalio.windows.NamedPipe."""

import gc
import io
import itertools
import os
import subprocess
import sys
import threading
import time
import warnings
import weakref

import pytest
from util import (
    BOTH,
    PATIENCE,
    READABLE,
    WRITABLE,
    Worker,
    count_fds,
    expect_events,
    expect_no_events,
    expect_only,
    mine,
    sleeping,
    what,
)

from metalio import Events, Interest, Poll, PollOpt, Source, Waker
from metalio.buf import ByteBuf, RingBuf

if sys.platform != "win32":
    pytest.skip("for Windows", allow_module_level=True)

import _winapi

from metalio.windows import NamedPipe

EDGE, LEVEL, ONESHOT = PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT

_numbers = itertools.count()


def new_name():
    return rf"\\.\pipe\metalio-test-{os.getpid()}-{next(_numbers)}"


def pair(access="duplex", **options):
    """A server's instance and its client."""
    name = new_name()
    server = mine(NamedPipe.create(name, access, **options))
    other = {"duplex": "duplex", "inbound": "outbound", "outbound": "inbound"}[access]
    client = mine(NamedPipe.open(name, other, message=options.get("message", False)))
    assert server.connect() is True
    return server, client


def receive(poll, events, pipe, size):
    """So many bytes, which have to come; it is registered with edges."""
    pieces = []
    while size:
        piece = pipe.read(size)
        if piece is None:
            assert poll.poll(events, PATIENCE), "nothing comes"
        else:
            assert piece, "the stream ended too soon"
            pieces.append(piece)
            size -= len(piece)
    return b"".join(pieces)


def stuff(pipe, chunk=bytes(65536)):
    """Write until it would block; how many bytes."""
    total = 0
    while (sent := pipe.write(chunk)) is not None:
        total += sent
    return total


# -- Readiness --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opts", [EDGE, LEVEL, ONESHOT], ids=repr)
def test_reading_is_an_event(poll, events, opts):
    server, client = pair()
    poll.registry.register(server, "s", READABLE, opts)
    expect_no_events(poll, events)
    assert server.read(10) is None
    assert client.write(b"hello") == 5
    expect_only(poll, events, "s", "readable")
    assert server.read(10) == b"hello"
    assert server.read(10) is None
    expect_no_events(poll, events)
    assert client.write(b"again") == 5
    if opts is ONESHOT:
        expect_no_events(poll, events)
        poll.registry.reregister(server, "s", READABLE, opts)
    expect_only(poll, events, "s", "readable")
    assert server.read(10) == b"again"


def test_an_edge_is_reported_once(poll, events):
    server, client = pair()
    poll.registry.register(server, "s", READABLE)
    client.write(b"hello")
    expect_only(poll, events, "s", "readable")
    expect_no_events(poll, events)
    # Not drained, and nothing new that could be seen: what is there was read ahead.
    assert server.read(2) == b"he"
    expect_no_events(poll, events)
    assert server.read(10) == b"llo"
    client.write(b"x")
    expect_only(poll, events, "s", "readable")


def test_a_short_read_ends_the_drain(poll, events):
    server, client = pair()
    poll.registry.register(server, "s", READABLE)
    for number in range(200):
        client.write(bytes([number]) * (number + 1))
        expect_only(poll, events, "s", "readable")
        assert server.read(1000) == bytes([number]) * (number + 1)


def test_what_comes_while_it_is_drained_is_another_edge(poll, events):
    """The writer is another process's thread, in effect: it does not wait for the GIL."""
    name = new_name()
    server = mine(NamedPipe.create(name, "inbound"))
    client = os.open(name, os.O_WRONLY | os.O_BINARY)
    assert server.connect()
    poll.registry.register(server, "s", READABLE)
    rounds = 3000

    def send():
        for _ in range(rounds):
            os.write(client, b"x")
        os.close(client)

    worker = Worker(send)
    got = 0
    while got < rounds:
        assert poll.poll(events, PATIENCE), f"an edge was lost after {got}"
        # It is short, so it ends the drain.
        got += len(server.read(1 << 20) or b"")
    worker.finish()


def test_what_comes_after_a_short_read_and_before_it_returns(poll, events):
    server, client = pair()
    poll.registry.register(server, "s", READABLE)

    class Buffer:
        """Whose code runs in between."""

        def remaining(self):
            return 100

        def mut_bytes(self):
            return memoryview(bytearray(100))

        def advance(self, count):
            assert client.write(b"more") == 4

    client.write(b"first")
    expect_only(poll, events, "s", "readable")
    assert server.read_buf(Buffer()) == 5
    expect_only(poll, events, "s", "readable")
    assert server.read(100) == b"more"


def test_level_until_it_is_drained(poll, events):
    server, client = pair()
    poll.registry.register(server, "s", READABLE, LEVEL)
    client.write(b"hello")
    for size in (2, 2):
        expect_only(poll, events, "s", "readable")
        server.read(size)
    expect_only(poll, events, "s", "readable")
    # Exactly what is there.
    assert server.read(1) == b"o"
    expect_no_events(poll, events)


def test_it_is_writable_at_once(poll, events):
    for pipe in pair():
        poll.registry.register(pipe, "p", WRITABLE)
        expect_only(poll, events, "p", "writable")
        expect_no_events(poll, events)
        poll.registry.deregister(pipe)


@pytest.mark.parametrize("opts", [EDGE, LEVEL, ONESHOT], ids=repr)
def test_writable_again_when_there_is_room(poll, events, opts):
    server, client = pair()
    poll.registry.register(server, "s", WRITABLE, opts)
    expect_only(poll, events, "s", "writable")
    total = stuff(server)
    assert total >= 65536
    if opts is ONESHOT:
        poll.registry.reregister(server, "s", WRITABLE, opts)
    expect_no_events(poll, events)
    read = len(client.readall())
    expect_only(poll, events, "s", "writable")
    while read < total:
        read += len(client.readall() or b"")
    assert read == total
    assert server.write(b"more") == 4


def test_many_bytes_both_ways(poll, events):
    """More than fits, and every one of them."""
    server, client = pair()
    data = os.urandom(1 << 20)
    ends = {pipe: [memoryview(data), bytearray()] for pipe in (server, client)}
    for pipe in ends:
        poll.registry.register(pipe, pipe, BOTH)
    while any(len(got) < len(data) for _, got in ends.values()):
        assert poll.poll(events, PATIENCE), "it hangs"
        for event in events:
            left, got = ends[event.token]
            while left and (sent := event.token.write(left)):
                left = left[sent:]
            ends[event.token][0] = left
            while piece := event.token.read(100_000):
                got += piece
    assert all(got == data for _, got in ends.values())


def test_what_was_there_before_it_is_registered(poll, events):
    server, client = pair()
    client.write(b"x")
    poll.registry.register(server, "s", BOTH)
    expect_only(poll, events, "s", {"readable", "writable"})


def test_operations_from_before_it_is_registered(poll, events):
    """Of all kinds; their completions come though the pipe had no port when they began."""
    server, client = pair()
    assert server.read(10) is None
    stuff(server)
    poll.registry.register(server, "s", BOTH)
    expect_no_events(poll, events)
    client.write(b"x")
    expect_only(poll, events, "s", "readable")
    while client.readall():
        pass
    expect_events(poll, events, {"s": "writable"})
    name = new_name()
    waiting = mine(NamedPipe.create(name))
    assert waiting.connect() is None
    poll.registry.register(waiting, "w", WRITABLE)
    expect_no_events(poll, events)
    mine(NamedPipe.open(name))
    expect_only(poll, events, "w", "writable")


def test_reading_ahead_only_for_who_reads(poll, events):
    server, client = pair()
    poll.registry.register(server, "s", WRITABLE)
    expect_only(poll, events, "s", "writable")
    client.write(b"x")
    expect_no_events(poll, events)
    poll.registry.reregister(server, "s", READABLE)
    expect_only(poll, events, "s", "readable")


def test_interests_and_options_that_it_does_not_have(poll):
    server, _ = pair()
    for interest in (Interest.AIO, Interest.LIO):
        with pytest.raises(NotImplementedError):
            poll.registry.register(server, "s", interest)
    with pytest.raises(NotImplementedError):
        poll.registry.register(server, "s", READABLE, PollOpt.EXCLUSIVE)
    poll.registry.register(server, "s", READABLE)


def test_a_poll_with_room_for_one(poll):
    events = Events(1)
    pairs = [pair() for _ in range(5)]
    for number, (server, client) in enumerate(pairs):
        poll.registry.register(server, number, READABLE)
        client.write(b"x")
    found = set()
    while len(found) < 5:
        assert poll.poll(events, PATIENCE) == 1
        found.add(events[0].token)


def test_a_sleeping_poll_is_woken(poll, events):
    server, client = pair()
    poll.registry.register(server, "s", READABLE)
    worker = Worker(poll.poll, events, PATIENCE)
    sleeping(worker)
    client.write(b"x")
    assert worker.finish() == 1
    assert events[0].token == "s"


def test_registered_while_another_thread_sleeps(poll, events):
    server, client = pair()
    worker = Worker(poll.poll, events, PATIENCE)
    sleeping(worker)
    poll.registry.register(server, "s", READABLE)
    client.write(b"x")
    assert worker.finish() == 1


def test_two_polls_sleep(poll, events):
    """Whoever is woken gets it; with a second one nobody is forgotten."""
    ends = [pair() for _ in range(2)]
    for number, (server, _) in enumerate(ends):
        poll.registry.register(server, number, READABLE)
    batches = [Events(1), Events(1)]
    workers = [Worker(poll.poll, batch, PATIENCE) for batch in batches]
    for worker in workers:
        sleeping(worker)
    for _, client in ends:
        client.write(b"x")
    assert [worker.finish() for worker in workers] == [1, 1]
    assert {batch[0].token for batch in batches} == {0, 1}


def test_operations_outlive_the_thread_that_began_them(poll, events):
    server, client = pair()
    Worker(server.read, 10).finish()
    Worker(poll.registry.register, server, "s", READABLE).finish()
    expect_no_events(poll, events)
    client.write(b"x")
    expect_only(poll, events, "s", "readable")
    assert server.read(10) == b"x"


def test_beside_sockets_and_wakers(poll, events):
    from util import tcp_pair

    server, client = pair()
    left, right = tcp_pair()
    waker = Waker(poll.registry, "w")
    poll.registry.register(server, "s", READABLE)
    poll.registry.register(left, "l", READABLE)
    for _ in range(50):
        client.write(b"x")
        right.write(b"y")
        waker.wake()
        expect_events(poll, events, {"s": "readable", "l": "readable", "w": "readable"})
        assert (server.read(9), left.read(9)) == (b"x", b"y")


# -- Connections ------------------------------------------------------------------------------------------------------


def test_connecting(poll, events):
    name = new_name()
    server = mine(NamedPipe.create(name))
    poll.registry.register(server, "s", BOTH)
    for use in (lambda: server.read(1), lambda: server.write(b"x")):
        with pytest.raises(OSError) as caught:
            use()
        assert caught.value.winerror == 536
    assert server.connect() is None
    assert server.connect() is None
    assert server.read(1) is None
    assert server.write(b"x") is None
    expect_no_events(poll, events)
    client = mine(NamedPipe.open(name))
    expect_only(poll, events, "s", "writable")
    assert server.connect() is True
    assert server.connect() is True
    assert server.write(b"hello") == 5
    assert client.read(10) == b"hello"


@pytest.mark.parametrize("access", ["inbound", "outbound"])
def test_connecting_is_told_as_writable_whatever_the_access(poll, events, access):
    name = new_name()
    server = mine(NamedPipe.create(name, access))
    poll.registry.register(server, "s", BOTH)
    assert server.connect() is None
    mine(NamedPipe.open(name, "outbound" if access == "inbound" else "inbound"))
    expect_only(poll, events, "s", "writable")
    assert server.connect() is True


def test_a_client_that_came_first():
    name = new_name()
    server = mine(NamedPipe.create(name))
    mine(NamedPipe.open(name))
    assert server.connect() is True


def test_a_client_that_came_and_went(poll, events):
    """What it has left behind is read."""
    name = new_name()
    server = mine(NamedPipe.create(name))
    with NamedPipe.open(name) as client:
        client.write(b"bye")
    assert server.connect() is True
    poll.registry.register(server, "s", READABLE)
    assert receive(poll, events, server, 3) == b"bye"
    expect_events(poll, events, {"s": "read_closed"})
    assert server.read(1) == b""


def test_one_client_after_another(poll, events):
    name = new_name()
    server = mine(NamedPipe.create(name))
    poll.registry.register(server, "s", BOTH)
    for number in range(20):
        data = bytes([number]) * 100
        assert server.connect() is None
        client = NamedPipe.open(name)
        while not server.connect():
            assert poll.poll(events, PATIENCE)
        with client:
            client.write(data)
            assert receive(poll, events, server, 100) == data
            if number % 3:
                # With operations under way, and something that nobody reads.
                stuff(server)
            server.disconnect()
            with pytest.raises(OSError) as caught:
                server.read(1)
            assert caught.value.winerror == 536
    assert not [what(event) for event in events if event.token != "s"]


def test_disconnecting_is_the_end_for_the_client(poll, events):
    server, client = pair()
    poll.registry.register(client, "c", BOTH)
    expect_only(poll, events, "c", "writable")
    server.disconnect()
    assert "read_closed" in expect_events(poll, events, {"c": "readable"})["c"]
    assert client.read(1) == b""
    with pytest.raises(BrokenPipeError):
        client.write(b"x")
        client.write(b"x")


def test_disconnecting_takes_back_a_connect():
    name = new_name()
    server = mine(NamedPipe.create(name))
    assert server.connect() is None
    server.disconnect()
    assert server.connect() is None
    mine(NamedPipe.open(name))
    assert server.connect() is True


def test_a_client_neither_connects_nor_disconnects():
    _, client = pair()
    for use in (client.connect, client.disconnect):
        with pytest.raises(ValueError, match="client"):
            use()


def test_several_instances(poll):
    events = Events(64)
    name = new_name()
    servers = [mine(NamedPipe.create(name, instances=5)) for _ in range(5)]
    with pytest.raises(OSError):
        NamedPipe.create(name, instances=5)
    for server in servers:
        poll.registry.register(server, server, BOTH)
        assert server.connect() is None
    clients = [mine(NamedPipe.open(name)) for _ in range(5)]
    with pytest.raises(OSError) as caught:
        NamedPipe.open(name)
    assert caught.value.winerror == 231
    for number, client in enumerate(clients):
        client.write(b"%d" % number)
    assert sorted(receive(poll, events, server, 1) for server in servers) == [b"%d" % number for number in range(5)]


def test_first():
    name = new_name()
    with NamedPipe.create(name, first=True):
        with pytest.raises(PermissionError):
            NamedPipe.create(name, first=True)
        NamedPipe.create(name).close()
    NamedPipe.create(name, first=True).close()


def test_nobody_there():
    before = count_fds()
    with pytest.raises(FileNotFoundError):
        NamedPipe.open(new_name())
    gc.collect()
    assert count_fds() == before


# -- The end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1], ids=["client", "server"])
def test_the_peer_is_closed(poll, events, which):
    pipe, peer = pair()[:: 1 if which == 0 else -1]
    poll.registry.register(pipe, "p", READABLE)
    peer.write(b"bye")
    expect_only(poll, events, "p", "readable")
    peer.close()
    assert pipe.read(10) == b"bye"
    found = expect_events(poll, events, {"p": "read_closed"})["p"]
    assert found >= {"readable", "read_closed", "write_closed"}
    assert pipe.read(10) == pipe.read(10) == b""
    assert pipe.readinto(bytearray(3)) == 0
    with pytest.raises(BrokenPipeError):
        for _ in range(3):
            pipe.write(b"x")


def test_who_only_writes_hears_that_nobody_reads(poll, events):
    server, client = pair("outbound")
    poll.registry.register(server, "s", WRITABLE)
    expect_only(poll, events, "s", "writable")
    stuff(server)
    client.close()
    expect_events(poll, events, {"s": "error"})
    with pytest.raises(BrokenPipeError):
        for _ in range(3):
            server.write(b"x")


def test_take_error(poll, events):
    server, client = pair("outbound")
    assert server.take_error() is None
    stuff(server)
    client.close()
    poll.registry.register(server, "s", WRITABLE)
    expect_events(poll, events, {"s": "error"})
    error = server.take_error()
    assert isinstance(error, BrokenPipeError)
    assert server.take_error() is None


def test_reading_to_the_end():
    server, client = pair()
    assert server.readall() is None
    client.write(b"a" * 40_000)
    client.close()
    assert server.readall() == b"a" * 40_000
    assert server.readall() == b""


# -- Transfers --------------------------------------------------------------------------------------------------------


def test_access():
    server, client = pair("inbound")
    assert (server.readable(), server.writable(), server.seekable()) == (True, False, False)
    assert (client.readable(), client.writable()) == (False, True)
    with pytest.raises(PermissionError):
        server.write(b"x")
    with pytest.raises(PermissionError):
        client.read(1)
    client.write(b"x")
    assert server.read(1) == b"x"


def test_kinds_of_buffers():
    server, client = pair()
    assert client.write(b"") == 0
    assert client.write(bytearray(b"abc")) == 3
    assert client.write(memoryview(b"def")) == 3
    assert client.writev([b"gh", b"", bytearray(b"i")]) == 3
    into = bytearray(4)
    assert server.readinto(into) == 4
    assert into == b"abcd"
    parts = [bytearray(2), bytearray(10)]
    assert server.readv(parts) == 5
    assert parts[0] + parts[1][:3] == b"efghi"
    assert server.readv(parts) is None
    assert server.read(0) == b""
    with pytest.raises(TypeError):
        server.readinto(b"xxx")
    with pytest.raises(TypeError):
        server.write("text")


def test_buffers_with_a_position():
    server, client = pair()
    buf, ring = ByteBuf(100), RingBuf(16)
    assert client.write(b"0123456789") == 10
    assert server.read_buf(buf) == 10
    assert server.read_buf(buf) is None
    buf.flip()
    assert client.write_buf(buf) == 10
    assert server.read_buf(ring) == 10
    assert client.write_buf(ring) == 10
    # It wraps around now.
    assert server.read_buf(ring) == 10
    assert client.write_buf(ring) == 10
    assert server.read(100) == b"0123456789"


def test_under_the_buffered_classes():
    server, client = pair()
    writer = io.BufferedWriter(client)
    reader = io.BufferedReader(server)
    writer.write(b"line\n" * 3)
    writer.flush()
    assert [reader.readline() for _ in range(3)] == [b"line\n"] * 3
    writer.close()
    assert client.closed
    assert reader.read() == b""
    reader.close()


def test_a_large_transfer_by_threads(poll):
    """What is large is moved without the GIL."""
    server, client = pair()
    # Or else what is under way ends with its thread.
    poll.registry.register(server, "s", READABLE)
    poll.registry.register(client, "c", WRITABLE)
    size = 4 << 20
    data = os.urandom(size)

    def send():
        left = memoryview(data)
        while left:
            sent = client.write(left)
            if sent is None:
                threading.Event().wait(0.001)
            else:
                left = left[sent:]

    worker = Worker(send)
    got = bytearray()
    while len(got) < size:
        piece = server.read(size)
        if piece is None:
            threading.Event().wait(0.001)
        else:
            got += piece
    worker.finish()
    assert got == data


def test_a_write_that_ends_with_its_thread():
    """The system takes it back, unless the pipe was registered; what is lost is not hidden."""
    _, client = pair()
    Worker(stuff, client).finish()
    deadline = time.monotonic() + PATIENCE
    with pytest.raises(OSError) as caught:
        while client.write(b"x") is None and time.monotonic() < deadline:
            pass
    assert caught.value.winerror == 995


# -- Messages ---------------------------------------------------------------------------------------------------------


def test_messages(poll, events):
    server, client = pair(message=True)
    poll.registry.register(server, "s", READABLE)
    for data in (b"first", b"second", b"third"):
        assert client.write(data) == len(data)
    expect_only(poll, events, "s", "readable")
    assert server.read(100) == b"first"
    assert server.message_complete
    assert server.read(3) == b"sec"
    assert not server.message_complete
    assert server.read(3) == b"ond"
    assert server.message_complete
    assert server.read() == b"third"
    assert server.message_complete
    assert server.read() is None
    assert not server.message_complete
    expect_no_events(poll, events)
    client.write(b"x")
    expect_only(poll, events, "s", "readable")


def test_a_message_that_is_longer_than_what_is_read_ahead(poll, events):
    server, client = pair(message=True)
    poll.registry.register(server, "s", READABLE)
    data = os.urandom(50_000)
    assert client.write(data) == 50_000
    assert client.write(b"next") == 4
    expect_only(poll, events, "s", "readable")
    assert server.read() == data
    assert server.read() == b"next"
    assert client.write(data) == 50_000
    assert client.write(b"next") == 4
    expect_only(poll, events, "s", "readable")
    assert server.read(40_000) == data[:40_000]
    assert not server.message_complete
    into = bytearray(20_000)
    assert server.readinto(into) == 10_000
    assert into[:10_000] == data[40_000:]
    assert server.message_complete


def test_a_message_that_is_larger_than_the_pipe(poll, events):
    server, client = pair(message=True, size=4096)
    data = os.urandom(1 << 20)
    assert client.write(data) == 1 << 20
    poll.registry.register(server, "s", READABLE)
    expect_events(poll, events, {"s": "readable"})
    assert server.read() == data


def test_a_pipe_without_messages():
    name = new_name()
    mine(NamedPipe.create(name))
    before = count_fds()
    with pytest.raises(OSError):
        NamedPipe.open(name, message=True)
    assert count_fds() == before


# -- Registrations ----------------------------------------------------------------------------------------------------


def test_one_poll_for_good(poll, events):
    server, client = pair()
    with Poll() as other:
        poll.registry.register(server, "s", READABLE)
        for registry in (poll.registry, other.registry):
            with pytest.raises(FileExistsError):
                registry.register(server, "s", READABLE)
        with pytest.raises(FileExistsError):
            other.registry.reregister(server, "s", READABLE)
        poll.registry.deregister(server)
        with pytest.raises(FileExistsError, match="for good"):
            other.registry.register(server, "s", READABLE)
        with pytest.raises(FileNotFoundError):
            poll.registry.deregister(server)
        client.write(b"x")
        poll.registry.register(server, "t", READABLE)
        expect_only(poll, events, "t", "readable")


def test_after_its_poll_was_closed():
    server, client = pair()
    with Poll() as poll:
        poll.registry.register(server, "s", BOTH)
    client.write(b"x")
    assert server.read(10) == b"x"
    assert server.write(b"y") == 1
    assert client.read(10) == b"y"
    with Poll() as other, pytest.raises(FileExistsError, match="for good"):
        other.registry.register(server, "s", READABLE)
    with pytest.raises(ValueError, match="closed"):
        poll.registry.register(server, "s", READABLE)


def test_what_comes_while_it_is_not_registered(poll, events):
    server, client = pair()
    poll.registry.register(server, "s", READABLE)
    for number in range(20):
        assert server.read(10) is None
        poll.registry.deregister(server)
        client.write(b"x")
        if number % 2:
            expect_no_events(poll, events)
        poll.registry.register(server, number, READABLE)
        expect_only(poll, events, number, "readable")
        assert server.read(10) == b"x"


def test_an_event_on_its_way_is_dropped(poll, events):
    server, client = pair()
    poll.registry.register(server, "s", READABLE)
    client.write(b"x")
    assert poll.poll(events, PATIENCE) == 1
    poll.registry.deregister(server)
    assert list(events) == []
    poll.registry.register(server, "s", READABLE)
    assert poll.poll(events, PATIENCE) == 1
    server.close()
    assert list(events) == []
    expect_no_events(poll, events)


def test_a_subclass_and_its_token(poll):
    class Mine(NamedPipe):
        pass

    name = new_name()
    pipe = Mine.create(name)
    pipe.itself = pipe
    poll.registry.register(pipe, pipe, READABLE)
    alive = weakref.ref(pipe)
    pipe.close()
    del pipe
    gc.collect()
    assert alive() is None


def test_a_poll_keeps_none_alive(poll, events):
    name = new_name()
    pipe = NamedPipe.create(name)
    alive = weakref.ref(pipe)
    token = type("Token", (), {})()
    token_alive = weakref.ref(token)
    poll.registry.register(pipe, token, BOTH)
    del token
    with pytest.warns(ResourceWarning, match=r"unclosed <NamedPipe handle=0x[0-9a-f]+>"):
        del pipe
    assert alive() is None
    assert token_alive() is None
    with pytest.raises(FileNotFoundError):
        NamedPipe.open(name)
    expect_no_events(poll, events)


# -- Handles ----------------------------------------------------------------------------------------------------------


def test_closing():
    server, _ = pair()
    assert repr(server) == f"<NamedPipe handle={server.fileno():#x}>"
    assert isinstance(server, Source)
    assert not os.get_handle_inheritable(server.fileno())
    server.close()
    server.close()
    assert server.closed
    assert repr(server) == "<NamedPipe closed>"
    for use in (
        server.fileno,
        server.connect,
        server.disconnect,
        server.read,
        server.readall,
        server.take_error,
        server.flush,
        server.readable,
        server.writable,
        server.seekable,
        server.__enter__,
        lambda: server.readinto(bytearray(1)),
        lambda: server.readv([bytearray(1)]),
        lambda: server.read_buf(ByteBuf(1)),
        lambda: server.write(b"x"),
        lambda: server.writev([b"x"]),
        lambda: server.message_complete,
        lambda: Poll().registry.register(server, "s", READABLE),
    ):
        with warnings.catch_warnings(), pytest.raises(ValueError, match="closed"):
            warnings.simplefilter("ignore")
            use()


def test_made_without_a_constructor():
    with pytest.raises(TypeError):
        NamedPipe()
    pipe = NamedPipe.__new__(NamedPipe)
    for use in (pipe.read, pipe.connect, pipe.take_error, lambda: pipe.write(b"x"), lambda: pipe.message_complete):
        with pytest.raises(ValueError, match="closed"):
            use()
    pipe.close()


@pytest.mark.parametrize("registered", [False, True])
def test_closing_with_operations_under_way_leaks_no_handle(poll, events, registered):
    before = 0
    for number in range(500):
        server, client = (
            NamedPipe.create(name := new_name()),
            NamedPipe.open(name),
        )
        with server, client:
            if registered:
                poll.registry.register(server, number, BOTH)
                poll.registry.register(client, number, BOTH)
                if number % 2:
                    poll.poll(events, 0)
            assert server.connect()
            server.read(1)
            client.read(1)
            if number % 5 == 0:
                stuff(server)
        with NamedPipe.create(new_name()) as waiting:
            if registered:
                poll.registry.register(waiting, number, BOTH)
            waiting.connect()
        if number == 50:
            before = count_fds()
    poll.poll(events, 0)
    assert count_fds() <= before + 2


def test_closing_while_another_thread_uses_it(poll, events):
    for _ in range(30):
        server, client = pair()
        poll.registry.register(server, "s", READABLE)

        def use(server=server):
            try:
                while True:
                    server.read(1 << 20)
                    server.write(b"x" * 100)
            except (ValueError, BrokenPipeError):
                pass

        worker = Worker(use)
        for _ in range(20):
            client.write(b"y" * 1000)
            poll.poll(events, 0)
        server.close()
        worker.finish()
        client.close()


def test_a_foreign_handle(poll, events):
    name = new_name()
    mode = _winapi.PIPE_ACCESS_DUPLEX | _winapi.FILE_FLAG_OVERLAPPED
    server = mine(NamedPipe.from_handle(_winapi.CreateNamedPipe(name, mode, 0, 255, 4096, 4096, 0, 0)))
    poll.registry.register(server, "s", BOTH)
    assert server.connect() is None
    access = _winapi.GENERIC_READ | _winapi.GENERIC_WRITE
    flags = _winapi.FILE_FLAG_OVERLAPPED
    client = mine(NamedPipe.from_handle(_winapi.CreateFile(name, access, 0, 0, _winapi.OPEN_EXISTING, flags, 0)))
    expect_only(poll, events, "s", "writable")
    client.write(b"x")
    expect_events(poll, events, {"s": "readable"})
    assert server.read(10) == b"x"
    with pytest.raises(ValueError, match="client"):
        client.connect()


def test_a_foreign_handle_that_is_connected():
    name = new_name()
    mode = _winapi.PIPE_ACCESS_INBOUND | _winapi.FILE_FLAG_OVERLAPPED
    handle = _winapi.CreateNamedPipe(name, mode, 0, 255, 4096, 4096, 0, 0)
    client = mine(NamedPipe.open(name, "outbound"))
    client.write(b"x")
    server = mine(NamedPipe.from_handle(handle))
    assert (server.readable(), server.writable()) == (True, False)
    assert server.read(10) == b"x"


def test_a_foreign_handle_of_another_kind(tmp_path):
    import msvcrt

    name = new_name()
    blocking = _winapi.CreateNamedPipe(name, _winapi.PIPE_ACCESS_DUPLEX, 0, 255, 4096, 4096, 0, 0)
    with pytest.raises(ValueError, match="overlapped"):
        NamedPipe.from_handle(blocking)
    _winapi.CloseHandle(blocking)
    with open(tmp_path / "file", "w") as file, pytest.raises(ValueError, match="no pipe"):
        NamedPipe.from_handle(msvcrt.get_osfhandle(file.fileno()))
    with pytest.raises(ValueError, match="no pipe"):
        NamedPipe.open(rf"\\.\{tmp_path / 'file'}")
    for wrong in (0, 12345678):
        with pytest.raises(ValueError, match="no pipe"):
            NamedPipe.from_handle(wrong)


def test_a_handle_that_another_port_has():
    import asyncio

    name = new_name()
    server = mine(NamedPipe.create(name))
    port = asyncio.windows_events._overlapped.CreateIoCompletionPort(-1 & (1 << 64) - 1, 0, 0, 0)
    asyncio.windows_events._overlapped.CreateIoCompletionPort(server.fileno(), port, 0, 0)
    with Poll() as poll, pytest.raises(FileExistsError):
        poll.registry.register(server, "s", READABLE)
    _winapi.CloseHandle(port)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: NamedPipe.create("name"), ValueError),
        (lambda: NamedPipe.open("name"), ValueError),
        (lambda: NamedPipe.create(5), TypeError),
        (lambda: NamedPipe.create(b"\\\\.\\pipe\\x"), TypeError),
        (lambda: NamedPipe.create("\\\\.\\pipe\\a\0b"), ValueError),
        (lambda: NamedPipe.create("\\\\.\\pipe\\x", "both"), ValueError),
        (lambda: NamedPipe.create("\\\\.\\pipe\\x", 3), TypeError),
        (lambda: NamedPipe.create("\\\\.\\pipe\\x", instances=0), ValueError),
        (lambda: NamedPipe.create("\\\\.\\pipe\\x", instances=255), ValueError),
        (lambda: NamedPipe.create("\\\\.\\pipe\\x", size=-1), OverflowError),
        (lambda: NamedPipe.create("\\\\.\\pipe\\x", size="1"), TypeError),
        (lambda: NamedPipe.open("\\\\.\\pipe\\x", "both"), ValueError),
        (lambda: NamedPipe.from_handle("x"), TypeError),
        (lambda: NamedPipe.from_handle(-1), OverflowError),
        (lambda: NamedPipe.create(), TypeError),
    ],
)
def test_arguments(call, error):
    before = count_fds()
    with pytest.raises(error):
        call()
    gc.collect()
    assert count_fds() == before


# -- Children ---------------------------------------------------------------------------------------------------------


def test_a_child_that_writes_and_reads(poll, events):
    """What subprocess makes is not overlapped; but a child can be given the other end of one that is."""
    out, into = new_name(), new_name()
    stdout = mine(NamedPipe.create(out, "inbound", first=True, instances=1))
    stdin = mine(NamedPipe.create(into, "outbound", first=True, instances=1))
    childs_out = os.open(out, os.O_WRONLY | os.O_BINARY)
    childs_in = os.open(into, os.O_RDONLY | os.O_BINARY)
    code = "import sys; [print(line.upper(), end='', flush=True) for line in sys.stdin]"
    with subprocess.Popen([sys.executable, "-Ic", code], stdin=childs_in, stdout=childs_out) as child:
        os.close(childs_out)
        os.close(childs_in)
        assert stdout.connect() is True
        assert stdin.connect() is True
        poll.registry.register(stdout, "out", READABLE)
        for number in range(3):
            stdin.write(b"line %d\n" % number)
            assert receive(poll, events, stdout, 8).rstrip(b"\r\n") == b"LINE %d" % number
        stdin.close()
        expect_events(poll, events, {"out": "read_closed"})
        assert stdout.read(10) == b""
        assert child.wait(PATIENCE) == 0
