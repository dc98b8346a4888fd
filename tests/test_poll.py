"""Poll: waiting, timeouts, closing."""

import decimal
import fractions
import math
import os
import select
import sys
import time
import weakref

import pytest
from util import (
    BOTH,
    EMULATED,
    MOMENT,
    PATIENCE,
    READABLE,
    WRITABLE,
    Worker,
    count_fds,
    drain,
    expect_no_events,
    expect_only,
    in_child,
    no_free_descriptors,
    run_python,
    seen,
    sleeping,
    socket_pair,
    tcp_pair,
)

from metalio import Events, Poll, PollOpt, Waker
from metalio._sys import selector_names, waker_name, waker_names
from metalio.event_loop import EventLoop
from metalio.selectors import MetalSelector

LEVEL = PollOpt.LEVEL
ENDLESS = [None, math.inf, 1e300, 1e10, 1 << 40, 1 << 64, 10**400, sys.float_info.max, (1 << 63) / 1e9, 2**31 / 1000]
METHODS = ["poll", "poll_interruptible"]


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


# -- Making one -------------------------------------------------------------------------------------------------------


def test_the_best_selector_is_the_first(monkeypatch):
    monkeypatch.delenv("METALIO_SELECTOR", raising=False)
    with Poll() as poll:
        assert poll.selector_name == selector_names()[0]
        if sys.platform == "linux" and "METALIO_KQUEUE" not in os.environ and hasattr(select, "epoll"):
            assert poll.selector_name == "epoll"
    with Poll(selector=None) as poll:
        assert poll.selector_name == selector_names()[0]


def test_by_name(selector):
    with Poll(selector=selector) as poll:
        assert poll.selector_name == selector
        assert repr(poll) == f"<Poll on {selector}>"
    assert repr(poll) == f"<Poll on {selector} closed>"


@pytest.mark.parametrize("name", ["", "kqueue?", "select", "EPOLL", "bell", "../poll", "selector"])
def test_an_unknown_name(name):
    with pytest.raises(ValueError, match=f"there is {', '.join(selector_names())}"):
        Poll(selector=name)


class TestVariables:
    """What the environment chooses."""

    def test_the_selector(self, monkeypatch, selector):
        monkeypatch.setenv("METALIO_SELECTOR", selector)
        for name in (None, *selector_names()):
            with Poll(selector=name) as poll:
                assert poll.selector_name == (name or selector)

    def test_what_is_made_of_a_poll(self, monkeypatch, selector):
        monkeypatch.setenv("METALIO_SELECTOR", selector)
        with EventLoop() as loop:
            assert repr(loop) == f"<EventLoop on {selector}>"
        with MetalSelector() as metal:
            assert repr(metal) == f"<MetalSelector on {selector}>"

    @pytest.mark.parametrize("variable", ["METALIO_SELECTOR", "METALIO_WAKER"])
    def test_empty(self, monkeypatch, variable):
        monkeypatch.setenv(variable, "")
        with Poll() as poll:
            assert poll.selector_name == selector_names()[0]

    @pytest.mark.parametrize("name", ["nonsense", "EPOLL", " poll", "selector"])
    def test_an_unknown_selector(self, monkeypatch, name):
        monkeypatch.setenv("METALIO_SELECTOR", name)
        before = count_fds()
        with pytest.raises(ValueError, match=f"METALIO_SELECTOR is '{name}': there is {', '.join(selector_names())}$"):
            Poll()
        assert count_fds() == before
        # Who names one has not asked the environment.
        Poll(selector=selector_names()[0]).close()

    @pytest.mark.parametrize("name", ["nonsense", "PIPE"])
    def test_an_unknown_waker(self, monkeypatch, selector, name):
        monkeypatch.setenv("METALIO_WAKER", name)
        before = count_fds()
        with pytest.raises(
            ValueError, match=f"METALIO_WAKER is '{name}': there is {', '.join(waker_names(selector))}$"
        ):
            Poll(selector=selector)
        assert count_fds() == before

    def test_every_waker(self, monkeypatch, selector, events):
        for name in waker_names(selector):
            monkeypatch.setenv("METALIO_WAKER", name)
            assert waker_name(selector) == name
            with Poll(selector=selector) as poll:
                waker = Waker(poll.registry, "w")
                waker.wake()
                expect_only(poll, events, "w", "readable")


@pytest.mark.parametrize("name", [1, b"epoll", object(), ["epoll"], True])
def test_a_name_of_a_wrong_type(name):
    with pytest.raises(TypeError):
        Poll(selector=name)


def test_arguments():
    with pytest.raises(TypeError):
        Poll("epoll")
    with pytest.raises(TypeError):
        Poll(name="epoll")
    with pytest.raises(TypeError):
        type("Mine", (Poll,), {})


def test_its_properties_cannot_be_set(poll):
    for name in ("registry", "selector_name", "closed", "selector", "anything"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(poll, name, 1)


@pytest.mark.parametrize("spare", range(4))
def test_out_of_descriptors(selector, waker_kind, spare):
    """Wherever it fails while a poll is being made, it fails cleanly."""

    def check():
        Poll(selector=selector).close()
        before = count_fds()
        with no_free_descriptors(spare):
            try:
                poll = Poll(selector=selector)
            except OSError as error:
                assert error.errno == 24
            else:
                assert spare > 0
                poll.close()
        assert count_fds() == before

    in_child(check)


def test_out_of_descriptors_at_first_use(selector):
    """The first poll of a process may have modules to load, which takes descriptors too."""
    errors = run_python(f"""
        import pytest
        from util import no_free_descriptors
        from metalio import Poll

        with no_free_descriptors(), pytest.raises(OSError) as caught:
            Poll(selector={selector!r})
        assert caught.value.errno == 24
        Poll(selector={selector!r}).close()
    """)
    assert errors == ""


# -- Waiting ----------------------------------------------------------------------------------------------------------


def test_what_it_returns(poll, events, method):
    wait = getattr(poll, method)
    assert wait(events, 0) == 0
    left, right = socket_pair()
    poll.registry.register(left, "left", WRITABLE, LEVEL)
    assert wait(events, 0) == 1
    poll.registry.register(right, "right", WRITABLE, LEVEL)
    assert wait(events, PATIENCE) == 2
    assert wait(events) == 2
    assert wait(events, None) == 2
    assert wait(events=events, timeout=0.5) == 2
    assert sorted(event.token for event in events) == ["left", "right"]


@pytest.mark.parametrize("timeout", [*ENDLESS, PATIENCE], ids=repr)
def test_it_sleeps_until_something_is_ready(poll, events, method, timeout):
    left, right = socket_pair()
    poll.registry.register(left, "t", READABLE, LEVEL)
    worker = Worker(getattr(poll, method), events, timeout)
    sleeping(worker)
    right.send(b"x")
    assert worker.finish() == 1
    assert seen(events) == [("t", {"readable"})]


def test_it_sleeps_after_a_batch_too(poll, events):
    """Where the last poll found events it looks before it sleeps: and then it sleeps."""
    left, right = socket_pair()
    poll.registry.register(left, "t", READABLE, LEVEL)
    for _ in range(3):
        right.send(b"x")
        expect_only(poll, events, "t", "readable")
        left.recv(10)
        worker = Worker(poll.poll, events, PATIENCE)
        sleeping(worker)
        right.send(b"x")
        assert worker.finish() == 1
        left.recv(10)


@pytest.mark.parametrize(
    "timeout",
    [0, 0.0, -0.0, False, 1e-320, 5e-324, decimal.Decimal(0), fractions.Fraction(0), decimal.Decimal("1e-30")],
    ids=repr,
)
def test_not_to_wait(poll, events, method, timeout):
    before = time.monotonic()
    assert getattr(poll, method)(events, timeout) == 0
    assert time.monotonic() - before < PATIENCE


class Floaty:
    """Like a number of another library: all that it has is `__float__`."""

    def __init__(self, value):
        self.value = value

    def __float__(self):
        return self.value


class Indexy:
    def __index__(self):
        return 0


SHORT = [
    1e-9,
    1e-7,
    0.00001,
    0.0001,
    0.0005,
    0.000999,
    0.001,
    0.0010001,
    0.0015,
    0.01,
    0.0199999,
    0.1,
    0.10005,
    decimal.Decimal("0.0015"),
    fractions.Fraction(1, 700),
    Floaty(0.0021),
]


@pytest.mark.parametrize("timeout", SHORT, ids=str)
def test_never_early(poll, events, method, timeout):
    wait = getattr(poll, method)
    seconds = float(timeout)
    for _ in range(3 if seconds < 0.05 else 1):
        before = time.monotonic_ns()
        assert wait(events, timeout) == 0
        elapsed = time.monotonic_ns() - before
        assert elapsed >= seconds * 1e9
        assert elapsed < seconds * 1e9 + PATIENCE * 1e9


def test_true_is_one_second(poll, events):
    before = time.monotonic()
    assert poll.poll(events, True) == 0
    assert 1 <= time.monotonic() - before < PATIENCE


def test_a_fraction_of_a_millisecond_is_not_rounded_up_to_one(poll):
    """Of many sleeps of 50 µs, which no machine makes exact, the shortest is shorter than a millisecond."""
    if poll.selector_name == "poll" and not sys.platform.startswith(("linux", "freebsd", "openbsd", "dragonfly")):
        pytest.skip("poll(2) takes milliseconds, and there is no ppoll(2)")
    events = Events(1)
    shortest = math.inf
    deadline = time.monotonic() + PATIENCE
    while shortest >= 0.001 and time.monotonic() < deadline:
        before = time.monotonic()
        assert poll.poll(events, 0.00005) == 0
        shortest = min(shortest, time.monotonic() - before)
    assert 0.00005 <= shortest < 0.001


@pytest.mark.parametrize("timeout", [-1, -1e-9, -5e-324, -math.inf, math.nan, -(1 << 80), -(10**400), Floaty(-1.0)])
def test_timeouts_that_are_none(poll, events, method, timeout):
    left, _ = socket_pair()
    poll.registry.register(left, "t", WRITABLE, LEVEL)
    poll.poll(events, 0)
    with pytest.raises(ValueError, match="timeout"):
        getattr(poll, method)(events, timeout)
    # Nothing was done.
    assert seen(events) == [("t", {"writable"})]


@pytest.mark.parametrize(
    "timeout", ["1", b"1", [], 1j, object(), Floaty("1"), Floaty(None)], ids=lambda t: type(t).__name__
)
def test_timeouts_of_a_wrong_type(poll, events, method, timeout):
    with pytest.raises(TypeError):
        getattr(poll, method)(events, timeout)


def test_a_timeout_that_is_an_index(poll, events):
    assert poll.poll(events, Indexy()) == 0


def test_a_timeout_that_raises(poll, events):
    class Odd:
        def __init__(self, error):
            self.error = error

        def __float__(self):
            raise self.error

        def __gt__(self, other):
            raise AssertionError("not a number")

    with pytest.raises(LookupError, match="odd"):
        poll.poll(events, Odd(LookupError("odd")))
    with pytest.raises((OverflowError, ValueError, TypeError, AssertionError)):
        poll.poll(events, Odd(OverflowError("odd")))
    assert poll.poll(events, 0) == 0


def test_a_timeout_that_polls(poll, events):
    class Odd:
        def __float__(self):
            assert poll.poll(events, 0) == 1
            return 0.0

    left, _ = socket_pair()
    poll.registry.register(left, "t", WRITABLE, LEVEL)
    assert poll.poll(events, Odd()) == 1


def test_a_timeout_that_closes_the_poll(poll, events):
    class Odd:
        def __float__(self):
            poll.close()
            return 1e9

    with pytest.raises(ValueError, match="Poll is closed"):
        poll.poll(events, Odd())


@pytest.mark.parametrize("wrong", [None, [], 5, object(), Events, "events"])
def test_events_of_a_wrong_type(poll, method, wrong):
    with pytest.raises(TypeError, match="Events"):
        getattr(poll, method)(wrong, 0)
    with pytest.raises(TypeError):
        getattr(poll, method)()


@pytest.mark.parametrize("timeout", [0.3, 0.30001])
def test_waiting_takes_no_time_of_the_processor(poll, events, timeout):
    left, _ = socket_pair()
    stream, _ = tcp_pair()
    poll.registry.register(left, "t", READABLE, LEVEL)
    poll.registry.register(stream, "u", BOTH)
    poll.poll(events, 0)
    before = time.thread_time()
    assert poll.poll(events, timeout) == 0
    assert time.thread_time() - before < timeout / 3


def test_the_hundred_day_timeout(poll):
    """More milliseconds than an int holds: 49.7 days and a little would be a little, if they were cut."""
    events = Events()
    for days in (24.9, 49.8, 100, 36500):
        worker = Worker(poll.poll, events, days * 86400.0)
        sleeping(worker)
        worker.join(MOMENT)
        assert worker.is_alive()
        waker = Waker(poll.registry, "w")
        waker.wake()
        assert worker.finish() == 1
        waker.close()


# -- Triggers with metalio's own sources ------------------------------------------------------------------------------


def test_edge_is_the_default(poll, events):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE)
    peer.write(b"x")
    expect_only(poll, events, "t", "readable")
    expect_no_events(poll, events)


@pytest.mark.parametrize("part", [1, 99])
def test_a_short_read_ends_the_drain(poll, events, part):
    """Whatever comes after it is reported, without a read that would block in between."""
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE)
    for _ in range(5):
        peer.write(bytes(part))
        expect_only(poll, events, "t", "readable")
        assert len(stream.read(100)) == part
        expect_no_events(poll, events)


def test_a_short_write_ends_the_drain(poll, events):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", WRITABLE)
    expect_only(poll, events, "t", "writable")
    data = bytes(1 << 24)
    for _ in range(3):
        sent = stream.write(data)
        assert sent is None or sent < len(data)
        got = 0
        while not poll.poll(events, 0):
            got += len(drain(peer))
        assert seen(events) == [("t", {"writable"})]
        drain(peer)


def test_exactly_as_much_as_was_asked_for_does_not_end_it(poll, events):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE)
    peer.write(b"abcd")
    expect_only(poll, events, "t", "readable")
    assert stream.read(2) == b"ab"
    assert stream.read(2) == b"cd"
    assert stream.read(2) is None
    peer.write(b"e")
    expect_only(poll, events, "t", "readable")


def test_would_block_arms_an_edge_again(poll, events):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE)
    for operation in (
        lambda: stream.read(10),
        lambda: stream.readinto(bytearray(10)),
        lambda: stream.readv([bytearray(5), bytearray(5)]),
        lambda: stream.read(1 << 20),
        lambda: stream.readall(),
        lambda: stream.read(),
    ):
        peer.write(b"0123456789")
        expect_only(poll, events, "t", "readable")
        assert operation() in (10, b"0123456789")
        assert operation() is None
        expect_no_events(poll, events)


def test_peeking_does_not_drain(poll, events):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE)
    peer.write(b"0123456789")
    expect_only(poll, events, "t", "readable")
    assert stream.peek(100) == b"0123456789"
    assert stream.peekinto(bytearray(100)) == 10
    expect_no_events(poll, events)
    assert stream.read(100) == b"0123456789"
    assert stream.peek(1) is None
    peer.write(b"x")
    expect_only(poll, events, "t", "readable")


def test_both_directions_have_edges_of_their_own(poll, events):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", BOTH)
    expect_only(poll, events, "t", "writable")
    for _ in range(3):
        peer.write(b"x")
        assert poll.poll(events, PATIENCE) == 1
        assert events[0].is_readable()
        assert stream.read(10) == b"x"
        expect_no_events(poll, events)


def test_the_end_of_the_stream_is_reported_once(poll, events):
    """A reader that reads whenever it is told to must not be told again and again."""
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", BOTH)
    poll.poll(events, PATIENCE)
    peer.write(b"x")
    peer.shutdown("write")
    got = []
    while b"" not in got:
        assert poll.poll(events, PATIENCE) == 1
        assert events[0].is_readable()
        got.append(stream.read(10))
        while events[0].is_read_closed() and got[-1] != b"":
            got.append(stream.read(10))
    assert got == [b"x", b""]
    # The read that was short may have armed the edge once more.
    if poll.poll(events, 0):
        assert stream.read(10) == b""
    for operation in (
        lambda: stream.read(10),
        lambda: stream.readinto(bytearray(10)),
        lambda: stream.readv([bytearray(10)]),
        lambda: stream.readall(),
    ):
        expect_no_events(poll, events)
        assert not operation()
    expect_no_events(poll, events)
    # And the other direction works on.
    assert stream.write(b"y") == 1
    assert drain(peer) == b"y"


@pytest.mark.parametrize("interest", [READABLE, WRITABLE, BOTH], ids=repr)
@pytest.mark.parametrize("pending", [False, True])
def test_a_reset_is_reported_though_the_edge_was_not_drained(poll, events, interest, pending):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", interest)
    if pending:
        peer.write(b"x")
    poll.poll(events, MOMENT)
    poll.poll(events, MOMENT)
    peer.linger = 0
    peer.close()
    assert poll.poll(events, PATIENCE) == 1
    assert events[0].is_error() and events[0].is_read_closed()
    expect_no_events(poll, events)


def test_a_hang_up_is_reported_though_the_edge_was_not_drained(poll, events):
    stream, peer = tcp_pair()
    stream.shutdown("write")
    # kqueue tells of one direction what was asked for that direction, and of the end of its own writing at once.
    told_apart = poll.selector_name == "kqueue"
    poll.registry.register(stream, "t", READABLE if told_apart else WRITABLE)
    poll.poll(events, MOMENT)
    poll.poll(events, MOMENT)
    peer.close()
    assert poll.poll(events, PATIENCE) == 1
    assert events[0].is_read_closed()
    assert events[0].is_write_closed() or told_apart


def test_its_own_shutdown_is_reported(poll, events):
    for interest in (READABLE, WRITABLE, BOTH):
        stream, _ = tcp_pair()
        poll.registry.register(stream, "t", interest)
        poll.poll(events, MOMENT)
        stream.shutdown("both")
        assert poll.poll(events, PATIENCE) == 1
        if poll.selector_name == "kqueue" and interest == WRITABLE:
            # Which tells of one direction what was asked for that direction.
            assert events[0].is_write_closed()
        else:
            assert events[0].is_read_closed()
        stream.close()


def test_level_does_not_spin_on_the_other_direction(poll, events):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE, LEVEL)
    peer.write(b"x")
    for _ in range(3):
        expect_only(poll, events, "t", "readable")
    assert stream.read(10) == b"x"
    expect_no_events(poll, events)


# -- Closing ----------------------------------------------------------------------------------------------------------


def test_after_close(poll, events, method):
    left, _ = socket_pair()
    poll.registry.register(left, "t", WRITABLE, LEVEL)
    registry = poll.registry
    assert poll.closed is False
    poll.close()
    poll.close()
    assert poll.closed is True
    for call in (
        lambda: getattr(poll, method)(events, 0),
        lambda: getattr(poll, method)(events),
        lambda: poll.fileno(),
        lambda: poll.__enter__(),
        lambda: registry.register(left, "t", READABLE, LEVEL),
        lambda: Waker(registry, "w"),
    ):
        with pytest.raises(ValueError, match="Poll is closed"):
            call()
    assert poll.registry is registry
    assert "closed" in repr(poll)


def test_context_manager(selector):
    with Poll(selector=selector) as poll:
        assert not poll.closed
    assert poll.closed
    with pytest.raises(LookupError), Poll(selector=selector) as poll:
        raise LookupError
    assert poll.closed


def test_its_descriptors(selector, waker_kind):
    before = count_fds()
    poll = Poll(selector=selector)
    assert count_fds() > before
    poll.close()
    assert count_fds() == before


def test_its_descriptors_are_not_inherited(poll):
    for number in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if "eventpoll" in name or "eventfd" in name:
            assert not os.get_inheritable(int(number))


def test_unclosed(selector):
    before = count_fds()
    poll = Poll(selector=selector)
    with pytest.warns(ResourceWarning, match=f"unclosed <Poll on {selector}>"):
        del poll
    assert count_fds() == before


def test_no_warning_for_a_closed_one(selector, recwarn):
    poll = Poll(selector=selector)
    poll.close()
    del poll
    assert not recwarn.list


def test_fileno(poll):
    if poll.selector_name in EMULATED:
        with pytest.raises(OSError, match="no descriptor"):
            poll.fileno()
    else:
        assert os.fstat(poll.fileno())


def test_close_releases_all_tokens(poll, events):
    class Thing:
        pass

    alive = []
    for number in range(20):
        token = Thing()
        alive.append(weakref.ref(token))
        source = tcp_pair()[0] if number % 2 else socket_pair()[0]
        poll.registry.register(source, token, WRITABLE, LEVEL)
    token = Thing()
    alive.append(weakref.ref(token))
    with Waker(poll.registry, token):
        del token
        poll.poll(events, 0)
        poll.close()
        assert [reference() for reference in alive] == [None] * 21


@pytest.mark.parametrize("sleepers", [1, 5])
def test_closing_from_another_thread(poll, waker_kind, method, sleepers):
    workers = []
    for _ in range(sleepers):
        workers.append(Worker(getattr(poll, method), Events(), None))
        sleeping(workers[-1])
    poll.close()
    for worker in workers:
        with pytest.raises(ValueError, match="Poll is closed"):
            worker.finish()


def test_closing_from_another_thread_leaves_no_descriptor(selector):
    before = count_fds()
    poll = Poll(selector=selector)
    workers = [Worker(poll.poll, Events(), PATIENCE) for _ in range(3)]
    for worker in workers:
        sleeping(worker)
    poll.close()
    for worker in workers:
        with pytest.raises(ValueError):
            worker.finish()
    assert count_fds() == before


def test_dropping_it_while_another_thread_waits(selector):
    """The thread keeps it alive."""
    poll = Poll(selector=selector)
    waker = Waker(poll.registry, "w")
    worker = Worker(poll.poll, Events(), PATIENCE)
    sleeping(worker)
    del poll
    waker.wake()
    assert worker.finish() == 1
    with pytest.warns(ResourceWarning):
        del worker
    with pytest.raises(ValueError):
        waker.wake()


def test_two_polls_are_apart(selector, events):
    with Poll(selector=selector) as first, Poll(selector=selector) as second:
        left, _ = socket_pair()
        first.registry.register(left, "t", WRITABLE, LEVEL)
        expect_no_events(second, events)
        expect_only(first, events, "t", "writable")
        second.close()
        expect_only(first, events, "t", "writable")


def test_weak_references(selector):
    poll = Poll(selector=selector)
    alive = weakref.ref(poll)
    poll.close()
    del poll
    assert alive() is None


def test_many_polls(selector):
    before = count_fds()
    polls = [Poll(selector=selector) for _ in range(50)]
    left, _ = socket_pair()
    events = Events()
    for number, poll in enumerate(polls):
        poll.registry.register(left, number, WRITABLE, LEVEL)
    for number, poll in enumerate(polls):
        expect_only(poll, events, number, "writable")
        poll.close()
    assert count_fds() == before + 2
