"""Descriptors that are closed, duplicated and used again behind a poll's back.

The kernel's set (epoll) holds open files: a descriptor that is closed while a duplicate keeps its file open stays
there, goes on being reported, and cannot be removed.  What a poll makes of that must be: nothing.
"""

import contextlib
import itertools
import os
import select
import socket
import time

import pytest
from util import (
    BOTH,
    EMULATED,
    MOMENT,
    PATIENCE,
    READABLE,
    WINDOWS,
    WRITABLE,
    Worker,
    drain,
    expect_events,
    expect_no_events,
    expect_only,
    give_number,
    in_child,
    mine,
    no_free_descriptors,
    seen,
    sleeping,
    socket_pair,
    tcp_listener,
    tcp_pair,
    wait_readable,
)

from metalio import Events, Interest, Poll, PollOpt, Waker
from metalio.net import TcpStream

if not WINDOWS:
    import fcntl

EDGE, LEVEL, ONESHOT, EXCLUSIVE = PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT, PollOpt.EXCLUSIVE


class Fd:
    """A foreign source that is no more than a number."""

    def __init__(self, fd):
        self.fd = fd

    def fileno(self):
        return self.fd


# Numbers far above those that the kernel gives out by itself, so that none is used again by accident.
_numbers = itertools.cycle(range(200, 900))
# On Windows, where the kernel alone chooses: what has a number until it is to be used again.
_in_place = {}


def elsewhere(sock):
    """The same socket under one of these numbers."""
    if WINDOWS:
        return mine(sock)
    number = fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, next(_numbers))
    sock.close()
    return mine(socket.socket(fileno=number))


def victim():
    """A socket, its number and its peer: the number is to be closed and used again."""
    left, right = socket.socketpair()
    left = elsewhere(left)
    return left, left.fileno(), mine(right)


def leave(sock):
    """Close a victim.  Nobody uses its number before `put_at`, except, on Windows, one that nobody has registered."""
    number = sock.fileno()
    if WINDOWS:
        with socket.socket() as other:
            # What is not bound has no family that could be asked for.
            other.bind(("127.0.0.1", 0))
            sock.close()
            give_number(number, other)
        _in_place[number] = mine(socket.socket(fileno=number))
    else:
        sock.close()


class Ghost:
    """A registration that the kernel goes on reporting: its descriptor is closed, its file is not."""

    def __init__(self, poll, opts=LEVEL, readable=True):
        left, self.number, self.peer = victim()
        self.keeper = mine(left.dup())
        poll.registry.register(left, "ghost", READABLE, opts)
        if readable:
            self.haunt()
        leave(left)

    def haunt(self):
        self.peer.send(b"boo")


def put_at(number, sock):
    """Have another socket at a number."""
    if number in _in_place:
        # It is closed by its number.
        _in_place.pop(number).detach()
    give_number(number, sock)
    return mine(socket.socket(fileno=number))


def not_spinning(poll, timeout=0.3):
    """A poll that has nothing to report waits as long as it is told to, and sleeps meanwhile."""
    events = Events()
    before, busy = time.monotonic(), time.thread_time()
    assert poll.poll(events, timeout) == 0, seen(events)
    # Clocks tick, and floats are rounded.
    assert time.monotonic() - before >= timeout - 1e-6
    assert time.thread_time() - busy < timeout / 3


def too_late(error=OSError):
    """What is deregistered is closed already.  Windows does not tell; what counts is that it is gone afterwards."""
    return contextlib.nullcontext() if WINDOWS else pytest.raises(error)


# For what is closed before a poll has seen it.  Windows tells of a close only while nothing is ready; what was ready is
# asked of the number again, whatever has it by then.
NOT_READY = READABLE if WINDOWS else BOTH


# -- A descriptor that is used again ----------------------------------------------------------------------------------


@pytest.mark.parametrize("opts", [LEVEL, ONESHOT, LEVEL | ONESHOT], ids=repr)
def test_a_foreign_record_is_replaced_when_its_number_is_used_again(poll, events, opts):
    left, number, right = victim()
    poll.registry.register(left, "old", READABLE, opts)
    leave(left)
    right.close()
    third, fourth = socket_pair()
    again = put_at(number, third)
    poll.registry.register(again, "new", READABLE, opts)
    expect_no_events(poll, events)
    fourth.send(b"x")
    expect_only(poll, events, "new", "readable")
    poll.registry.deregister(again)
    expect_no_events(poll, events)


def test_a_foreign_record_is_replaced_by_one_of_metalios_own(poll, events):
    left, number, right = victim()
    poll.registry.register(left, "old", READABLE, LEVEL)
    leave(left)
    right.close()
    stream, peer = tcp_pair()
    with stream.into_socket() as sock:
        again = mine(TcpStream.from_socket(put_at(number, sock)))
    poll.registry.register(again, "new", READABLE)
    peer.write(b"x")
    expect_only(poll, events, "new", "readable")
    expect_no_events(poll, events)
    assert drain(again) == b"x"
    peer.write(b"y")
    expect_only(poll, events, "new", "readable")


@pytest.mark.parametrize("opts", [LEVEL, ONESHOT], ids=repr)
def test_another_file_under_the_number_is_not_reported(poll, events, opts):
    """Nobody has registered it."""
    left, number, right = victim()
    poll.registry.register(left, "old", NOT_READY, opts)
    leave(left)
    right.close()
    third, fourth = socket_pair()
    again = put_at(number, third)
    fourth.send(b"x")
    wait_readable(again)
    for _ in range(3):
        expect_no_events(poll, events)
    not_spinning(poll)
    with pytest.raises(FileNotFoundError):
        poll.registry.deregister(again)
    poll.registry.register(again, "new", READABLE, opts)
    expect_only(poll, events, "new", "readable")


@pytest.mark.parametrize("method", ["reregister", "deregister"])
def test_another_file_under_the_number_is_not_registered(poll, events, method):
    left, number, right = victim()
    poll.registry.register(left, "old", NOT_READY, LEVEL)
    leave(left)
    right.close()
    third, _ = socket_pair()
    again = put_at(number, third)
    arguments = ("new", WRITABLE, LEVEL) if method == "reregister" else ()
    with too_late(FileNotFoundError) if method == "deregister" else pytest.raises(FileNotFoundError):
        getattr(poll.registry, method)(again, *arguments)
    expect_no_events(poll, events)
    poll.registry.register(again, "new", WRITABLE, LEVEL)
    expect_only(poll, events, "new", "writable")


def test_used_again_by_a_pipe_and_by_a_file(poll, events, tmp_path):
    left, number, right = victim()
    poll.registry.register(left, "socket", WRITABLE, LEVEL)
    left.close()
    right.close()
    reading, writing = os.pipe()
    with open(reading, "rb", 0):
        os.dup2(writing, number)
        os.close(writing)
        expect_no_events(poll, events)
        poll.registry.register(Fd(number), "pipe", WRITABLE, LEVEL)
        expect_only(poll, events, "pipe", "writable")
        with open(tmp_path / "file", "wb") as file:
            os.dup2(file.fileno(), number)
        expect_no_events(poll, events)
        with pytest.raises(PermissionError):
            poll.registry.register(Fd(number), "file", WRITABLE, LEVEL)
        expect_no_events(poll, events)
        os.close(number)


@pytest.mark.parametrize("times", [50])
def test_over_and_over(poll, events, times):
    """The same number, always another file, never deregistered."""
    _, number, _ = victim()
    for turn in range(times):
        first, second = socket.socketpair()
        give_number(number, first)
        poll.registry.register(Fd(number), turn, READABLE, LEVEL)
        if turn % 2 and not WINDOWS:
            second.send(b"x")
            expect_only(poll, events, turn, "readable")
        else:
            expect_no_events(poll, events, 0)
        if turn % 3 == 0:
            poll.registry.deregister(Fd(number))
        first.close()
        if WINDOWS:
            # Or the end of the stream would be ready.
            mine(second)
        else:
            second.close()
    third, fourth = socket_pair()
    give_number(number, third)
    fourth.send(b"x")
    expect_no_events(poll, events)


def test_closed_and_never_used_again(poll, events):
    left, number, _ = victim()
    other, _ = socket_pair()
    poll.registry.register(left, "gone", NOT_READY, LEVEL)
    poll.registry.register(other, "there", WRITABLE, LEVEL)
    left.close()
    for _ in range(3):
        expect_only(poll, events, "there", "writable")
    poll.registry.deregister(other)
    not_spinning(poll)
    with pytest.raises(ValueError, match="closed"):
        poll.registry.deregister(left)
    with pytest.raises(OSError):
        poll.registry.deregister(Fd(number))


def test_deregistering_by_number_what_was_closed(poll, events):
    """It is an error, but the token goes and nothing is reported."""
    ghost = Ghost(poll)
    with too_late():
        poll.registry.deregister(Fd(ghost.number))
    with pytest.raises(OSError):
        poll.registry.deregister(Fd(ghost.number))
    expect_no_events(poll, events)
    not_spinning(poll)


# -- Ghosts -----------------------------------------------------------------------------------------------------------


def replace(poll, ghost):
    """Register another file under the number of a ghost; how to make that readable, and how to end it."""
    left, right = socket_pair()
    if WINDOWS:
        # There nothing tells what is closed from its duplicate that is open.
        forget(poll, ghost)
    again = put_at(ghost.number, left)
    poll.registry.register(again, "new", READABLE, LEVEL)
    return right, again


def forget(poll, ghost):
    """Deregister a ghost, which fails but is noted."""
    with contextlib.suppress(OSError):
        poll.registry.deregister(Fd(ghost.number))


@pytest.fixture(params=["replaced", "deregistered"])
def haunted(request, poll):
    """A poll that the kernel tells of a registration that is gone."""
    ghost = Ghost(poll)
    if request.param == "replaced":
        replace(poll, ghost)
    else:
        forget(poll, ghost)
    return poll


def test_nothing_is_reported_and_nothing_spins(haunted, events):
    for _ in range(5):
        assert haunted.poll(events, 0) == 0
    not_spinning(haunted)
    not_spinning(haunted)


def test_the_first_poll_neither_spins_nor_returns_early(haunted):
    not_spinning(haunted)


def test_for_ever_means_for_ever(haunted, events):
    worker = Worker(haunted.poll, events, None)
    sleeping(worker)
    worker.join(MOMENT)
    assert worker.is_alive()
    with Waker(haunted.registry, "w") as waker:
        waker.wake()
        assert worker.finish() == 1
        assert seen(events) == [("w", {"readable"})]


def test_it_comes_while_a_thread_sleeps(poll):
    """The ghost appears, and is heard of, when the poll is asleep already."""
    events = Events()
    ghost = Ghost(poll, readable=False)
    right, _ = replace(poll, ghost)
    worker = Worker(poll.poll, events, PATIENCE)
    for _ in range(3):
        sleeping(worker)
        ghost.haunt()
    sleeping(worker)
    worker.join(MOMENT)
    assert worker.is_alive()
    right.send(b"x")
    assert worker.finish() == 1
    assert seen(events) == [("new", {"readable"})]


def test_an_edge_ghost(selector, events):
    with Poll(selector=selector) as poll:
        if selector in EMULATED:
            pytest.skip("no edges for foreign sources")
        ghost = Ghost(poll, EDGE)
        replace(poll, ghost)
        for _ in range(3):
            ghost.haunt()
            expect_no_events(poll, events)
        not_spinning(poll)


def test_many_ghosts(poll, events):
    ghosts = [Ghost(poll) for _ in range(20)]
    rights = []
    for number, ghost in enumerate(ghosts):
        if number % 2:
            rights.append(replace(poll, ghost)[0])
        else:
            forget(poll, ghost)
    not_spinning(poll)
    for right in rights:
        right.send(b"x")
    assert poll.poll(events, PATIENCE) == 10
    assert {token for token, _ in seen(events)} == {"new"}


def test_ghosts_do_not_crowd_out_the_living(poll):
    """Even where there is room for one event only."""
    events = Events(1)
    for ghost in [Ghost(poll) for _ in range(5)]:
        forget(poll, ghost)
    left, right = socket_pair()
    poll.registry.register(left, "alive", READABLE, LEVEL)
    assert poll.poll(events, 0) == 0
    right.send(b"x")
    for _ in range(3):
        expect_only(poll, events, "alive", "readable")
    left.recv(5)
    not_spinning(poll)


def test_the_ghosts_file_can_be_registered_again(poll, events):
    ghost = Ghost(poll)
    forget(poll, ghost)
    expect_no_events(poll, events)
    poll.registry.register(ghost.keeper, "keeper", READABLE, LEVEL)
    expect_only(poll, events, "keeper", "readable")


def test_a_ghost_that_is_not_known_to_be_one_is_the_old_registration(poll, events):
    """Closed, but neither deregistered nor replaced: where the kernel goes on (epoll) it is reported, elsewhere not."""
    ghost = Ghost(poll)
    count = poll.poll(events, 0)
    assert seen(events) == [("ghost", {"readable"})][:count]
    with too_late():
        poll.registry.deregister(Fd(ghost.number))
    not_spinning(poll)


# -- All other registrations survive the rebuild ----------------------------------------------------------------------


def test_level_registrations_survive(haunted, events):
    pairs = [socket_pair() for _ in range(10)]
    for number, (left, _) in enumerate(pairs):
        haunted.registry.register(left, number, READABLE, LEVEL)
    expect_no_events(haunted, events)
    for number, (_, right) in enumerate(pairs):
        right.send(b"x")
        assert haunted.poll(events, PATIENCE) == number + 1
    for left, _ in pairs:
        haunted.registry.deregister(left)
    expect_no_events(haunted, events)


def test_edge_registrations_survive(haunted, events):
    stream, peer = tcp_pair()
    drained, peer_of_drained = tcp_pair()
    listener = tcp_listener()
    haunted.registry.register(stream, "stream", READABLE)
    haunted.registry.register(drained, "drained", READABLE)
    haunted.registry.register(listener, "listener", READABLE)
    peer_of_drained.write(b"x")
    expect_events(haunted, events, {"drained": "readable"})
    assert drain(drained) == b"x"
    expect_no_events(haunted, events)
    peer.write(b"y")
    peer_of_drained.write(b"z")
    mine(TcpStream.connect(listener.local_addr))
    expect_events(haunted, events, {"stream": "readable", "drained": "readable", "listener": "readable"})
    expect_no_events(haunted, events)


def test_edges_that_are_waiting_survive(haunted, events):
    """They come with the very poll that rebuilds."""
    stream, peer = tcp_pair()
    haunted.registry.register(stream, "stream", READABLE)
    peer.write(b"x")
    wait_readable(stream)
    expect_events(haunted, events, {"stream": "readable"})


def test_spent_oneshots_survive_as_they_are(haunted, events):
    foreign, right = socket_pair()
    stream, peer = tcp_pair()
    fresh, right_of_fresh = socket_pair()
    left, _ = socket_pair()
    haunted.registry.register(left, "level", WRITABLE, LEVEL)
    # Spent before anything was rebuilt: the events of the first batch come from what is there already.
    for source, token in ((foreign, "foreign"), (stream, "stream")):
        haunted.registry.register(source, token, WRITABLE, ONESHOT)
    expect_events(haunted, events, {"foreign": "writable", "stream": "writable"})
    haunted.registry.register(fresh, "fresh", READABLE, ONESHOT)
    right.send(b"x")
    peer.write(b"x")
    wait_readable(stream)
    for _ in range(3):
        expect_only(haunted, events, "level", "writable")
    haunted.registry.deregister(left)
    not_spinning(haunted)
    expect_no_events(haunted, events)
    right_of_fresh.send(b"x")
    expect_only(haunted, events, "fresh", "readable")
    for source, token in ((foreign, "foreign"), (stream, "stream")):
        haunted.registry.reregister(source, token, READABLE, ONESHOT)
    expect_events(haunted, events, {"foreign": "readable", "stream": "readable"})
    expect_no_events(haunted, events)


def test_spent_oneshots_survive_a_later_rebuild(poll, events):
    foreign, right = socket_pair()
    stream, peer = tcp_pair()
    for source, token in ((foreign, "foreign"), (stream, "stream")):
        poll.registry.register(source, token, BOTH, ONESHOT)
    expect_events(poll, events, {"foreign": "writable", "stream": "writable"})
    for _ in range(3):
        ghost = Ghost(poll)
        replace(poll, ghost)
        right.send(b"x")
        peer.write(b"x")
        not_spinning(poll, 0.05)
        poll.registry.deregister(Fd(ghost.number))
    for source, token in ((foreign, "foreign"), (stream, "stream")):
        poll.registry.reregister(source, token, READABLE, ONESHOT)
    expect_events(poll, events, {"foreign": "readable", "stream": "readable"})


def test_priority_registrations_survive(haunted, events):
    stream, peer = tcp_pair()
    haunted.registry.register(stream, "t", Interest.PRIORITY, LEVEL)
    expect_no_events(haunted, events)
    with peer.into_socket() as sock:
        sock.send(b"!", socket.MSG_OOB)
        expect_only(haunted, events, "t", "priority")


@pytest.mark.parametrize("opts", [EXCLUSIVE | LEVEL, EXCLUSIVE | EDGE], ids=repr)
def test_exclusive_registrations_survive(haunted, events, opts):
    if haunted.selector_name != "epoll":
        pytest.skip("only epoll has them")
    listener = tcp_listener()
    foreign, right = socket_pair()
    haunted.registry.register(listener, "listener", READABLE, opts)
    haunted.registry.register(foreign, "foreign", READABLE, opts)
    expect_no_events(haunted, events)
    mine(TcpStream.connect(listener.local_addr))
    right.send(b"x")
    expect_events(haunted, events, {"listener": "readable", "foreign": "readable"})
    haunted.registry.reregister(foreign, "foreign", WRITABLE, opts)
    haunted.registry.deregister(listener)
    expect_only(haunted, events, "foreign", "writable")


def test_the_waker_survives(haunted, events):
    waker = Waker(haunted.registry, "w")
    waker.wake()
    expect_only(haunted, events, "w", "readable")
    expect_no_events(haunted, events)
    for _ in range(3):
        waker.wake()
        expect_only(haunted, events, "w", "readable")
    worker = Worker(haunted.poll, events, PATIENCE)
    sleeping(worker)
    waker.wake()
    assert worker.finish() == 1


def test_a_wake_that_waits_survives(haunted, events):
    waker = Waker(haunted.registry, "w")
    waker.wake()
    assert haunted.poll(events, 0) == 1
    assert seen(events) == [("w", {"readable"})]


def test_the_pipe_waker_survives(selector, events, monkeypatch):
    monkeypatch.setenv("METALIO_WAKER", "pipe")
    with Poll(selector=selector) as poll:
        waker = Waker(poll.registry, "w")
        forget(poll, Ghost(poll))
        not_spinning(poll, 0.05)
        for _ in range(3):
            waker.wake()
            expect_only(poll, events, "w", "readable")
            expect_no_events(poll, events)


@pytest.mark.parametrize("sleepers", [1, 3])
def test_sleepers_survive(poll, sleepers):
    """Threads that sleep on the set when it is replaced hear of what happens after."""
    ghost = Ghost(poll, readable=False)
    forget(poll, ghost)
    workers = []
    for _ in range(sleepers):
        workers.append(Worker(poll.poll, Events(1), PATIENCE))
        sleeping(workers[-1])
    ghost.haunt()
    # Whoever looks now rebuilds; the sleepers are told.
    events = Events()
    assert poll.poll(events, 0) == 0
    for worker in workers:
        sleeping(worker)
    pairs = [socket_pair() for _ in workers]
    for number, (left, right) in enumerate(pairs):
        poll.registry.register(left, number, READABLE, ONESHOT)
        right.send(b"x")
    assert [worker.finish() for worker in workers] == [1] * sleepers


def test_a_sleeper_hears_of_an_old_registration_after_a_rebuild(poll):
    left, right = socket_pair()
    poll.registry.register(left, "t", READABLE, LEVEL)
    ghost = Ghost(poll, readable=False)
    forget(poll, ghost)
    events = Events()
    worker = Worker(poll.poll, events, PATIENCE)
    sleeping(worker)
    ghost.haunt()
    assert poll.poll(Events(), 0) == 0
    sleeping(worker)
    right.send(b"x")
    assert worker.finish() == 1
    assert seen(events) == [("t", {"readable"})]


def test_closing_wakes_sleepers_after_a_rebuild(poll):
    ghost = Ghost(poll, readable=False)
    forget(poll, ghost)
    workers = []
    for _ in range(3):
        workers.append(Worker(poll.poll, Events(), PATIENCE))
        sleeping(workers[-1])
    ghost.haunt()
    assert poll.poll(Events(), 0) == 0
    for worker in workers:
        sleeping(worker)
    poll.close()
    for worker in workers:
        with pytest.raises(ValueError):
            worker.finish()


def test_the_descriptor_of_the_poll_stays_the_same(selector, events):
    with Poll(selector=selector) as poll, Poll() as outer:
        if selector in EMULATED or outer.selector_name in EMULATED:
            pytest.skip("it has no descriptor")
        number = poll.fileno()
        outer.registry.register(poll, "inner", READABLE, LEVEL)
        forget(poll, Ghost(poll))
        not_spinning(poll, 0.05)
        assert poll.fileno() == number
        assert not os.get_inheritable(number)


def test_a_closed_descriptor_does_not_get_into_the_new_set(poll, events):
    """One whose number is somebody else's by now, and whose registration nobody has ended."""
    for opts in (LEVEL, EXCLUSIVE | LEVEL) if poll.selector_name == "epoll" else (LEVEL,):
        left, number, right = victim()
        poll.registry.register(left, "victim", READABLE, opts)
        leave(left)
        right.close()
        third, fourth = socket_pair()
        again = put_at(number, third)
        forget(poll, Ghost(poll))
        not_spinning(poll, 0.05)
        fourth.send(b"x")
        wait_readable(again)
        expect_no_events(poll, events)
        poll.registry.register(again, "new", READABLE, LEVEL)
        expect_only(poll, events, "new", "readable")
        poll.registry.deregister(again)
        again.close()


def test_a_registration_that_comes_during_a_rebuild(poll, events, monkeypatch):
    """Another thread's, at the worst point."""
    left, right = socket_pair()
    real = os.dup2

    def dup2(*arguments, **options):
        with contextlib.suppress(FileExistsError):
            poll.registry.register(left, "late", READABLE, LEVEL)
        return real(*arguments, **options)

    ghost = Ghost(poll)
    forget(poll, ghost)
    monkeypatch.setattr(os, "dup2", dup2)
    assert poll.poll(events, 0) == 0
    monkeypatch.undo()
    with contextlib.suppress(FileExistsError):
        poll.registry.register(left, "late", READABLE, LEVEL)
    right.send(b"x")
    expect_only(poll, events, "late", "readable")


def test_registrations_by_threads_during_rebuilds(poll):
    """The same with real threads, as often as time allows."""
    stop = False

    def churn():
        rounds = 0
        while not stop:
            left, right = socket.socketpair()
            poll.registry.register(left, (churn, rounds), READABLE, ONESHOT)
            poll.registry.deregister(left)
            poll.registry.register(left, (churn, rounds), WRITABLE, LEVEL)
            poll.registry.deregister(left)
            left.close()
            right.close()
            rounds += 1
        return rounds

    workers = [Worker(churn) for _ in range(2)]
    events = Events()
    left, right = socket_pair()
    poll.registry.register(left, "steady", READABLE, LEVEL)
    for _ in range(100):
        forget(poll, Ghost(poll))
        poll.poll(events, 0)
        assert not [token for token, _ in seen(events) if token == "ghost"]
    stop = True
    for worker in workers:
        assert worker.finish() > 0
    right.send(b"x")
    expect_only(poll, events, "steady", "readable")


def test_a_rebuild_without_a_free_descriptor(selector):
    """It cannot be done then.  But what is reported beside the ghost is not lost, and all is well later."""

    def check():
        poll, events = Poll(selector=selector), Events()
        stream, peer = tcp_pair()
        poll.registry.register(stream, "edge", READABLE)
        ghost = Ghost(poll)
        replace(poll, ghost)
        with no_free_descriptors():
            peer.write(b"x")
            waiter = select.poll()
            waiter.register(stream, select.POLLIN)
            assert waiter.poll(PATIENCE * 1000)
            tokens = []
            for _ in range(3):
                try:
                    poll.poll(events, 0)
                except OSError as error:
                    assert error.errno == 24
                else:
                    tokens += [token for token, _ in seen(events)]
            assert tokens == ["edge"]
        assert drain(stream) == b"x"
        not_spinning(poll)
        peer.write(b"y")
        expect_only(poll, events, "edge", "readable")

    in_child(check)
