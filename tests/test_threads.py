"""Threads: registering, polling, waking and closing at once, from anywhere."""

import contextlib
import random
import socket
import sys
import threading
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
    expect_no_events,
    expect_only,
    mine,
    seen,
    sleeping,
    socket_pair,
    tcp_listener,
    tcp_pair,
    wait_writable,
)

from metalio import Events, Poll, PollOpt, Waker
from metalio.net import TcpStream

EDGE, LEVEL, ONESHOT = PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT


@pytest.fixture
def poll(selector, waker_kind):
    with Poll(selector=selector) as poll:
        yield poll


@pytest.fixture
def eager():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0)


# -- A sleeper hears of what others change ----------------------------------------------------------------------------


@pytest.fixture(params=["own", "foreign"])
def source(request):
    """A source and how to send to it."""
    if request.param == "own":
        stream, peer = tcp_pair()
        return stream, peer.write
    left, right = socket_pair()
    return left, right.send


@pytest.mark.parametrize("ready", [True, False])
def test_registering_while_another_sleeps(poll, events, source, ready):
    source, send = source
    if ready:
        send(b"x")
    worker = Worker(poll.poll, events, PATIENCE)
    sleeping(worker)
    poll.registry.register(source, "t", READABLE, LEVEL)
    if not ready:
        sleeping(worker)
        send(b"x")
    assert worker.finish() == 1
    assert seen(events) == [("t", {"readable"})]


@pytest.mark.parametrize("opts", [LEVEL, ONESHOT], ids=repr)
def test_reregistering_while_another_sleeps(poll, events, source, opts):
    source, _ = source
    poll.registry.register(source, "t", READABLE, opts)
    worker = Worker(poll.poll, events, PATIENCE)
    sleeping(worker)
    poll.registry.reregister(source, "u", BOTH, opts)
    assert worker.finish() == 1
    assert seen(events) == [("u", {"writable"})]


def test_arming_a_oneshot_while_another_sleeps(poll, events, source):
    source, send = source
    poll.registry.register(source, "t", READABLE, ONESHOT)
    send(b"x")
    expect_only(poll, events, "t", "readable")
    worker = Worker(poll.poll, events, PATIENCE)
    sleeping(worker)
    poll.registry.reregister(source, "u", READABLE, ONESHOT)
    assert worker.finish() == 1
    assert seen(events) == [("u", {"readable"})]


def test_deregistering_while_another_sleeps(poll, events, source):
    source, send = source
    poll.registry.register(source, "t", READABLE, LEVEL)
    worker = Worker(poll.poll, events, 0.1)
    sleeping(worker)
    poll.registry.deregister(source)
    send(b"x")
    assert worker.finish() == 0


def test_closing_a_source_while_another_sleeps(poll, events, source):
    source, send = source
    poll.registry.register(source, "t", READABLE, LEVEL)
    worker = Worker(poll.poll, events, 0.1)
    sleeping(worker)
    source.close()
    with contextlib.suppress(OSError):
        send(b"x")
    assert worker.finish() == 0
    expect_no_events(poll, events)


def test_closing_a_source_and_using_its_number_again_while_another_sleeps(poll, events):
    """The sleeper must not take the new file for the old."""
    stream, peer = tcp_pair()
    poll.registry.register(stream, "old", READABLE)
    worker = Worker(poll.poll, events, PATIENCE)
    sleeping(worker)
    number = stream.fileno()
    stream.close()
    left, right = socket_pair()
    again = left if left.fileno() == number else right
    other = right if again is left else left
    assert again.fileno() == number
    other.send(b"x")
    poll.registry.register(again, "new", READABLE, LEVEL)
    assert worker.finish() == 1
    assert seen(events) == [("new", {"readable"})]
    assert peer.read(1) == b""


def test_draining_while_another_sleeps(poll, events):
    """Where edges are emulated, the thread that drains arms the edge for the one that sleeps."""
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE)
    for _ in range(10):
        peer.write(b"x")
        expect_only(poll, events, "t", "readable")
        worker = Worker(poll.poll, events, PATIENCE)
        sleeping(worker)
        assert stream.read(10) == b"x"
        peer.write(b"y")
        assert worker.finish() == 1
        assert stream.read(10) == b"y"
        expect_no_events(poll, events)


def test_emptying_a_full_stream_while_another_sleeps(poll, events):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", WRITABLE)
    expect_only(poll, events, "t", "writable")
    data = bytes(1 << 20)
    while stream.write(data) is not None:
        pass
    while poll.poll(events, MOMENT):
        while stream.write(data) is not None:
            pass
    worker = Worker(poll.poll, events, PATIENCE)
    sleeping(worker)
    deadline = time.monotonic() + PATIENCE
    while worker.is_alive():
        assert time.monotonic() < deadline
        drain(peer)
    assert worker.finish() == 1


# -- Several sleepers -------------------------------------------------------------------------------------------------


def test_each_event_goes_to_one_of_several(poll):
    """Oneshot: nobody else hears of it."""
    sources = [socket_pair() for _ in range(4)]
    workers, batches = [], []
    for number, (left, _) in enumerate(sources):
        poll.registry.register(left, number, READABLE, ONESHOT)
        batches.append(Events(1))
        workers.append(Worker(poll.poll, batches[-1], PATIENCE))
        sleeping(workers[-1])
    for _, right in sources:
        right.send(b"x")
    assert [worker.finish() for worker in workers] == [1] * 4
    assert sorted(event.token for batch in batches for event in batch) == [0, 1, 2, 3]


def test_several_sleepers_and_edges(poll):
    """Every connection is served once, whoever hears of it."""
    total = 60
    listener = tcp_listener()
    poll.registry.register(listener, listener, READABLE)
    served, lock = [], threading.Lock()
    finished = threading.Event()

    def serve():
        events = Events(8)
        while not finished.is_set():
            poll.poll(events, PATIENCE)
            for event in events:
                if event.token is listener:
                    while connection := listener.accept():
                        stream = mine(connection[0])
                        poll.registry.register(stream, stream, READABLE)
                elif event.token != "w":
                    stream = event.token
                    with contextlib.suppress(ValueError):
                        while data := stream.read(100):
                            with lock:
                                served.append(data)
                                if len(served) == total:
                                    finished.set()

    waker = Waker(poll.registry, "w")
    workers = [Worker(serve) for _ in range(3)]
    for number in range(total):
        client = mine(TcpStream.connect(listener.local_addr))
        wait_writable(client)
        assert client.write(b"%6d" % number) == 6
    assert finished.wait(PATIENCE), f"only {len(served)} of {total}"
    for worker in workers:
        while worker.is_alive():
            waker.wake()
            time.sleep(0)
        worker.finish()
    assert sorted(served) == [b"%6d" % number for number in range(total)]


def test_a_look_while_another_sleeps(poll, events):
    """poll(…, 0) returns at once, and the sleeper's timeout is kept."""
    worker = Worker(poll.poll, Events(), 0.1)
    sleeping(worker)
    begin = time.perf_counter()
    for _ in range(5):
        assert poll.poll(events, 0) == 0
    assert time.perf_counter() - begin < PATIENCE
    assert worker.finish() == 0


def test_each_ones_timeout_is_kept(poll):
    def wait(timeout):
        begin = time.perf_counter()
        assert poll.poll(Events(), timeout) == 0
        return time.perf_counter() - begin

    timeouts = [0.01, 0.05, 0.1, 0.2]
    workers = [Worker(wait, timeout) for timeout in timeouts]
    # Registrations by others do not end them early either.
    for _ in range(20):
        left, _ = socket_pair()
        poll.registry.register(left, "t", READABLE, LEVEL)
    for worker, timeout in zip(workers, timeouts, strict=True):
        assert worker.finish() >= timeout


def test_a_sleeper_whose_companion_leaves_hears_of_new_registrations(poll):
    """One of two is woken and goes; the other has to watch what was registered meanwhile."""
    for _ in range(20):
        waker = Waker(poll.registry, "w")
        left, right = socket_pair()
        batches = [Events(1), Events(1)]
        workers = []
        for batch in batches:
            workers.append(Worker(poll.poll, batch, PATIENCE))
            sleeping(workers[-1])
        waker.wake()
        poll.registry.register(left, "t", READABLE, ONESHOT)
        wait_until(lambda workers=workers: sum(worker.is_alive() for worker in workers) == 1)
        right.send(b"x")
        assert [worker.finish() for worker in workers] == [1, 1]
        assert {event.token for batch in batches for event in batch} == {"w", "t"}
        waker.close()
        poll.registry.deregister(left)


# -- Closing ----------------------------------------------------------------------------------------------------------


def test_closing_at_any_moment(selector, waker_kind, eager):
    """Threads that poll, register and wake, and one that closes under their feet."""
    for _ in range(10):
        poll = Poll(selector=selector)
        waker = Waker(poll.registry, "w")
        running = threading.Barrier(5)

        def polls(poll=poll, running=running):
            events = Events(4)
            running.wait(PATIENCE)
            while True:
                poll.poll(events, 0.001)
                list(events)

        def registers(poll=poll, running=running):
            left, _ = socket_pair()
            stream, _ = tcp_pair()
            running.wait(PATIENCE)
            while True:
                poll.registry.register(left, left, BOTH, LEVEL)
                poll.registry.register(stream, stream, BOTH)
                poll.registry.reregister(left, stream, READABLE, LEVEL)
                poll.registry.deregister(left)
                poll.registry.deregister(stream)

        def wakes(waker=waker, running=running):
            running.wait(PATIENCE)
            while True:
                waker.wake()

        workers = [Worker(polls), Worker(polls), Worker(registers), Worker(wakes)]
        running.wait(PATIENCE)
        poll.close()
        for worker in workers:
            with pytest.raises(ValueError, match="closed"):
                worker.finish()


def test_closing_in_several_threads_at_once(selector, waker_kind):
    for _ in range(20):
        poll = Poll(selector=selector)
        stream, _ = tcp_pair()
        poll.registry.register(stream, stream, READABLE)
        sleeper = Worker(poll.poll, Events(), PATIENCE)
        sleeping(sleeper)
        barrier = threading.Barrier(4)

        def close(thing, barrier=barrier):
            barrier.wait(PATIENCE)
            thing.close()

        for worker in [Worker(close, thing) for thing in (poll, poll, stream, stream)]:
            worker.finish()
        with pytest.raises(ValueError):
            sleeper.finish()


def test_streams_that_are_closed_while_others_use_them(eager):
    for _ in range(20):
        stream, peer = tcp_pair()
        barrier = threading.Barrier(4)

        def use(method, *arguments, barrier=barrier):
            barrier.wait(PATIENCE)
            while True:
                method(*arguments)

        workers = [
            Worker(use, stream.read, 10),
            Worker(use, stream.write, b"x" * 100_000),
            Worker(use, stream.readv, [bytearray(10)] * 10),
        ]
        barrier.wait(PATIENCE)
        peer.write(b"y" * 1000)
        stream.close()
        for worker in workers:
            with pytest.raises(ValueError, match="closed"):
                worker.finish()


# -- Everything at once -----------------------------------------------------------------------------------------------


def test_sources_that_are_registered_by_many_threads(poll, eager):
    """Each thread's own sources are reported with their own tokens, until it takes them away."""
    stop = threading.Event()
    problems = []

    def churn(name):
        rounds = 0
        mine_only = {}
        rng = random.Random(name)
        while not stop.is_set():
            left, right = socket.socketpair()
            token = (name, rounds)
            poll.registry.register(left, token, READABLE, LEVEL)
            mine_only[token] = left, right
            if rng.random() < 0.5:
                right.send(b"x")
            if len(mine_only) > 3:
                old = rng.choice(list(mine_only))
                pair = mine_only.pop(old)
                if rng.random() < 0.5:
                    poll.registry.deregister(pair[0])
                pair[0].close()
                pair[1].close()
            rounds += 1
        for pair in mine_only.values():
            poll.registry.deregister(pair[0])
            pair[0].close()
            pair[1].close()
        return rounds

    def listen():
        events = Events(16)
        heard = 0
        while not stop.is_set():
            heard += poll.poll(events, 0.01)
            for event in events:
                if not (isinstance(event.token, tuple) and event.is_readable()):
                    problems.append(repr(event))
        return heard

    workers = [Worker(churn, name) for name in range(2)] + [Worker(listen) for _ in range(2)]
    stop.wait(0.3)
    stop.set()
    counts = [worker.finish() for worker in workers]
    assert not problems
    assert all(counts[:2]) and sum(counts[2:])
    with Poll(selector=poll.selector_name) as other:
        left, right = socket_pair()
        other.registry.register(left, "t", READABLE, LEVEL)
        right.send(b"x")
        expect_only(other, Events(), "t", "readable")


def test_a_poll_for_each_thread(selector):
    """Threads that share nothing do not disturb each other."""

    def serve(number):
        with Poll(selector=selector) as poll:
            events = Events()
            left, right = socket.socketpair()
            with left, right:
                left.setblocking(False)
                poll.registry.register(left, number, READABLE, LEVEL)
                for _ in range(200):
                    right.send(b"x")
                    assert poll.poll(events, PATIENCE) == 1
                    assert events[0].token == number
                    assert left.recv(10) == b"x"
                    assert poll.poll(events, 0) == 0

    for worker in [Worker(serve, number) for number in range(4)]:
        worker.finish()


def test_one_stream_registered_by_two_threads(poll, eager):
    """One of them wins, the other is told."""
    for _ in range(100):
        stream, _ = tcp_pair()
        barrier = threading.Barrier(2)
        outcomes = []

        def register(token, stream=stream, barrier=barrier, outcomes=outcomes):
            barrier.wait(PATIENCE)
            try:
                poll.registry.register(stream, token, WRITABLE)
            except FileExistsError:
                outcomes.append(None)
            else:
                outcomes.append(token)

        for worker in [Worker(register, token) for token in ("one", "other")]:
            worker.finish()
        winner = [token for token in outcomes if token]
        assert len(winner) == 1 and len(outcomes) == 2
        expect_only(poll, Events(), winner[0], "writable")
        stream.close()


def test_an_event_shared_by_threads(poll, events):
    left, _ = socket_pair()
    poll.registry.register(left, "t", WRITABLE, LEVEL)
    poll.poll(events, 0)
    event = events[0]

    def look():
        for _ in range(2000):
            assert event.token == "t" and event.is_writable() and not event.is_readable()

    for worker in [Worker(look) for _ in range(3)]:
        worker.finish()


def test_iterating_in_one_thread_and_closing_in_another(poll, eager):
    """Every event that is given is whole, though any may be missing."""
    events = Events(256)
    streams = [tcp_pair()[0] for _ in range(30)]
    for number, stream in enumerate(streams):
        poll.registry.register(stream, (number, stream), WRITABLE, LEVEL)
    assert poll.poll(events, 0) == 30

    def close():
        for stream in streams:
            stream.close()
            time.sleep(0)

    worker = Worker(close)
    while worker.is_alive():
        for event in events:
            number, stream = event.token
            assert streams[number] is stream
            assert event.is_writable()
    worker.finish()
    assert list(events) == []
    wait_until(lambda: poll.poll(Events(), 0) == 0)
