"""What only the kqueue selector does, and what it relies on."""

import ctypes
import os
import select
import socket
import time

import pytest
from util import (
    BOTH,
    MOMENT,
    PATIENCE,
    READABLE,
    WRITABLE,
    Worker,
    drain,
    expect_events,
    expect_no_events,
    expect_only,
    fill,
    in_child,
    mine,
    open_descriptors,
    sleeping,
    socket_pair,
    tcp_pair,
    what,
)

from metalio import Events, Interest, Poll, PollOpt, Waker
from metalio._sys import selector_names
from metalio.buf import ByteBuf
from metalio.net import TcpStream
from metalio.readiness import Registration
from metalio.unix import pipe

if "kqueue" not in selector_names():
    pytest.skip("no kqueue on this system; see tools/test-kqueue", allow_module_level=True)

EDGE, LEVEL, ONESHOT = PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT


@pytest.fixture
def poll():
    with Poll(selector="kqueue") as poll:
        yield poll


@pytest.fixture(params=[EDGE, LEVEL, ONESHOT, EDGE | ONESHOT, LEVEL | ONESHOT], ids=repr)
def opts(request):
    return request.param


def readable_and_writable():
    left, right = socket_pair()
    right.send(b"x")
    return left, right


# -- Merging ----------------------------------------------------------------------------------------------------------


def test_both_filters_are_one_event(poll, events, opts):
    left, _ = readable_and_writable()
    poll.registry.register(left, "t", BOTH, opts)
    expect_only(poll, events, "t", {"readable", "writable"})


def test_each_registration_has_an_event_of_its_own(poll, events):
    pairs = [readable_and_writable() for _ in range(20)]
    for number, (left, _) in enumerate(pairs):
        poll.registry.register(left, number, BOTH, LEVEL)
    for _ in range(3):
        assert poll.poll(events, PATIENCE) == 20
        assert [what(event) for event in events] == [{"readable", "writable"}] * 20
        assert {event.token for event in events} == set(range(20))


def test_events_of_two_batches_are_not_merged(poll):
    """Where there is room for one filter only, the other one comes next."""
    left, _ = readable_and_writable()
    poll.registry.register(left, "t", BOTH)
    first, second = Events(1), Events(1)
    assert poll.poll(first, PATIENCE) == 1
    assert poll.poll(second, PATIENCE) == 1
    assert {frozenset(what(first[0])), frozenset(what(second[0]))} == {frozenset({"readable"}), frozenset({"writable"})}


def test_what_was_stored_before_a_change_is_not_added_to(poll, events):
    left, _ = readable_and_writable()
    poll.registry.register(left, "old", WRITABLE)
    expect_only(poll, events, "old", "writable")
    poll.registry.reregister(left, "new", READABLE)
    expect_only(poll, events, "new", "readable")


# -- Oneshot ----------------------------------------------------------------------------------------------------------


def test_oneshot_disarms_the_other_filter(poll):
    """Also where that one is ready, and there was no room for it."""
    left, _ = readable_and_writable()
    events = Events(1)
    for _ in range(4):
        poll.registry.register(left, "t", BOTH, ONESHOT)
        assert poll.poll(events, PATIENCE) == 1
        expect_no_events(poll, events)
        poll.registry.reregister(left, "again", BOTH, ONESHOT)
        assert poll.poll(events, PATIENCE) == 1
        assert events[0].token == "again"
        expect_no_events(poll, events)
        poll.registry.deregister(left)


def test_oneshot_disarms_a_filter_that_becomes_ready_later(poll, events):
    left, right = socket_pair()
    poll.registry.register(left, "t", BOTH, ONESHOT)
    expect_only(poll, events, "t", "writable")
    right.send(b"x")
    expect_no_events(poll, events)
    poll.registry.reregister(left, "t", READABLE, ONESHOT)
    expect_only(poll, events, "t", "readable")


def test_a_spent_registration_exists(poll, events):
    left, _ = readable_and_writable()
    poll.registry.register(left, "t", BOTH, ONESHOT)
    assert poll.poll(events, PATIENCE) == 1
    with pytest.raises(FileExistsError):
        poll.registry.register(left, "u", BOTH, ONESHOT)
    expect_no_events(poll, events)


# -- What the kernel knows --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [EDGE, LEVEL, ONESHOT], ids=repr)
@pytest.mark.parametrize("then", [EDGE, LEVEL, ONESHOT], ids=repr)
def test_how_it_is_triggered_can_be_changed(poll, events, first, then):
    left, _ = readable_and_writable()
    poll.registry.register(left, "t", READABLE, first)
    expect_only(poll, events, "t", "readable")
    poll.registry.reregister(left, "t", READABLE, then)
    expect_only(poll, events, "t", "readable")
    if then == LEVEL:
        expect_only(poll, events, "t", "readable")
    else:
        expect_no_events(poll, events)


def test_an_attempt_to_register_twice_changes_nothing(poll, events):
    left, right = socket_pair()
    poll.registry.register(left, "t", READABLE, LEVEL)
    for interest in (READABLE, WRITABLE, BOTH):
        with pytest.raises(FileExistsError):
            poll.registry.register(left, "u", interest, EDGE)
    expect_no_events(poll, events)
    right.send(b"x")
    for _ in range(3):
        expect_only(poll, events, "t", "readable")


def test_a_change_that_fails_leaves_what_was(poll, events):
    """A kqueue can be watched for reading only."""
    left, right = socket_pair()
    with Poll(selector="kqueue") as inner:
        inner.registry.register(left, "inner", READABLE, LEVEL)
        poll.registry.register(inner, "t", READABLE, LEVEL)
        with pytest.raises(OSError):
            poll.registry.reregister(inner, "u", BOTH, EDGE)
        expect_no_events(poll, events)
        right.send(b"x")
        for _ in range(3):
            expect_only(poll, events, "t", "readable")
        with pytest.raises(FileExistsError):
            poll.registry.register(inner, "u", READABLE, LEVEL)
        poll.registry.deregister(inner)
        expect_no_events(poll, events)


def test_an_attempt_that_fails_registers_nothing(poll, events):
    with Poll(selector="kqueue") as inner:
        with pytest.raises(OSError):
            poll.registry.register(inner, "t", BOTH, LEVEL)
        with pytest.raises(FileNotFoundError):
            poll.registry.deregister(inner)
        _registration, ready = Registration.new()
        inner.registry.register(_registration, "inner", READABLE, LEVEL)
        ready.set_readiness(READABLE)
        expect_no_events(poll, events)
        _registration.close()


def test_a_poll_in_itself(poll):
    with pytest.raises(OSError):
        poll.registry.register(poll, "t", READABLE, LEVEL)


def test_a_closed_descriptor_is_forgotten_though_a_duplicate_is_open(poll, events):
    left, right = socket_pair()
    keeper = mine(left.dup())
    poll.registry.register(left, "t", READABLE, LEVEL)
    left.close()
    right.send(b"x")
    expect_no_events(poll, events)
    poll.registry.register(keeper, "keeper", READABLE, LEVEL)
    expect_only(poll, events, "keeper", "readable")


def test_a_regular_file(poll, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with open(tmp_path / "file", "rb") as file, pytest.raises(PermissionError, match="never blocks"):
        poll.registry.register(file, "t", READABLE, LEVEL)


@pytest.mark.parametrize("interest", [Interest.AIO, Interest.LIO, Interest.AIO | READABLE], ids=repr)
def test_asynchronous_io(poll, interest):
    """Either there is such a thing or it is said that there is not."""
    left, _ = socket_pair()
    try:
        poll.registry.register(left, "t", interest, LEVEL)
    except NotImplementedError as error:
        assert "EVFILT_" in str(error)
    else:
        poll.registry.deregister(left)


# -- The end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opts", [EDGE, LEVEL, ONESHOT], ids=repr)
def test_a_pipe_whose_reader_is_gone_already(poll, events, opts):
    """The kernel refuses to watch it, which is the very thing to tell."""
    sender, receiver = mine(*pipe.new())
    receiver.close()
    poll.registry.register(sender, "t", WRITABLE, opts)
    expect_only(poll, events, "t", {"writable", "write_closed"})
    if opts == LEVEL:
        expect_only(poll, events, "t", {"writable", "write_closed"})
    else:
        expect_no_events(poll, events)
    with pytest.raises(FileExistsError):
        poll.registry.register(pipe_of(sender), "u", WRITABLE, LEVEL)
    poll.registry.reregister(sender, "again", WRITABLE, opts)
    expect_only(poll, events, "again", {"writable", "write_closed"})
    poll.registry.deregister(sender)
    expect_no_events(poll, events)


class Fd:
    def __init__(self, fd):
        self.fd = fd

    def fileno(self):
        return self.fd


def pipe_of(sender):
    return Fd(sender.fileno())


def test_such_a_pipe_that_is_closed(poll, events):
    """Its stand-in does not outlive it, and is not taken for the next of that number."""
    for _ in range(3):
        sender, receiver = pipe.new()
        receiver.close()
        poll.registry.register(sender, "t", WRITABLE, LEVEL)
        expect_only(poll, events, "t", {"writable", "write_closed"})
        sender.close()
        expect_no_events(poll, events)
    left, right = socket_pair()
    poll.registry.register(left, "u", READABLE, LEVEL)
    expect_no_events(poll, events)
    right.send(b"x")
    expect_only(poll, events, "u", "readable")


def test_such_a_pipe_that_is_closed_behind_our_back(poll, events):
    sender, receiver = pipe.new()
    receiver.close()
    number = os.dup(sender.fileno())
    sender.close()
    poll.registry.register(Fd(number), "t", WRITABLE, LEVEL)
    expect_only(poll, events, "t", {"writable", "write_closed"})
    os.close(number)
    # Nothing is reported of what is closed, and nothing spins.
    before, busy = time.monotonic(), time.thread_time()
    assert poll.poll(events, 0.2) == 0
    assert time.monotonic() - before >= 0.2
    assert time.thread_time() - busy < 0.1


def test_a_connection_that_failed_is_closed_both_ways(poll, events):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE)
    peer.linger = 0
    peer.close()
    expect_events(poll, events, {"t": {"error", "read_closed", "write_closed"}})


def test_urgent_data_does_not_lose_what_follows(poll, events):
    """A read stops at the mark, and is short though there is more."""
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE)
    with socket.socket(fileno=os.dup(peer.fileno())) as sock:
        sock.send(b"before")
        sock.send(b"!", socket.MSG_OOB)
        sock.send(b"after")
    found = b""
    deadline = time.monotonic() + PATIENCE
    while b"after" not in found and time.monotonic() < deadline:
        for event in events if poll.poll(events, MOMENT) else ():
            assert what(event) == {"readable"}
            while piece := stream.read(100):
                found += piece
                if len(piece) < 100:
                    break
    assert found in (b"beforeafter", b"before!after")


# -- Waker, clock, fork -----------------------------------------------------------------------------------------------


def test_the_waker_takes_no_descriptor(monkeypatch, events):
    monkeypatch.delenv("METALIO_WAKER", raising=False)
    before = open_descriptors()
    with Poll(selector="kqueue") as poll:
        waker = Waker(poll.registry, "w")
        assert not [name for name in (open_descriptors().items() - before.items()) if "pipe:" in name[1]]
        waker.wake()
        expect_only(poll, events, "w", "readable")
        expect_no_events(poll, events)


def test_a_wake_is_seen_from_outside(poll, events):
    with Poll(selector="kqueue") as outer:
        outer.registry.register(poll, "inner", READABLE, LEVEL)
        waker = Waker(poll.registry, "w")
        expect_no_events(outer, events)
        waker.wake()
        expect_only(outer, events, "inner", "readable")
        expect_only(poll, Events(), "w", "readable")
        expect_no_events(outer, events)


def test_long_timeouts_are_not_refused(poll, events):
    waker = Waker(poll.registry, "w")
    for timeout in (1e5, 1e8, 1e9, 1e300, None):
        worker = Worker(poll.poll, events, timeout)
        sleeping(worker)
        waker.wake()
        assert worker.finish() == 1


def test_the_child_of_a_fork_has_its_number_free(events):
    with Poll(selector="kqueue") as poll:
        number = poll.fileno()
        left, right = socket_pair()
        poll.registry.register(left, "t", READABLE, LEVEL)

        def check():
            others = [os.open("/dev/null", os.O_RDONLY) for _ in range(number + 1)]
            assert number in others
            poll.close()
            for other in others:
                os.fstat(other)

        in_child(check)
        right.send(b"x")
        expect_only(poll, events, "t", "readable")


def test_full_and_empty_again(poll, events):
    stream, peer = tcp_pair()
    assert isinstance(stream, TcpStream)
    poll.registry.register(stream, "t", BOTH)
    expect_only(poll, events, "t", "writable")
    for _ in range(3):
        sent = fill(stream)
        while poll.poll(events, 0):
            sent += fill(stream)
        while sent:
            sent -= len(drain(peer))
        expect_events(poll, events, {"t": "writable"})


# -- What not every kqueue has ----------------------------------------------------------------------------------------


@pytest.fixture
def lacking(monkeypatch):
    """Have the stand-in do without something from now on."""
    return lambda *names: [monkeypatch.setenv(f"KQUEUE_{name}", "1") for name in names]


def complete(poll, filter, ident, number):
    """As if a request of asynchronous I/O were done, which only the stand-in can pretend."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "kqueue_complete"):
        pytest.skip("this kqueue cannot pretend")
    assert library.kqueue_complete(poll.fileno(), filter, ctypes.c_size_t(ident), ctypes.c_size_t(number), 0) == 0


REQUESTS = pytest.mark.parametrize(
    ("filter", "interest", "name"), [(-3, Interest.AIO, "aio"), (-12, Interest.LIO, "lio")], ids=["aio", "lio"]
)


@REQUESTS
def test_a_request_is_done(poll, events, opts, filter, interest, name):
    left, right = socket_pair()
    poll.registry.register(left, "t", READABLE | interest, opts)
    expect_no_events(poll, events)
    complete(poll, filter, 1 << 40, left.fileno())
    expect_only(poll, events, "t", name)
    if opts == LEVEL:
        expect_only(poll, events, "t", name)
    else:
        expect_no_events(poll, events)
    poll.registry.deregister(left)
    expect_no_events(poll, events)
    poll.registry.register(left, "again", interest, opts)
    right.send(b"x")
    expect_no_events(poll, events)


@REQUESTS
def test_a_request_of_nobodys(poll, events, filter, interest, name):
    """It is heard of once, and then no more: nothing spins."""
    left, right = socket_pair()
    other, _ = socket_pair()
    poll.registry.register(left, "t", READABLE, LEVEL)
    for number in (left.fileno(), other.fileno(), 1 << 20, (1 << 32) - 1):
        complete(poll, filter, number, number)
    expect_no_events(poll, events)
    right.send(b"x")
    expect_only(poll, events, "t", "readable")


@REQUESTS
def test_requests_of_a_spent_registration(poll, events, filter, interest, name):
    left, _ = socket_pair()
    poll.registry.register(left, "t", interest, ONESHOT)
    for ident in (1, 2):
        complete(poll, filter, ident, left.fileno())
    expect_only(poll, events, "t", name)
    complete(poll, filter, 3, left.fileno())
    expect_no_events(poll, events)
    poll.registry.reregister(left, "u", interest, ONESHOT)
    complete(poll, filter, 4, left.fileno())
    expect_only(poll, events, "u", name)


def test_without_user_filters(lacking, events):
    """A pipe is the waker then, though the system that it was compiled on has EVFILT_USER."""
    lacking("WITHOUT_USER")
    with Poll(selector="kqueue") as poll, Poll(selector="kqueue") as outer:
        outer.registry.register(poll, "inner", READABLE, LEVEL)
        waker = Waker(poll.registry, "w")
        for _ in range(3):
            expect_no_events(outer, events)
            waker.wake()
            waker.wake()
            expect_only(outer, events, "inner", "readable")
            expect_only(poll, events, "w", "readable")
            expect_no_events(poll, events)
        worker = Worker(poll.poll, events, PATIENCE)
        sleeping(worker)
        waker.wake()
        assert worker.finish() == 1


def test_such_a_pipe_without_user_filters(lacking, events):
    """Nothing can stand in for it, and that is said."""
    lacking("WITHOUT_USER")
    with Poll(selector="kqueue") as poll:
        sender, receiver = mine(*pipe.new())
        poll.registry.register(sender, "t", WRITABLE)
        expect_only(poll, events, "t", "writable")
        receiver.close()
        expect_only(poll, events, "t", {"writable", "write_closed"})
        with pytest.raises(BrokenPipeError, match="reader"):
            poll.registry.reregister(sender, "u", WRITABLE)
        poll.registry.deregister(sender)
        with pytest.raises(BrokenPipeError, match="reader"):
            poll.registry.register(sender, "t", WRITABLE)
        with pytest.raises(FileNotFoundError):
            poll.registry.deregister(sender)
        expect_no_events(poll, events)


@pytest.mark.parametrize("opts", [EDGE, LEVEL, ONESHOT], ids=repr)
def test_such_a_pipe_where_that_is_a_bad_descriptor(lacking, poll, events, opts):
    lacking("PIPE_EBADF")
    test_a_pipe_whose_reader_is_gone_already(poll, events, opts)


def test_the_number_of_such_a_pipe_is_used_again(poll, events):
    """Its stand-in is there still, but it says nothing of who has the number now."""
    left, right = socket_pair()
    sender, receiver = pipe.new()
    receiver.close()
    number = os.dup(sender.fileno())
    sender.close()
    poll.registry.register(Fd(number), "t", WRITABLE, LEVEL)
    os.close(number)
    os.dup2(left.fileno(), number)
    try:
        poll.registry.register(Fd(number), "u", READABLE, LEVEL)
        expect_no_events(poll, events)
        right.send(b"x")
        expect_only(poll, events, "u", "readable")
    finally:
        os.close(number)


def test_a_number_that_is_used_again_after_a_failed_change(poll, events):
    left, _ = socket_pair()
    again, peer = socket_pair()
    number = os.dup(left.fileno())
    poll.registry.register(Fd(number), "t", READABLE, LEVEL)
    os.close(number)
    with pytest.raises(OSError):
        poll.registry.reregister(Fd(number), "u", READABLE, LEVEL)
    os.dup2(again.fileno(), number)
    try:
        poll.registry.register(Fd(number), "v", READABLE, LEVEL)
        peer.send(b"x")
        expect_only(poll, events, "v", "readable")
    finally:
        os.close(number)


def test_urgent_data_without_a_filter_for_it(lacking, poll, events):
    lacking("WITHOUT_EXCEPT")
    test_urgent_data_does_not_lose_what_follows(poll, events)


@pytest.mark.parametrize("read", ["read", "readinto", "readv", "read_buf"])
def test_what_comes_after_urgent_data_is_an_edge(lacking, poll, events, read):
    """A short read ends the drain, though it stops at the mark: so what follows has to be reported."""
    lacking("WITHOUT_EXCEPT")
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE)
    with socket.socket(fileno=os.dup(peer.fileno())) as sock:
        sock.send(b"before")
        sock.send(b"!", socket.MSG_OOB)
        sock.send(b"after")
    deadline = time.monotonic() + PATIENCE
    while stream.peek(100) != b"before" and time.monotonic() < deadline:
        pass
    expect_events(poll, events, {"t": "readable"})
    # What arrives after the read would be an edge by itself.
    assert select.select([], [], [stream], PATIENCE)[2]
    time.sleep(MOMENT)
    while poll.poll(events, 0):
        pass
    space = bytearray(100)
    buffer = ByteBuf(100)
    pieces = {
        "read": lambda: stream.read(100),
        "readinto": lambda: bytes(space[: stream.readinto(space)]),
        "readv": lambda: bytes(space[: stream.readv([space])]),
        "read_buf": lambda: b"before" if stream.read_buf(buffer) == 6 else b"",
    }
    assert pieces[read]() == b"before"
    expect_only(poll, events, "t", "readable")
    assert stream.read(100) in (b"after", b"!after")
    expect_no_events(poll, events)
