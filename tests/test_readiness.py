"""Registration and SetReadiness: sources that the program makes ready itself."""

import threading
import time
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from util import (
    BOTH,
    MOMENT,
    PATIENCE,
    READABLE,
    WRITABLE,
    Worker,
    expect_events,
    expect_no_events,
    expect_only,
    in_child,
    mine,
    run_python,
    seen,
    sleeping,
    socket_pair,
    tcp_pair,
)

from metalio import Events, Interest, Poll, PollOpt, Source, Waker
from metalio._sys import selector_names
from metalio.readiness import Registration, SetReadiness


def source(poll, token, interest=READABLE, opts=PollOpt.EDGE):
    """A registered source: both halves."""
    registration, ready = Registration.new()
    poll.registry.register(registration, token, interest, opts)
    return registration, ready


def system_calls():
    """How many calls of write(2) this process has made."""
    with open("/proc/self/io") as file:
        return int(dict(line.split(":") for line in file)["syscw"])


# -- What it is -------------------------------------------------------------------------------------------------------


def test_halves_are_made_by_new_only():
    for kind in (Registration, SetReadiness):
        with pytest.raises(TypeError, match=r"Registration\.new\(\)"):
            kind()
    unfinished = SetReadiness.__new__(SetReadiness)
    unfinished.set_readiness(READABLE)
    assert unfinished.readiness() == READABLE
    assert Registration.__new__(Registration).close() is None
    registration, ready = Registration.new()
    assert isinstance(registration, Registration)
    assert isinstance(ready, SetReadiness)
    assert isinstance(registration, Source)


def test_what_was_set_is_told():
    _, ready = Registration.new()
    assert ready.readiness() is None
    for interest in (READABLE, BOTH, Interest.PRIORITY, Interest.AIO | Interest.LIO):
        ready.set_readiness(interest)
        assert ready.readiness() is interest
    ready.set_readiness(None)
    assert ready.readiness() is None
    assert repr(ready) == "<SetReadiness: None>"


@pytest.mark.parametrize("wrong", [1, True, 0, "READABLE", PollOpt.LEVEL])
def test_anything_but_an_interest_is_refused(wrong):
    _, ready = Registration.new()
    ready.set_readiness(WRITABLE)
    with pytest.raises(TypeError, match="expected an Interest"):
        ready.set_readiness(wrong)
    assert ready.readiness() is WRITABLE


# -- Events -----------------------------------------------------------------------------------------------------------


def test_it_reports_what_was_set(poll, events):
    token = object()
    registration, ready = source(poll, token, BOTH | Interest.PRIORITY)
    expect_no_events(poll, events)
    ready.set_readiness(BOTH)
    event = expect_only(poll, events, token, {"readable", "writable"})
    assert event.token is token
    ready.set_readiness(Interest.PRIORITY)
    expect_only(poll, events, token, "priority")
    assert not registration.closed


def test_it_reports_no_more_than_was_asked_for(poll, events):
    _registration, ready = source(poll, 1, WRITABLE)
    ready.set_readiness(READABLE)
    expect_no_events(poll, events)
    ready.set_readiness(BOTH)
    expect_only(poll, events, 1, "writable")


def test_what_was_set_before_registration_counts(poll, events):
    registration, ready = Registration.new()
    ready.set_readiness(READABLE)
    poll.registry.register(registration, 1, READABLE)
    expect_only(poll, events, 1, "readable")


def test_what_is_unset_before_the_poll_is_not_reported(poll, events):
    _registration, ready = source(poll, 1)
    ready.set_readiness(READABLE)
    ready.set_readiness(None)
    expect_no_events(poll, events)
    ready.set_readiness(READABLE)
    expect_only(poll, events, 1, "readable")


def test_each_set_is_an_edge(poll, events):
    _registration, ready = source(poll, 1)
    for _ in range(3):
        ready.set_readiness(READABLE)
        ready.set_readiness(READABLE)
        expect_only(poll, events, 1, "readable")
        expect_no_events(poll, events)


def test_edges_merge_into_the_last_state(poll, events):
    _registration, ready = source(poll, 1, BOTH)
    ready.set_readiness(READABLE)
    ready.set_readiness(WRITABLE)
    expect_only(poll, events, 1, "writable")


def test_level_lasts(poll, events):
    _registration, ready = source(poll, 1, BOTH, PollOpt.LEVEL)
    ready.set_readiness(READABLE)
    for _ in range(3):
        expect_only(poll, events, 1, "readable")
    ready.set_readiness(WRITABLE)
    expect_only(poll, events, 1, "writable")
    ready.set_readiness(None)
    expect_no_events(poll, events)
    ready.set_readiness(READABLE)
    expect_only(poll, events, 1, "readable")


@pytest.mark.parametrize("opts", [PollOpt.ONESHOT, PollOpt.ONESHOT | PollOpt.EDGE, PollOpt.ONESHOT | PollOpt.LEVEL])
def test_oneshot_disarms_until_reregistered(poll, events, opts):
    registration, ready = source(poll, 1, BOTH, opts)
    ready.set_readiness(READABLE)
    expect_only(poll, events, 1, "readable")
    ready.set_readiness(BOTH)
    expect_no_events(poll, events)
    poll.registry.reregister(registration, 2, WRITABLE, opts)
    expect_only(poll, events, 2, "writable")
    ready.set_readiness(WRITABLE)
    expect_no_events(poll, events)


def test_reregistering_reports_afresh_and_drops_what_was_on_its_way(poll, events):
    registration, ready = source(poll, 1)
    ready.set_readiness(READABLE)
    poll.poll(events, PATIENCE)
    poll.registry.reregister(registration, 2, BOTH)
    assert list(events) == []
    with pytest.raises(IndexError, match="stale"):
        events[0]
    expect_only(poll, events, 2, "readable")
    expect_no_events(poll, events)


def test_from_edge_to_level_and_back(poll, events):
    registration, ready = source(poll, 1, READABLE, PollOpt.LEVEL)
    ready.set_readiness(READABLE)
    expect_only(poll, events, 1, "readable")
    poll.registry.reregister(registration, 2, READABLE, PollOpt.EDGE)
    expect_only(poll, events, 2, "readable")
    expect_no_events(poll, events)
    poll.registry.reregister(registration, 3, READABLE, PollOpt.LEVEL)
    for _ in range(2):
        expect_only(poll, events, 3, "readable")


def test_first_come_first_reported(poll):
    events = Events(100)
    sources = [source(poll, index) for index in range(50)]
    order = [index * 7 % 50 for index in range(50)]
    for index in order:
        sources[index][1].set_readiness(READABLE)
    assert poll.poll(events, PATIENCE) == 50
    assert [event.token for event in events] == order


def test_what_does_not_fit_comes_next(poll):
    events = Events(4)
    sources = [source(poll, index) for index in range(10)]
    for _registration, ready in sources:
        ready.set_readiness(READABLE)
    found = []
    while poll.poll(events, 0):
        assert len(events) <= 4
        found += [event.token for event in events]
    assert found == list(range(10))


def test_both_kinds_in_one_batch(poll, events):
    ours, theirs = tcp_pair()
    poll.registry.register(ours, "socket", READABLE)
    _registration, ready = source(poll, "user")
    theirs.write(b"x")
    ready.set_readiness(READABLE)
    expect_events(poll, events, {"socket": "readable", "user": "readable"})


# -- Registration -----------------------------------------------------------------------------------------------------


def test_registering_twice(poll, selector):
    registration, _ready = source(poll, 1)
    with pytest.raises(FileExistsError, match="reregister"):
        poll.registry.register(registration, 2, READABLE)
    with Poll(selector=selector) as other:
        with pytest.raises(FileExistsError, match="another Poll"):
            other.registry.register(registration, 2, READABLE)
        for misuse in (
            lambda: other.registry.reregister(registration, 2, READABLE),
            lambda: other.registry.deregister(registration),
        ):
            with pytest.raises(FileExistsError, match="another Poll"):
                misuse()


def test_what_is_not_registered(poll, events):
    registration, ready = Registration.new()
    for misuse in (
        lambda: poll.registry.reregister(registration, 1, READABLE),
        lambda: poll.registry.deregister(registration),
    ):
        with pytest.raises(FileNotFoundError):
            misuse()
    poll.registry.register(registration, 1, READABLE)
    ready.set_readiness(READABLE)
    poll.registry.deregister(registration)
    with pytest.raises(FileNotFoundError):
        poll.registry.deregister(registration)
    expect_no_events(poll, events)


def test_exclusive_is_refused(poll):
    registration, _ready = Registration.new()
    with pytest.raises(ValueError, match="EXCLUSIVE"):
        poll.registry.register(registration, 1, READABLE, PollOpt.EXCLUSIVE)
    with pytest.raises(ValueError, match="exclude each other"):
        poll.registry.register(registration, 1, READABLE, PollOpt.EDGE | PollOpt.LEVEL)
    poll.registry.register(registration, 1, READABLE)
    with pytest.raises(ValueError, match="EXCLUSIVE"):
        poll.registry.reregister(registration, 1, READABLE, PollOpt.EXCLUSIVE)


def test_registering_again_after_deregistering(poll, events):
    registration, ready = source(poll, 1)
    for round in range(5):
        ready.set_readiness(READABLE)
        poll.registry.deregister(registration)
        poll.registry.register(registration, round, READABLE)
        expect_only(poll, events, round, "readable")
        expect_no_events(poll, events)


def test_moving_to_another_poll_while_ready(selector, events):
    registration, ready = Registration.new()
    with Poll(selector=selector) as first, Poll(selector=selector) as second:
        for round in range(4):
            for poll, other in ((first, second), (second, first)):
                poll.registry.register(registration, round, READABLE)
                ready.set_readiness(READABLE)
                poll.registry.deregister(registration)
                other.registry.register(registration, round, READABLE)
                expect_only(other, events, round, "readable")
                expect_no_events(poll, events)
                other.registry.deregister(registration)


def test_deregistering_drops_what_was_on_its_way(poll, events):
    registration, ready = source(poll, 1)
    ready.set_readiness(READABLE)
    assert poll.poll(events, PATIENCE) == 1
    poll.registry.deregister(registration)
    assert list(events) == []
    assert len(events) == 1


def test_places_are_used_again(poll, events):
    kept = [source(poll, index) for index in range(3)]
    for _ in range(1000):
        registration, ready = source(poll, "passing")
        ready.set_readiness(READABLE)
        registration.close()
    expect_no_events(poll, events)
    for _registration, ready in kept:
        ready.set_readiness(READABLE)
    poll.poll(events, PATIENCE)
    assert sorted(event.token for event in events) == [0, 1, 2]


# -- Lifetime ---------------------------------------------------------------------------------------------------------


def test_close(poll, events):
    registration, ready = source(poll, 1)
    with registration:
        ready.set_readiness(READABLE)
    assert registration.closed
    assert repr(registration) == "<Registration closed>"
    expect_no_events(poll, events)
    registration.close()
    ready.set_readiness(READABLE)
    assert ready.readiness() is READABLE
    for misuse in (
        lambda: poll.registry.register(registration, 1, READABLE),
        lambda: poll.registry.reregister(registration, 1, READABLE),
        lambda: poll.registry.deregister(registration),
        registration.__enter__,
    ):
        with pytest.raises(ValueError, match="closed Registration"):
            misuse()
    expect_no_events(poll, events)


class Thing:
    """A token that can be watched."""


def test_dropping_it_deregisters_and_releases_the_token(poll, events):
    token = Thing()
    watch = weakref.ref(token)
    registration, ready = source(poll, token)
    del token
    ready.set_readiness(READABLE)
    assert watch() is not None
    del registration
    assert watch() is None
    expect_no_events(poll, events)
    ready.set_readiness(READABLE)


def test_closing_the_poll_releases_the_token(selector):
    token = Thing()
    watch = weakref.ref(token)
    poll = Poll(selector=selector)
    registration, ready = source(poll, token)
    del token
    ready.set_readiness(READABLE)
    poll.close()
    assert watch() is None
    ready.set_readiness(None)
    ready.set_readiness(READABLE)
    with Poll(selector=selector) as other:
        other.registry.register(registration, 1, READABLE)
        expect_only(other, Events(), 1, "readable")


def test_a_cycle_with_its_poll_is_collected(selector):
    run_python(
        f"""
        import gc, warnings, weakref
        from metalio import Interest, Poll
        from metalio.readiness import Registration

        class Owner:
            pass

        warnings.simplefilter("ignore", ResourceWarning)
        owner = Owner()
        owner.poll = Poll(selector={selector!r})
        owner.registration, owner.ready = Registration.new()
        owner.poll.registry.register(owner.registration, owner, Interest.READABLE)
        owner.ready.set_readiness(Interest.READABLE)
        watch = weakref.ref(owner)
        del owner
        gc.collect()
        assert watch() is None
        """
    )


def test_a_token_whose_finaliser_uses_the_poll(poll, events):
    class Meddler:
        def __init__(self, others):
            self.others = others

        def __del__(self):
            for registration, ready in self.others:
                ready.set_readiness(READABLE)
                registration.close()
            poll.poll(Events(4), 0)

    for how in ("deregister", "reregister", "drop"):
        others = [source(poll, index) for index in range(3)]
        registration, ready = source(poll, Meddler(others))
        ready.set_readiness(READABLE)
        if how == "deregister":
            poll.registry.deregister(registration)
        elif how == "reregister":
            poll.registry.reregister(registration, 0, WRITABLE)
        else:
            del registration
        expect_no_events(poll, events)


def test_in_a_child_it_can_be_registered_anew(poll, selector, events):
    registration, ready = source(poll, 1)
    ready.set_readiness(READABLE)

    def child():
        with pytest.raises(RuntimeError, match="parent process"):
            poll.poll(events, 0)
        ready.set_readiness(READABLE)
        with Poll(selector=selector) as own:
            own.registry.register(registration, "child", READABLE)
            expect_only(own, events, "child", "readable")
            poll.close()
            ready.set_readiness(READABLE)
            expect_only(own, events, "child", "readable")

    in_child(child)
    expect_only(poll, events, 1, "readable")


# -- Waking -----------------------------------------------------------------------------------------------------------


def test_it_wakes_a_poll_that_sleeps(poll, events, waker_kind):
    _registration, ready = source(poll, 1)
    for _ in range(20):
        worker = Worker(poll.poll, events, PATIENCE)
        sleeping(worker)
        ready.set_readiness(READABLE)
        assert worker.finish() == 1
        assert seen(events) == [(1, {"readable"})]


def test_no_system_call_unless_a_poll_sleeps(poll, events):
    sources = [source(poll, index) for index in range(100)]
    expect_no_events(poll, events)
    before = system_calls()
    for _ in range(10):
        for _registration, ready in sources:
            ready.set_readiness(READABLE)
    assert system_calls() == before
    assert poll.poll(Events(100), 0) == 100
    assert system_calls() == before


def test_one_system_call_wakes_it_however_many_are_ready(poll):
    events = Events(1000)
    sources = [source(poll, index) for index in range(1000)]
    begin = threading.Event()

    def wait():
        begin.set()
        total = 0
        while total < 1000:
            assert poll.poll(events, PATIENCE)
            total += len(events)
        return total

    worker = Worker(wait)
    assert begin.wait(PATIENCE)
    sleeping(worker)
    before = system_calls()
    for _registration, ready in sources:
        ready.set_readiness(READABLE)
    calls = system_calls() - before
    assert worker.finish() == 1000
    # It may have slept again meanwhile, if it was quick; but not a thousand times.
    assert 1 <= calls < 100


def test_what_is_not_asked_for_wakes_nobody(poll, events):
    _registration, ready = source(poll, 1, WRITABLE)
    worker = Worker(poll.poll, events, PATIENCE)
    sleeping(worker)
    before = system_calls()
    ready.set_readiness(READABLE)
    assert system_calls() == before
    ready.set_readiness(WRITABLE)
    assert worker.finish() == 1


def test_registering_what_is_ready_wakes_it(poll, events):
    registration, ready = Registration.new()
    ready.set_readiness(READABLE)
    worker = Worker(poll.poll, events, PATIENCE)
    sleeping(worker)
    poll.registry.register(registration, 1, READABLE)
    assert worker.finish() == 1


def test_from_a_signal_handler(selector):
    run_python(
        f"""
        import signal
        from util import ALARM, set_alarm
        from metalio import Events, Interest, Poll
        from metalio.readiness import Registration

        events = Events()
        with Poll(selector={selector!r}) as poll:
            registration, ready = Registration.new()
            poll.registry.register(registration, 1, Interest.READABLE)
            signal.signal(ALARM, lambda number, frame: ready.set_readiness(Interest.READABLE))
            set_alarm(0.05)
            assert poll.poll(events, 10) == 1
        """
    )


def test_a_timeout_is_kept(poll, events):
    _registration, ready = source(poll, 1, WRITABLE)
    ready.set_readiness(READABLE)
    begin = time.perf_counter()
    assert poll.poll(events, 0.05) == 0
    assert time.perf_counter() - begin >= 0.05


def test_it_is_seen_through_a_poll_within_a_poll(events):
    with Poll() as outer, Poll() as inner:
        if inner.selector_name == "poll":
            pytest.skip("it has no descriptor")
        outer.registry.register(inner, "inner", READABLE, PollOpt.LEVEL)
        _registration, ready = source(inner, "user", READABLE)
        _level, level = source(inner, "level", READABLE, PollOpt.LEVEL)
        expect_no_events(outer, events)
        for _ in range(3):
            ready.set_readiness(READABLE)
            expect_only(outer, events, "inner", "readable")
            expect_only(inner, events, "user", "readable")
            assert inner.poll(events, 0) == 0
            expect_no_events(outer, events)
        level.set_readiness(READABLE)
        for _ in range(3):
            expect_only(outer, events, "inner", "readable")
            expect_only(inner, events, "level", "readable")
        level.set_readiness(None)
        assert inner.poll(events, 0) == 0
        expect_no_events(outer, events)


# -- Fairness ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 2, 3, 16, 1024, 16384])
@pytest.mark.parametrize("opts", [PollOpt.LEVEL, PollOpt.EDGE])
def test_ready_sources_do_not_delay_a_socket(poll, opts, capacity):
    """10,000 sources that are always ready delay a socket by no more than one poll."""
    events = Events(capacity)
    sources = [source(poll, index, READABLE, opts) for index in range(10_000)]
    for _registration, ready in sources:
        ready.set_readiness(READABLE)
    ours, theirs = socket_pair()
    poll.registry.register(ours, "socket", READABLE, PollOpt.LEVEL)
    counted = 0
    for _ in range(20):
        theirs.send(b"x")
        found = []
        for _ in range(2):
            poll.poll(events, PATIENCE)
            found += [event.token for event in events]
        assert "socket" in found
        ours.recv(10)
        for token in found:
            if token != "socket":
                counted += 1
                sources[token][1].set_readiness(READABLE)
    # Nor does the socket delay them.
    assert counted >= 20 * max(1, capacity - capacity // 2 - 1)


@pytest.mark.parametrize("capacity", [1, 2, 7, 64])
def test_busy_sockets_do_not_delay_a_source(poll, capacity):
    events = Events(capacity)
    pairs = [socket_pair() for _ in range(100)]
    for index, (ours, theirs) in enumerate(pairs):
        theirs.send(b"x")
        poll.registry.register(ours, index, READABLE, PollOpt.LEVEL)
    _registration, ready = source(poll, "user")
    for _ in range(20):
        ready.set_readiness(READABLE)
        found = []
        for _ in range(2):
            poll.poll(events, PATIENCE)
            found += [event.token for event in events]
        assert "user" in found
        assert len(found) > 1


def test_all_ready_sources_have_their_turn(poll):
    events = Events(10)
    sources = [source(poll, index, READABLE, PollOpt.LEVEL) for index in range(105)]
    for _registration, ready in sources:
        ready.set_readiness(READABLE)
    times = [0] * 105
    for _ in range(105):
        assert poll.poll(events, PATIENCE) == 10
        for event in events:
            times[event.token] += 1
    assert times == [10] * 105


# -- Threads ----------------------------------------------------------------------------------------------------------


def test_four_threads_in_one_poll_get_each_event_once(poll):
    """Under load from sources of both kinds; oneshot, as several threads need it."""
    count, rounds = 40, 50
    oneshot = PollOpt.EDGE | PollOpt.ONESHOT
    users = [source(poll, ("user", index), READABLE, oneshot) for index in range(count)]
    pairs = [tcp_pair() for _ in range(10)]
    for index, (ours, _theirs) in enumerate(pairs):
        poll.registry.register(ours, ("socket", index), READABLE, oneshot)
    seen_by_all = []
    done = threading.Event()
    total = (count + len(pairs)) * rounds
    lock = threading.Lock()

    def serve():
        events = Events(16)
        while not done.is_set():
            poll.poll(events, 0.02)
            for event in events:
                kind, index = event.token
                if kind == "user":
                    registration, ready = users[index]
                    ready.set_readiness(None)
                    with lock:
                        seen_by_all.append(event.token)
                    poll.registry.reregister(registration, event.token, READABLE, oneshot)
                else:
                    ours = pairs[index][0]
                    while data := ours.read(100):
                        with lock:
                            seen_by_all.extend([event.token] * len(data))
                    poll.registry.reregister(ours, event.token, READABLE, oneshot)
            with lock:
                if len(seen_by_all) >= total:
                    done.set()

    workers = [Worker(serve) for _ in range(4)]
    deadline = time.monotonic() + PATIENCE * 3
    for round in range(1, rounds + 1):
        for _registration, ready in users:
            ready.set_readiness(READABLE)
        for _ours, theirs in pairs:
            theirs.write(b"x")
        while time.monotonic() < deadline:
            with lock:
                if len(seen_by_all) >= round * (count + len(pairs)):
                    break
            time.sleep(0)
    assert done.wait(PATIENCE)
    for worker in workers:
        worker.finish()
    assert len(seen_by_all) == total
    for token in set(seen_by_all):
        assert seen_by_all.count(token) == rounds


@pytest.mark.parametrize("opts", [PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT])
def test_no_wake_up_is_lost(poll, opts):
    """Three producers that go on only when they were answered: one that is not heard stops for ever."""
    rounds = 500
    halves = [source(poll, index, READABLE, opts) for index in range(3)]
    asked, answered = [0] * 3, [threading.Semaphore(0) for _ in range(3)]

    def produce(index):
        for _ in range(rounds):
            asked[index] += 1
            halves[index][1].set_readiness(READABLE)
            assert answered[index].acquire(timeout=PATIENCE)

    workers = [Worker(produce, index) for index in range(3)]
    events = Events(2)
    heard = [0] * 3
    while sum(heard) < 3 * rounds:
        assert poll.poll(events, PATIENCE), (asked, heard)
        for event in events:
            index = event.token
            registration, ready = halves[index]
            if opts is PollOpt.LEVEL:
                ready.set_readiness(None)
            if asked[index] > heard[index]:
                heard[index] += 1
                if opts is PollOpt.ONESHOT:
                    ready.set_readiness(None)
                    poll.registry.reregister(registration, index, READABLE, opts)
                answered[index].release()
    for worker in workers:
        worker.finish()
    assert heard == [rounds] * 3


@pytest.mark.parametrize("opts", [PollOpt.EDGE, PollOpt.ONESHOT])
def test_one_event_wakes_one_of_four(poll, opts):
    _registration, ready = source(poll, 1, READABLE, opts)
    workers = [Worker(poll.poll, Events(4), 0.3) for _ in range(4)]
    for worker in workers:
        sleeping(worker)
    ready.set_readiness(READABLE)
    assert sorted(worker.finish() for worker in workers) == [0, 0, 0, 1]


def test_four_events_wake_all_four_though_it_rings_once(poll):
    """Each has room for one event; who takes one leaves the others to those who still sleep."""
    sources = [source(poll, index) for index in range(4)]
    workers = [Worker(poll.poll, Events(1), PATIENCE) for _ in range(4)]
    for worker in workers:
        sleeping(worker)
    for _registration, ready in sources:
        ready.set_readiness(READABLE)
    assert [worker.finish() for worker in workers] == [1, 1, 1, 1]


def test_each_timeout_is_kept_while_others_wait(poll):
    _registration, ready = source(poll, 1)
    patient = [Worker(poll.poll, Events(4), PATIENCE) for _ in range(2)]
    for worker in patient:
        sleeping(worker)
    assert poll.poll(Events(4), 0) == 0

    def timed(seconds):
        begin = time.perf_counter()
        count = poll.poll(Events(4), seconds)
        return count, time.perf_counter() - begin

    for seconds, (count, taken) in [(seconds, timed(seconds)) for seconds in (0.01, 0.05, 0.002)]:
        assert count == 0
        assert taken >= seconds
    # Two events, one for each: an edge that is set again is an edge of its own.
    ready.set_readiness(READABLE)
    deadline = time.monotonic() + PATIENCE
    while all(worker.is_alive() for worker in patient) and time.monotonic() < deadline:
        time.sleep(0)
    ready.set_readiness(READABLE)
    assert [worker.finish() for worker in patient] == [1, 1]


def test_a_waker_and_user_sources_share_the_bell(poll, events):
    waker = mine(Waker(poll.registry, "waker"))
    _registration, ready = source(poll, "user")
    worker = Worker(poll.poll, events, PATIENCE)
    sleeping(worker)
    waker.wake()
    ready.set_readiness(READABLE)
    assert worker.finish() >= 1
    found = {event.token for event in events}
    while found != {"waker", "user"}:
        assert poll.poll(events, PATIENCE)
        found |= {event.token for event in events}
    expect_no_events(poll, events)


def test_closing_while_threads_sleep_and_producers_produce(selector):
    for _ in range(5):
        poll = Poll(selector=selector)
        halves = [source(poll, index) for index in range(8)]
        stop = threading.Event()

        def produce(halves=halves, stop=stop):
            while not stop.is_set():
                for _registration, ready in halves:
                    ready.set_readiness(READABLE)

        def consume(poll=poll):
            events = Events(4)
            with pytest.raises(ValueError, match="closed"):
                while True:
                    poll.poll(events, PATIENCE)

        workers = [Worker(produce), Worker(produce), Worker(consume), Worker(consume)]
        time.sleep(MOMENT)
        poll.close()
        for worker in workers[2:]:
            worker.finish()
        stop.set()
        for worker in workers[:2]:
            worker.finish()


def test_sources_come_and_go_while_others_are_set(poll):
    """Registering, moving and dropping in one thread, setting in two others, polling in two more."""
    stop = threading.Event()
    shared = [Registration.new() for _ in range(16)]

    def produce():
        while not stop.is_set():
            for _registration, ready in shared:
                ready.set_readiness(READABLE)

    def consume():
        events = Events(8)
        while not stop.is_set():
            poll.poll(events, 0.01)
            for event in events:
                assert event.token in range(16)

    workers = [Worker(produce), Worker(produce), Worker(consume), Worker(consume)]
    with Poll(selector=poll.selector_name) as other:
        for round in range(100):
            target = (poll, other)[round % 2]
            for index, (registration, _ready) in enumerate(shared):
                target.registry.register(registration, index, READABLE)
            for registration, _ready in shared:
                target.registry.deregister(registration)
        stop.set()
        for worker in workers:
            worker.finish()


# -- A model ----------------------------------------------------------------------------------------------------------


operations = st.one_of(
    st.tuples(st.just("set"), st.integers(0, 5), st.integers(0, 7)),
    st.tuples(st.just("register"), st.integers(0, 5), st.integers(1, 7), st.sampled_from(["edge", "level", "oneshot"])),
    st.tuples(
        st.just("reregister"), st.integers(0, 5), st.integers(1, 7), st.sampled_from(["edge", "level", "oneshot"])
    ),
    st.tuples(st.just("deregister"), st.integers(0, 5)),
    st.tuples(st.just("poll")),
)
_OPTS = {"edge": PollOpt.EDGE, "level": PollOpt.LEVEL, "oneshot": PollOpt.ONESHOT}
_PREDICATES = (("readable", 1), ("writable", 2), ("priority", 4))


def interest(bits):
    chosen = None
    for one, bit in ((READABLE, 1), (WRITABLE, 2), (Interest.PRIORITY, 4)):
        if bits & bit:
            chosen = chosen | one if chosen else one
    return chosen


@pytest.mark.parametrize("selector", selector_names())
@settings(max_examples=150, deadline=None)
@given(steps=st.lists(operations, max_size=60))
def test_against_a_model(selector, steps):
    """What is queued, and in which order, as a list of the numbers of sources."""
    with Poll(selector=selector) as poll:
        events = Events(64)
        halves = [Registration.new() for _ in range(6)]
        ready, armed, mode, queue = [0] * 6, [0] * 6, [None] * 6, []

        def queue_up(number):
            if ready[number] & armed[number] and number not in queue:
                queue.append(number)

        for step in [*steps, ("poll",), ("poll",)]:
            what, *rest = step
            if what == "set":
                number, bits = rest
                halves[number][1].set_readiness(interest(bits))
                ready[number] = bits
                queue_up(number)
            elif what in ("register", "reregister"):
                number, bits, opts = rest
                call = getattr(poll.registry, what)
                arguments = halves[number][0], number, interest(bits), _OPTS[opts]
                if (mode[number] is None) != (what == "register"):
                    with pytest.raises((FileExistsError, FileNotFoundError)):
                        call(*arguments)
                    continue
                call(*arguments)
                armed[number], mode[number] = bits, opts
                queue_up(number)
            elif what == "deregister":
                (number,) = rest
                if mode[number] is None:
                    with pytest.raises(FileNotFoundError):
                        poll.registry.deregister(halves[number][0])
                    continue
                poll.registry.deregister(halves[number][0])
                armed[number], mode[number] = 0, None
            else:
                expected, waiting = [], []
                for number in queue:
                    bits = ready[number] & armed[number]
                    if bits:
                        expected.append((number, {name for name, bit in _PREDICATES if bits & bit}))
                        if mode[number] == "level":
                            waiting.append(number)
                        elif mode[number] == "oneshot":
                            armed[number] = 0
                queue[:] = waiting
                assert poll.poll(events, 0) == len(expected)
                assert seen(events) == expected
