"""Waker, over an eventfd and over a pipe."""

import contextlib
import os
import signal
import struct
import sys
import threading
import time
import weakref

import pytest
from util import (
    ALARM,
    MOMENT,
    PATIENCE,
    PROC,
    READABLE,
    WRITABLE,
    Worker,
    expect_no_events,
    expect_only,
    no_free_descriptors,
    open_descriptors,
    run_python,
    seen,
    set_alarm,
    sleeping,
    socket_pair,
    tcp_pair,
)

from metalio import Events, Poll, PollOpt, Registry, Waker

if sys.platform != "win32":
    import fcntl
    import termios

LEVEL = PollOpt.LEVEL


@pytest.fixture
def poll(selector, waker_kind):
    with Poll(selector=selector) as poll:
        yield poll


def rung(poll):
    """How often the kernel has been told to wake a poll, since it last was heard: from the outside."""
    for number, name in open_descriptors().items():
        if "eventfd" in name and not poll_pipes:
            with open(f"/proc/self/fdinfo/{number}") as info:
                for line in info:
                    if line.startswith("eventfd-count:"):
                        return int(line.split()[1], 16)
        elif name.startswith("pipe:") and number in poll_pipes:
            (size,) = struct.unpack("i", fcntl.ioctl(number, termios.FIONREAD, bytes(4)))
            return size // 8
    if not PROC:
        pytest.skip("only Linux tells how often an eventfd was written to, in /proc")
    raise AssertionError("no bell found")


poll_pipes = set()


@pytest.fixture
def counted(selector, waker_kind):
    """A poll whose bell `rung` can find."""
    before = open_descriptors()
    with Poll(selector=selector) as poll:
        poll_pipes.update(
            number
            for number, name in open_descriptors().items()
            if number not in before and name.startswith("pipe:") and not os.get_blocking(number)
        )
        yield poll
        poll_pipes.clear()


# -- Normal use -------------------------------------------------------------------------------------------------------


def test_wake(poll, events):
    waker = Waker(poll.registry, "w")
    expect_no_events(poll, events)
    assert waker.wake() is None
    expect_only(poll, events, "w", "readable")
    expect_no_events(poll, events)
    for _ in range(5):
        waker.wake()
        expect_only(poll, events, "w", "readable")
        expect_no_events(poll, events)


def test_the_token_is_the_object(poll, events):
    token = object()
    waker = Waker(registry=poll.registry, token=token)
    waker.wake()
    assert poll.poll(events, 0) == 1
    assert events[0].token is token


def test_wakes_merge(poll, events):
    waker = Waker(poll.registry, "w")
    for _ in range(1000):
        waker.wake()
    expect_only(poll, events, "w", "readable")
    expect_no_events(poll, events)


def test_only_the_first_wake_costs_a_system_call(counted, events):
    waker = Waker(counted.registry, "w")
    before = rung(counted)
    for _ in range(100):
        waker.wake()
    assert rung(counted) == before + 1
    expect_only(counted, events, "w", "readable")
    before = rung(counted)
    for _ in range(100):
        waker.wake()
    assert rung(counted) == before + 1


def test_more_wakes_than_a_pipe_holds(poll, events):
    """The bell is heard, or the wakes would fail at last."""
    waker = Waker(poll.registry, "w")
    for _ in range(20_000):
        waker.wake()
        poll.poll(events, 0)
        assert len(events) == 1


def test_it_wakes_a_sleeper(poll, events):
    waker = Waker(poll.registry, "w")
    for _ in range(5):
        worker = Worker(poll.poll, events, None)
        sleeping(worker)
        waker.wake()
        assert worker.finish() == 1
        assert seen(events) == [("w", {"readable"})]


def test_with_other_events(poll, events):
    waker = Waker(poll.registry, "w")
    left, right = socket_pair()
    poll.registry.register(left, "t", READABLE, LEVEL)
    right.send(b"x")
    waker.wake()
    assert poll.poll(events, PATIENCE) == 2
    assert sorted(seen(events)) == [("t", {"readable"}), ("w", {"readable"})]
    expect_only(poll, events, "t", "readable")


def test_where_there_is_room_for_one_event_only(poll):
    events = Events(1)
    waker = Waker(poll.registry, "w")
    left, _ = socket_pair()
    stream, _ = tcp_pair()
    poll.registry.register(left, "t", WRITABLE, LEVEL)
    poll.registry.register(stream, "u", WRITABLE)
    for _ in range(5):
        waker.wake()
        found = []
        while "w" not in found and len(found) < 10:
            assert poll.poll(events, PATIENCE) == 1
            found.append(events[0].token)
        assert "w" in found
    tokens = set()
    for _ in range(5):
        poll.poll(events, PATIENCE)
        tokens.add(events[0].token)
    assert "w" not in tokens


def test_a_wake_during_iteration_is_for_the_next_poll(poll, events):
    waker = Waker(poll.registry, "w")
    waker.wake()
    assert poll.poll(events, 0) == 1
    assert [waker.wake() for _ in events] == [None]
    expect_only(poll, events, "w", "readable")
    expect_no_events(poll, events)


def test_an_idle_waker_takes_no_time_of_the_processor(poll, events):
    waker = Waker(poll.registry, "w")
    waker.wake()
    poll.poll(events, 0)
    before = time.thread_time()
    assert poll.poll(events, 0.3) == 0
    assert time.thread_time() - before < 0.1


# -- One for each poll ------------------------------------------------------------------------------------------------


def test_a_second_one(poll, events):
    token = object()
    waker = Waker(poll.registry, "w")
    before = sys.getrefcount(token)
    with pytest.raises(RuntimeError, match="already"):
        Waker(poll.registry, token)
    assert sys.getrefcount(token) == before
    waker.wake()
    expect_only(poll, events, "w", "readable")


def test_close_makes_room(poll, events):
    waker = Waker(poll.registry, "first")
    waker.wake()
    waker.close()
    with Waker(poll.registry, "second") as other:
        # The wake was the first one's.
        expect_no_events(poll, events)
        other.wake()
        expect_only(poll, events, "second", "readable")
        waker.close()
        other.wake()
        expect_only(poll, events, "second", "readable")
    with Waker(poll.registry, "third") as other:
        other.wake()
        expect_only(poll, events, "third", "readable")


def test_dropping_it_makes_room(poll, events):
    waker = Waker(poll.registry, "first")
    waker.wake()
    del waker
    expect_no_events(poll, events)
    waker = Waker(poll.registry, "second")
    waker.wake()
    expect_only(poll, events, "second", "readable")


def test_two_polls_have_one_each(poll, events, selector):
    with Poll(selector=selector) as other:
        first, second = Waker(poll.registry, "first"), Waker(other.registry, "second")
        first.wake()
        expect_no_events(other, events)
        expect_only(poll, events, "first", "readable")
        second.wake()
        expect_only(other, events, "second", "readable")


# -- Closing ----------------------------------------------------------------------------------------------------------


def test_closed(poll, events):
    waker = Waker(poll.registry, "w")
    assert waker.closed is False
    assert "closed" not in repr(waker)
    waker.close()
    waker.close()
    assert waker.closed is True
    assert "closed" in repr(waker)
    with pytest.raises(ValueError, match="closed Waker"):
        waker.wake()
    with pytest.raises(ValueError, match="closed Waker"):
        waker.__enter__()
    expect_no_events(poll, events)


def test_context_manager(poll):
    with Waker(poll.registry, "w") as waker:
        assert not waker.closed
    assert waker.closed


def test_closing_drops_the_event_that_is_on_its_way(poll, events):
    waker = Waker(poll.registry, "w")
    waker.wake()
    assert poll.poll(events, 0) == 1
    waker.close()
    assert list(events) == []


def test_closing_releases_the_token(poll, events):
    class Token:
        pass

    for end in (Waker.close, lambda waker: None):
        token = Token()
        alive = weakref.ref(token)
        waker = Waker(poll.registry, token)
        waker.wake()
        poll.poll(events, 0)
        del token
        assert alive() is not None
        end(waker)
        del waker
        assert alive() is None


def test_of_a_closed_poll(poll):
    waker = Waker(poll.registry, "w")
    waker.wake()
    poll.close()
    with pytest.raises(ValueError, match="Poll is closed"):
        waker.wake()
    waker.close()
    assert waker.closed


def test_of_a_poll_that_was_dropped(selector, waker_kind):
    poll = Poll(selector=selector)
    waker = Waker(poll.registry, "w")
    with pytest.warns(ResourceWarning, match="unclosed <Poll"):
        del poll
    for _ in range(2):
        with pytest.raises(ValueError, match="Poll is closed"):
            waker.wake()
    waker.close()


def test_it_owns_no_descriptor(poll):
    before = open_descriptors()
    with Waker(poll.registry, "w") as waker:
        waker.wake()
        assert open_descriptors() == before
        assert not hasattr(waker, "fileno")


def test_it_needs_no_descriptor(poll, events):
    with no_free_descriptors():
        waker = Waker(poll.registry, "w")
        waker.wake()
        assert poll.poll(events, 0) == 1


# -- Misuse -----------------------------------------------------------------------------------------------------------


def test_arguments(poll):
    for registry in (None, poll, object(), 5, "registry", Registry):
        with pytest.raises(TypeError):
            Waker(registry, "w")
    with pytest.raises(TypeError):
        Waker()
    with pytest.raises(TypeError):
        Waker(poll.registry)
    with pytest.raises(TypeError):
        type("Mine", (Waker,), {})


def test_initialising_it_again_does_nothing(poll, events):
    waker = Waker(poll.registry, "w")
    waker.__init__(poll.registry, "other")
    waker.wake()
    expect_only(poll, events, "w", "readable")


def test_its_bell_cannot_be_registered(selector, waker_kind, events):
    """The poll's own descriptors are its own business."""

    class Liar:
        def __init__(self, number):
            self.number = number

        def fileno(self):
            return self.number

    before = open_descriptors()
    with Poll(selector=selector) as poll:
        waker = Waker(poll.registry, "w")
        own = open_descriptors()
        for number in sorted(own.keys() - before.keys()):
            if selector == "kqueue" and number != poll.fileno() and not own[number].startswith("pipe:"):
                # What a kqueue consists of that is emulated.
                continue
            # The writing end of a pipe does no harm.
            with contextlib.suppress(OSError):
                poll.registry.register(Liar(number), "liar", READABLE, LEVEL)
            waker.wake()
            expect_only(poll, events, "w", "readable")
            expect_no_events(poll, events)


# -- Threads and signals ----------------------------------------------------------------------------------------------


def test_no_wake_is_lost(poll):
    """Threads count and wake; the poller may stop only when it has seen all that was counted."""
    events = Events()
    waker = Waker(poll.registry, "w")
    each, threads = 2000, 4
    counters = [0] * threads
    finished = threading.Event()

    def hammer(number):
        for _ in range(each):
            counters[number] += 1
            waker.wake()

    def listen():
        while True:
            count = poll.poll(events, PATIENCE)
            assert count == 1, f"a wake was lost at {counters}"
            if sum(counters) == each * threads:
                finished.set()
                return

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        listener = Worker(listen)
        workers = [Worker(hammer, number) for number in range(threads)]
        for worker in workers:
            worker.finish()
        assert finished.wait(PATIENCE), "the last wake was lost"
        listener.finish()
    finally:
        sys.setswitchinterval(interval)


def test_ping_pong(selector, waker_kind):
    """Each of two polls wakes the other: a lost wake would end the game."""
    with Poll(selector=selector) as first, Poll(selector=selector) as second:
        wakers = [Waker(first.registry, "first"), Waker(second.registry, "second")]

        def play(poll, other):
            events = Events()
            for _ in range(500):
                assert poll.poll(events, PATIENCE) == 1
                other.wake()

        worker = Worker(play, second, wakers[0])
        wakers[1].wake()
        play(first, wakers[1])
        worker.finish()


def test_several_sleepers(poll):
    """One wake is one event, for one of them."""
    waker = Waker(poll.registry, "w")
    workers = []
    for _ in range(4):
        workers.append(Worker(poll.poll, Events(), PATIENCE))
        sleeping(workers[-1])
    for expected in range(1, 5):
        waker.wake()
        deadline = time.monotonic() + PATIENCE
        while sum(not worker.is_alive() for worker in workers) < expected:
            assert time.monotonic() < deadline
            time.sleep(0)
        assert sum(not worker.is_alive() for worker in workers) == expected
        for worker in workers:
            if worker.is_alive():
                sleeping(worker)
    assert [worker.finish() for worker in workers] == [1] * 4


def test_from_a_signal_handler(poll, events):
    waker = Waker(poll.registry, "w")
    calls = []

    def handler(number, frame):
        calls.append(number)
        waker.wake()

    before = signal.signal(ALARM, handler)
    try:
        set_alarm(0.02)
        assert poll.poll(events, PATIENCE) == 1
        assert seen(events) == [("w", {"readable"})]
        assert calls == [ALARM]
    finally:
        set_alarm(0)
        signal.signal(ALARM, before)


def test_from_signal_handlers_that_interrupt_each_other(poll, events):
    """Signals come at any point of wake() and poll(); no event may be missing at the end."""
    waker = Waker(poll.registry, "w")
    count = 0

    def handler(number, frame):
        nonlocal count
        count += 1
        waker.wake()

    before = signal.signal(ALARM, handler)
    try:
        set_alarm(0.0005, 0.0005)
        heard = 0
        while heard < 100:
            assert poll.poll(events, PATIENCE) == 1
            heard += 1
            waker.wake()
            assert poll.poll(events, PATIENCE) == 1
    finally:
        set_alarm(0)
        signal.signal(ALARM, before)
    assert count >= 1


def test_from_a_token_that_is_being_finalised(poll, events):
    class Token:
        def __del__(self):
            waker.wake()

    waker = Waker(poll.registry, "w")
    left, _ = socket_pair()
    poll.registry.register(left, Token(), READABLE, LEVEL)
    poll.registry.deregister(left)
    expect_only(poll, events, "w", "readable")


def test_a_token_that_closes_its_waker(poll, events):
    class Token:
        def __del__(self):
            waker.close()
            poll.poll(events, 0)

    waker = Waker(poll.registry, Token())
    waker.wake()
    waker.close()
    assert waker.closed
    with Waker(poll.registry, "w") as waker:
        waker.wake()
        expect_only(poll, events, "w", "readable")


def test_what_was_done_before_a_wake_is_seen_after_it(poll):
    waker = Waker(poll.registry, "w")
    events = Events()
    box = []

    def produce():
        for number in range(300):
            box.append(number)
            waker.wake()

    worker = Worker(produce)
    taken = []
    while len(taken) < 300:
        assert poll.poll(events, PATIENCE) == 1
        while box:
            taken.append(box.pop(0))
    worker.finish()
    assert taken == list(range(300))


def test_it_is_dropped_while_a_thread_sleeps(poll, events):
    waker = Waker(poll.registry, "w")
    worker = Worker(poll.poll, events, MOMENT * 5)
    sleeping(worker)
    waker.close()
    with Waker(poll.registry, "other"):
        assert worker.finish() == 0


def test_at_interpreter_exit(selector, waker_kind):
    run_python(f"""
        import sys
        from metalio import Poll, Waker

        poll = Poll(selector={selector!r})
        sys.keep = Waker(poll.registry, poll)
    """)
