"""Timer: timeouts, and a source that is readable when one is due."""

import gc
import math
import os
import sys
import threading
import time
import weakref
from collections import deque
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from util import (
    PATIENCE,
    READABLE,
    WRITABLE,
    Worker,
    expect_no_events,
    expect_only,
    in_child,
    run_python,
    seen,
    sleeping,
    tcp_pair,
)

from metalio import Events, Poll, PollOpt, Source
from metalio._sys import selector_names
from metalio.bench import alloc, native
from metalio.timer import Timeout, Timer, TimerFull

# A tick so short that a timeout without a delay is due at once.
INSTANT = 1e-9
FAR = 1000.0


def drain(timer):
    """What is due by now."""
    states = []
    while (state := timer.poll()) is not None:
        states.append(state)
    return states


def wait_due(timer):
    """The state that is due next, waited for without a poll."""
    deadline = time.perf_counter() + PATIENCE
    while (state := timer.poll()) is None:
        assert time.perf_counter() < deadline
    return state


def pass_time(seconds):
    """Time goes by."""
    end = time.perf_counter() + seconds
    while time.perf_counter() <= end:
        pass


# -- Timeouts ---------------------------------------------------------------------------------------------------------


def test_a_state_comes_back_once():
    timer = Timer()
    state = object()
    assert timer.poll() is None
    timer.set_timeout(0.002, state)
    assert timer.poll() is None
    assert len(timer) == 1
    assert wait_due(timer) is state
    assert timer.poll() is None
    assert len(timer) == 0


@pytest.mark.parametrize("tick", [INSTANT, 0.001, 0.005])
def test_never_early_and_in_due_order(tick):
    random = Random(1)
    timer = Timer(tick=tick)
    due = {}
    for number in range(1, 300):
        delay = random.random() * 0.03
        before = time.perf_counter_ns()
        timer.set_timeout(delay, number)
        due[number] = [moment + int(delay * 1e9) for moment in (before, time.perf_counter_ns())]
    latest = 0
    while due:
        earliest_due, latest_due = due.pop(wait_due(timer))
        assert time.perf_counter_ns() >= earliest_due
        # None comes after one that was due more than a tick later.
        assert latest_due > latest - tick * 1e9
        latest = max(latest, earliest_due)


def test_earlier_ticks_first_after_a_stall():
    timer = Timer()
    order = list(range(1, 8))
    Random(2).shuffle(order)
    for number in order:
        # Far enough apart for their order not to depend on how fast this runs.
        timer.set_timeout(number * 0.02, number)
    pass_time(7 * 0.02 + 0.01)
    assert drain(timer) == [1, 2, 3, 4, 5, 6, 7]


def test_those_of_one_tick_come_as_they_were_scheduled():
    timer = Timer(tick=0.05)
    while _until_next_tick(timer) < 0.04:
        pass
    for number in range(100):
        timer.set_timeout(0.001, number + 1)
    assert [wait_due(timer) for _ in range(100)] == list(range(1, 101))


def _until_next_tick(timer):
    timeout = timer.set_timeout(0, "tick")
    left = timer.next_timeout()
    timer.cancel_timeout(timeout)
    return left


@pytest.mark.parametrize("delay", [0, -1, -0.0, -1e300, -math.inf, -(10**400), False, Fraction(-1, 2)])
def test_what_is_not_positive_counts_as_0(delay):
    timer = Timer(tick=INSTANT)
    timer.set_timeout(delay, "now")
    assert timer.poll() == "now"


@pytest.mark.parametrize("delay", [0, -5])
def test_0_takes_a_tick_at_the_most(delay):
    timer = Timer(tick=0.05)
    before = time.perf_counter()
    timer.set_timeout(delay, "soon")
    left = timer.next_timeout()
    assert 0 <= left <= 0.05
    assert wait_due(timer) == "soon"
    assert time.perf_counter() - before >= left


@pytest.mark.parametrize("delay", [1e10, 1e300, math.inf, 10**400, sys.float_info.max])
def test_what_is_too_far_never_comes(delay):
    timer = Timer()
    timeout = timer.set_timeout(delay, "never")
    timer.set_timeout(FAR, "far")
    assert timer.poll() is None
    assert timer.next_timeout() <= FAR + 0.001
    assert timer.cancel_timeout(timeout) == "never"
    timer.set_timeout(delay, "never")
    assert len(timer) == 2
    # The clock of the machine began when it did.
    assert timer.next_timeout() > 0


@pytest.mark.parametrize("delay", [Fraction(1, 1000), 1, True, 0.5])
def test_any_number_is_a_delay(delay):
    timer = Timer()
    timer.set_timeout(delay, "x")
    assert float(delay) - 0.1 < timer.next_timeout() <= float(delay) + 0.001


def test_misuse():
    timer = Timer()
    with pytest.raises(ValueError, match="number of seconds: nan"):
        timer.set_timeout(math.nan, "x")
    for wrong in (None, "1", [], 1j, object()):
        with pytest.raises(TypeError):
            timer.set_timeout(wrong, "x")
    with pytest.raises(TypeError, match="anything but None"):
        timer.set_timeout(1, None)
    for arguments in ((), (1,), (1, "x", 2)):
        with pytest.raises(TypeError):
            timer.set_timeout(*arguments)
    for wrong in (None, 1, "x", timer):
        with pytest.raises(TypeError, match="expected a Timeout"):
            timer.cancel_timeout(wrong)
    assert len(timer) == 0
    assert timer.next_timeout() is None


def test_arguments_by_name():
    timer = Timer()
    timeout = timer.set_timeout(delay=FAR, state="x")
    assert timer.cancel_timeout(timeout=timeout) == "x"


@pytest.mark.parametrize("tick", [0, -1, 1e-10, math.nan, math.inf, 1e10])
def test_a_tick_that_is_none(tick):
    with pytest.raises(ValueError, match="tick"):
        Timer(tick=tick)


@pytest.mark.parametrize("slots", [-1, 0, 65537])
def test_slots_out_of_bounds(slots):
    with pytest.raises(ValueError, match="slots"):
        Timer(slots=slots)


@pytest.mark.parametrize(
    "arguments",
    [{"tick": None}, {"tick": "1"}, {"slots": None}, {"slots": 2.5}, {"capacity": "1"}, {"capacity": 2.5}, {"no": 1}],
)
def test_arguments_of_wrong_types(arguments):
    with pytest.raises(TypeError):
        Timer(**arguments)
    with pytest.raises(TypeError):
        Timer(0.001)


@pytest.mark.parametrize("slots", [1, 2, 4, 5, 100, 65536])
def test_any_number_of_slots(slots):
    timer = Timer(slots=slots, tick=INSTANT)
    for number in (3, 1, 2):
        timer.set_timeout(number * 0.02, number)
    assert [wait_due(timer) for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("tick", [1e-9, 1e-6, 1, 3600, 1e9])
def test_any_tick(tick):
    timer = Timer(tick=tick)
    timer.set_timeout(tick * 2, "x")
    assert timer.next_timeout() <= tick * 3


# -- Capacity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 2, 63, 64, 65, 1000])
def test_capacity_is_exact(capacity):
    timer = Timer(capacity=capacity, tick=INSTANT)
    assert timer.capacity == capacity
    timeouts = [timer.set_timeout(FAR, number) for number in range(capacity)]
    for _ in range(2):
        with pytest.raises(TimerFull, match=f"{capacity} timeouts"):
            timer.set_timeout(0, "refused")
        assert len(timer) == capacity
        assert timer.poll() is None
        assert timer.cancel_timeout(timeouts[-1]) == capacity - 1
        timeouts[-1] = timer.set_timeout(FAR, capacity - 1)
    assert [timer.cancel_timeout(timeout) for timeout in timeouts] == list(range(capacity))


def test_what_is_due_takes_room_until_it_is_taken():
    timer = Timer(capacity=2, tick=INSTANT)
    timer.set_timeout(0, 1)
    timer.set_timeout(0, 2)
    assert timer.next_timeout() == 0
    with pytest.raises(TimerFull):
        timer.set_timeout(0, 3)
    assert timer.poll() == 1
    timer.set_timeout(0, 3)
    assert drain(timer) == [2, 3]


def test_without_capacity():
    assert Timer().capacity is None
    assert Timer(capacity=10**30).capacity is None
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="capacity"):
            Timer(capacity=wrong)


# -- Cancelling -------------------------------------------------------------------------------------------------------


def test_cancelling():
    timer = Timer()
    state = object()
    timeout = timer.set_timeout(FAR, state)
    assert timer.cancel_timeout(timeout) is state
    assert timer.cancel_timeout(timeout) is None
    assert len(timer) == 0
    assert timer.next_timeout() is None


def test_what_went_off_cannot_be_cancelled():
    timer = Timer(tick=INSTANT)
    timeout = timer.set_timeout(0, 1)
    assert timer.poll() == 1
    assert timer.cancel_timeout(timeout) is None
    # Nor does it cancel the one that has its place now.
    other = timer.set_timeout(FAR, 2)
    assert timer.cancel_timeout(timeout) is None
    assert timer.cancel_timeout(other) == 2


def test_what_is_due_can_be_cancelled():
    timer = Timer(tick=INSTANT)
    timeouts = [timer.set_timeout(0, number) for number in range(1, 6)]
    assert timer.poll() == 1
    assert [timer.cancel_timeout(timeouts[index]) for index in (2, 4, 0)] == [3, 5, None]
    assert drain(timer) == [2, 4]


def test_a_timeout_of_another_timer():
    timer, other = Timer(), Timer()
    timeout = timer.set_timeout(FAR, 1)
    other.set_timeout(FAR, 2)
    for wrong in (other, Timer()):
        with pytest.raises(ValueError, match="another Timer"):
            wrong.cancel_timeout(timeout)
    del timer
    gc.collect()
    with pytest.raises(ValueError, match="another Timer"):
        Timer().cancel_timeout(timeout)
    with pytest.raises(ValueError, match="another Timer"):
        other.cancel_timeout(Timeout.__new__(Timeout))
    assert len(other) == 1


def test_a_timeout_is_small_and_made_by_timers():
    with pytest.raises(TypeError, match="set_timeout"):
        Timeout()
    timeout = Timer().set_timeout(FAR, 1)
    assert sys.getsizeof(timeout) == sys.getsizeof(object()) + 16
    assert not gc.is_tracked(timeout)
    assert repr(timeout) == "<Timeout 1>"
    assert timeout == timeout
    assert len({timeout, Timer().set_timeout(FAR, 1)}) == 2


# -- When -------------------------------------------------------------------------------------------------------------


def test_next_timeout():
    timer = Timer()
    assert timer.next_timeout() is None
    far = timer.set_timeout(1000, 1)
    assert 999 < timer.next_timeout() <= 1000.001
    near = timer.set_timeout(100, 2)
    assert 99 < timer.next_timeout() <= 100.001
    timer.cancel_timeout(near)
    assert 999 < timer.next_timeout() <= 1000.001
    timer.cancel_timeout(far)
    assert timer.next_timeout() is None


def test_next_timeout_is_0_as_soon_as_one_is_due():
    timer = Timer()
    timer.set_timeout(0.002, 1)
    timer.set_timeout(FAR, 2)
    deadline = time.perf_counter() + PATIENCE
    while (left := timer.next_timeout()) != 0:
        assert 0 < left <= 0.003
        assert time.perf_counter() < deadline
    assert isinstance(left, float)
    assert timer.next_timeout() == 0
    assert timer.poll() == 1
    assert timer.next_timeout() > 1


def test_next_timeout_is_exact_in_a_crowd():
    timer = Timer()
    timeouts = [timer.set_timeout(1000 + number, number) for number in range(1, 101)]
    for number in range(1, 100):
        assert timer.cancel_timeout(timeouts[number - 1]) == number
        assert 999 + number < timer.next_timeout() <= 1001.001 + number


# -- Lifetime ---------------------------------------------------------------------------------------------------------


class Thing:
    """A state that can be watched."""

    def __init__(self, finally_do=None):
        self.finally_do = finally_do

    def __del__(self):
        if self.finally_do:
            self.finally_do()


def test_states_are_released_as_soon_as_they_are_given():
    timer = Timer(tick=INSTANT)
    things = [Thing() for _ in range(3)]
    watches = [weakref.ref(thing) for thing in things]
    timer.set_timeout(0, things[0])
    timeout = timer.set_timeout(FAR, things[1])
    timer.set_timeout(FAR, things[2])
    del things
    assert all(watch() for watch in watches)
    timer.poll()
    assert not watches[0]()
    timer.cancel_timeout(timeout)
    assert not watches[1]()
    del timer
    assert not watches[2]()


def test_references_are_neither_lost_nor_kept():
    state = object()
    before = sys.getrefcount(state)
    timer = Timer(tick=INSTANT)
    for _ in range(100):
        timeout = timer.set_timeout(FAR, state)
        assert sys.getrefcount(state) == before + 1
        timer.cancel_timeout(timeout)
        timer.set_timeout(0, state)
        timer.poll()
        with pytest.raises(ValueError):
            timer.set_timeout(math.nan, state)
    nothing = sys.getrefcount(None)
    for _ in range(1000):
        timer.poll()
        timer.cancel_timeout(timeout)
        timer.cancel_timeout(timer.set_timeout(FAR, state))
    assert abs(sys.getrefcount(None) - nothing) < 100
    assert sys.getrefcount(state) == before
    for _ in range(1000):
        timer.set_timeout(FAR, state)
    timer.close()
    assert sys.getrefcount(state) == before


def test_close():
    timer = Timer(tick=INSTANT)
    thing = Thing()
    watch = weakref.ref(thing)
    timeouts = [timer.set_timeout(delay, thing) for delay in (0, FAR)]
    del thing
    with timer:
        assert repr(timer) == "<Timer: 2>"
    assert timer.closed
    assert repr(timer) == "<Timer closed>"
    assert watch() is None
    assert len(timer) == 0
    for timeout in timeouts:
        assert timer.cancel_timeout(timeout) is None
    for misuse in (
        lambda: timer.set_timeout(1, 1),
        timer.poll,
        timer.next_timeout,
        timer.__enter__,
    ):
        with pytest.raises(ValueError, match="closed Timer"):
            misuse()
    timer.close()


def test_cycles_are_collected(selector):
    run_python(
        f"""
        import gc, warnings, weakref
        from metalio import Interest, Poll
        from metalio.timer import Timer

        class Owner:
            pass

        warnings.simplefilter("ignore", ResourceWarning)
        for registered in (False, True):
            owner = Owner()
            owner.timer = Timer(tick=1e-9)
            owner.timer.set_timeout(0, owner)
            owner.timeout = owner.timer.set_timeout(1000, owner)
            owner.timer.next_timeout()
            if registered:
                owner.poll = Poll(selector={selector!r})
                owner.poll.registry.register(owner.timer, owner, Interest.READABLE)
            watch = weakref.ref(owner)
            del owner
            gc.collect()
            assert watch() is None
        """
    )


def test_a_poll_keeps_neither_the_timer_nor_its_states(poll, events):
    """Also where states refer to the timer, as connections do to what they belong to."""
    timer = Timer(tick=INSTANT)
    thing = Thing()
    thing.timer = timer
    token = Thing()
    watches = weakref.ref(timer), weakref.ref(thing), weakref.ref(token)
    timer.set_timeout(0, thing)
    timer.set_timeout(FAR, thing)
    poll.registry.register(timer, token, READABLE)
    poll.poll(events, 0)
    del timer, thing, token
    gc.collect()
    assert [watch() for watch in watches] == [None, None, None]
    expect_no_events(poll, events)


def test_finalisers_may_do_anything(poll, events):
    for meddle in (
        lambda timer: timer.set_timeout(FAR, 1),
        lambda timer: timer.set_timeout(0, 1),
        lambda timer: timer.poll(),
        lambda timer: timer.close(),
        lambda timer: timer.next_timeout(),
        lambda timer: poll.poll(events, 0),
        lambda timer: gc.collect(),
    ):
        for how in ("poll", "cancel", "close"):
            timer = Timer(tick=INSTANT)
            poll.registry.register(timer, 1, READABLE)
            ran = []

            def finally_do(timer=timer, meddle=meddle, ran=ran):
                ran.append(1)
                try:
                    meddle(timer)
                except ValueError:
                    assert timer.closed

            timeouts = [timer.set_timeout(0 if how == "poll" else FAR, Thing(finally_do)) for _ in range(10)]
            if how == "poll":
                for _ in range(10):
                    if not timer.closed:
                        timer.poll()
            elif how == "cancel":
                for timeout in timeouts:
                    timer.cancel_timeout(timeout)
            timer.close()
            assert len(ran) == 10
            assert len(timer) == 0


def test_a_delay_may_do_anything():
    timer = Timer(tick=INSTANT)

    class Delay:
        def __float__(self):
            timer.close()
            return 0.0

    with pytest.raises(ValueError, match="closed Timer"):
        timer.set_timeout(Delay(), 1)


def test_a_million_are_ordinary():
    finalised = 0

    class Counted:
        __slots__ = ()

        def __del__(self):
            nonlocal finalised
            finalised += 1

    timer = Timer()
    timeouts = [timer.set_timeout(60 + number % 4000, Counted()) for number in range(1_000_000)]
    assert len(timer) == 1_000_000
    for timeout in timeouts[::2]:
        timer.cancel_timeout(timeout)
    assert finalised == len(timer) == 500_000
    del timer
    assert finalised == 1_000_000


def test_a_long_chain_is_released_without_recursion():
    chain = Timer()
    for _ in range(100_000):
        timer = Timer(slots=4)
        timer.set_timeout(FAR, chain)
        chain = timer
    del timer
    del chain


@pytest.mark.skipif(native.compiler() is None, reason="needs a C compiler")
@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="Cython's free lists need a GIL")
def test_nothing_is_allocated_once_it_is_warm():
    with native.directory(), Timer(tick=INSTANT) as timer:
        kept = [timer.set_timeout(FAR, 1) for _ in range(100)]
        delay = 1.0

        def run(cycles):
            set_timeout, cancel_timeout, poll = timer.set_timeout, timer.cancel_timeout, timer.poll
            for _ in alloc.repeat(None, cycles):
                kept[0] = cancel_timeout(kept[0]) and set_timeout(delay, 1)
                set_timeout(0.0, 1)
                poll()

        assert alloc.Counter().per_cycle(run, 1000) == [0, 0, 0]


# -- Against a model --------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.just("set"), st.booleans())
        | st.tuples(st.just("cancel"), st.integers(0, 200))
        | st.tuples(st.just("poll"), st.integers(1, 4)),
        max_size=200,
    ),
    st.integers(1, 30),
)
def test_states_go_with_their_timeouts(steps, capacity):
    timer = Timer(tick=INSTANT, capacity=capacity)
    due = deque()
    pending = {}
    timeouts = []
    for what, value in steps:
        if what == "set":
            state = [len(timeouts)]
            if len(due) + len(pending) == capacity:
                with pytest.raises(TimerFull):
                    timer.set_timeout(0 if value else FAR, state)
                continue
            timeouts.append(timer.set_timeout(0 if value else FAR, state))
            if value:
                due.append((timeouts[-1], state))
            else:
                pending[timeouts[-1]] = state
        elif what == "cancel" and timeouts:
            timeout = timeouts[value % len(timeouts)]
            state = pending.pop(timeout, None)
            for entry in list(due):
                if entry[0] is timeout:
                    due.remove(entry)
                    state = entry[1]
            assert timer.cancel_timeout(timeout) is state
        elif what == "poll":
            for _ in range(value):
                assert timer.poll() is (due.popleft()[1] if due else None)
        assert len(timer) == len(due) + len(pending)
    assert drain(timer) == [state for _, state in due]


# -- With a poll ------------------------------------------------------------------------------------------------------


def registered(poll, opts=PollOpt.EDGE, **arguments):
    timer = Timer(**arguments)
    poll.registry.register(timer, "timer", READABLE, opts)
    return timer


def test_it_is_a_source(poll):
    timer = registered(poll)
    assert isinstance(timer, Source)
    with pytest.raises(FileExistsError, match="reregister"):
        poll.registry.register(timer, 1, READABLE)
    with pytest.raises(ValueError, match="EXCLUSIVE"):
        poll.registry.reregister(timer, 1, READABLE, PollOpt.EXCLUSIVE)
    poll.registry.deregister(timer)
    with pytest.raises(FileNotFoundError):
        poll.registry.deregister(timer)


@pytest.mark.parametrize("delay", [0.0, 0.0013, 0.02, 0.13])
def test_it_wakes_the_poll_in_time(poll, events, delay):
    timer = registered(poll)
    for _ in range(30):
        before = time.perf_counter_ns()
        timer.set_timeout(delay, "state")
        expect_only(poll, events, "timer", "readable")
        late = time.perf_counter_ns() - before - delay * 1e9
        assert drain(timer) == ["state"]
        assert late >= 0
        # At most a tick, and a little that the system takes to wake a thread, unless it is busy.
        if late < 1e6 + 5e5:
            break
    else:
        raise AssertionError("always late")
    expect_no_events(poll, events)


def voluntary_switches():
    """How often this thread has slept."""
    with open(f"/proc/self/task/{threading.get_native_id()}/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["voluntary_ctxt_switches"])


def sleeps(poll, events, timeout=None):
    """How often a poll sleeps before it returns."""
    before = voluntary_switches()
    poll.poll(events, timeout)
    return voluntary_switches() - before


def test_it_wakes_the_poll_for_nothing_else(poll, events):
    """Also where the earliest were cancelled, and others are pending that go through several levels."""
    timer = registered(poll, slots=4)
    for number in range(200):
        timer.set_timeout(FAR + number, 1)
    counts = []
    # Something else may have this thread sleep.
    while 1 not in counts:
        assert len(counts) < 20, counts
        timeouts = [timer.set_timeout(0.001 * number, 1) for number in range(30, 1, -1)]
        timer.set_timeout(0.05, "wanted")
        for timeout in timeouts:
            timer.cancel_timeout(timeout)
        counts.append(sleeps(poll, events))
        assert drain(timer) == ["wanted"]
    counts = [sleeps(poll, events, 0.05) for _ in range(5)]
    assert min(counts) == 1
    assert len(events) == 0


def test_a_later_one_does_not_put_it_off(poll, events):
    timer = registered(poll)
    for delay in (0.01, FAR, 0.02, 2 * FAR):
        timer.set_timeout(delay, delay)
    expect_only(poll, events, "timer", "readable")
    found = drain(timer)
    if len(timer) > 2:
        expect_only(poll, events, "timer", "readable")
        found += drain(timer)
    assert found == [0.01, 0.02]
    timer.set_timeout(0.01, 1)
    timer.cancel_timeout(timer.set_timeout(0.005, 2))
    expect_only(poll, events, "timer", "readable")
    assert drain(timer) == [1]


def test_the_timeout_of_the_poll_is_kept(poll, events):
    timer = registered(poll)
    timer.set_timeout(FAR, 1)
    before = time.perf_counter()
    assert poll.poll(events, 0.03) == 0
    assert 0.03 <= time.perf_counter() - before < 1
    timer.set_timeout(0.001, 2)
    assert poll.poll(events, 0.0) in (0, 1)


def test_a_poll_with_a_timeout_hears_of_it_at_the_same_time(poll, events):
    timer = registered(poll)
    timer.set_timeout(0.01, 1)
    before = time.perf_counter()
    assert poll.poll(events, PATIENCE) == 1
    assert 0.01 <= time.perf_counter() - before < PATIENCE / 2


def test_an_edge_is_told_once(poll, events):
    timer = registered(poll, tick=INSTANT)
    timeouts = [timer.set_timeout(0, number) for number in range(1, 6)]
    expect_only(poll, events, "timer", "readable")
    expect_no_events(poll, events)
    # Some are taken and some are cancelled, which is no news.
    assert timer.poll() == 1
    assert timer.cancel_timeout(timeouts[2]) == 3
    expect_no_events(poll, events)
    # It was not drained; the next deadline is an edge nevertheless.
    timer.set_timeout(0.002, 6)
    expect_only(poll, events, "timer", "readable")
    expect_no_events(poll, events)
    assert drain(timer) == [2, 4, 5, 6]
    expect_no_events(poll, events)


def test_a_level_lasts_until_nothing_is_due(poll, events):
    timer = registered(poll, PollOpt.LEVEL, tick=INSTANT)
    for number in (1, 2, 3):
        timer.set_timeout(0, number)
    timer.set_timeout(FAR, 4)
    for number in (1, 2, 3):
        expect_only(poll, events, "timer", "readable")
        assert timer.poll() == number
    expect_no_events(poll, events)


def test_oneshot(poll, events):
    timer = registered(poll, PollOpt.ONESHOT, tick=INSTANT)
    timer.set_timeout(0, 1)
    expect_only(poll, events, "timer", "readable")
    timer.set_timeout(0, 2)
    expect_no_events(poll, events)
    poll.registry.reregister(timer, "again", READABLE, PollOpt.ONESHOT)
    expect_only(poll, events, "again", "readable")


def test_what_was_due_before_it_was_registered(poll, events):
    timer = Timer(tick=INSTANT)
    timer.set_timeout(0, 1)
    timer.set_timeout(0, 2)
    assert timer.poll() == 1
    poll.registry.register(timer, 1, READABLE)
    expect_only(poll, events, 1, "readable")
    assert drain(timer) == [2]


def test_what_is_cancelled_is_not_told(poll, events):
    timer = registered(poll, tick=INSTANT)
    # Pending, due, and told of.
    timer.cancel_timeout(timer.set_timeout(0.001, 1))
    expect_no_events(poll, events)
    timeout = timer.set_timeout(0, 2)
    timer.next_timeout()
    timer.cancel_timeout(timeout)
    expect_no_events(poll, events)
    timeouts = [timer.set_timeout(0, 3) for _ in range(3)]
    timer.poll()
    for timeout in timeouts:
        timer.cancel_timeout(timeout)
    expect_no_events(poll, events)


def test_without_interest_in_reading_it_is_silent(poll, events):
    timer = Timer(tick=INSTANT)
    poll.registry.register(timer, 1, WRITABLE)
    timer.set_timeout(0, 1)
    expect_no_events(poll, events)
    assert timer.poll() == 1


def test_deregistered_it_works_without(poll, events):
    timer = registered(poll, tick=INSTANT)
    timer.set_timeout(0, 1)
    assert poll.poll(events, 0) == 1
    poll.registry.deregister(timer)
    assert list(events) == []
    timer.set_timeout(0, 2)
    expect_no_events(poll, events)
    assert drain(timer) == [1, 2]


def test_moving_to_another_poll(selector, events):
    timer = Timer(tick=INSTANT)
    with Poll(selector=selector) as first, Poll(selector=selector) as second:
        for poll, other in ((first, second), (second, first), (first, second)):
            poll.registry.register(timer, 1, READABLE)
            timer.set_timeout(0.001, 1)
            expect_only(poll, events, 1, "readable")
            expect_no_events(other, events)
            drain(timer)
            poll.registry.deregister(timer)


def test_beside_a_socket(poll, events):
    ours, theirs = tcp_pair()
    poll.registry.register(ours, "socket", READABLE)
    timer = registered(poll)
    timer.set_timeout(0.01, 1)
    theirs.write(b"x")
    assert expect_only(poll, events, "socket", "readable")
    expect_only(poll, events, "timer", "readable")


def test_several_timers(poll, events):
    timers = [Timer() for _ in range(10)]
    for number, timer in enumerate(timers):
        poll.registry.register(timer, number, READABLE)
        timer.set_timeout(0.02 * (10 - number), number + 1)
    told = []
    while len(told) < 10:
        poll.poll(events, PATIENCE)
        for event in events:
            told.append(event.token)
            assert drain(timers[event.token]) == [event.token + 1]
    # In which order is not said, where a machine is so busy that several are due at once.
    assert sorted(told) == list(range(10))


def test_a_state_that_schedules_again_is_not_due_in_the_same_tick(poll, events):
    """So a loop that drains a timer ends, whatever its states do."""
    timer = registered(poll, tick=0.05)
    timer.set_timeout(0, 1)
    expect_only(poll, events, "timer", "readable")
    count = 0
    while (state := timer.poll()) is not None:
        timer.set_timeout(0, state)
        count += 1
    assert count <= 2


def test_closed_while_registered(poll, events):
    timer = registered(poll, tick=INSTANT)
    timer.set_timeout(0, 1)
    timer.set_timeout(0.001, 2)
    timer.close()
    expect_no_events(poll, events)
    with pytest.raises(ValueError, match="closed Timer"):
        poll.registry.register(timer, 1, READABLE)


def test_dropped_while_registered(poll, events):
    timer = registered(poll, tick=INSTANT)
    timer.set_timeout(0, 1)
    timer.set_timeout(0.001, 2)
    assert poll.poll(events, 0) == 1
    del timer
    assert list(events) == []
    expect_no_events(poll, events)


def test_a_poll_that_is_closed_leaves_it_as_it_is(selector, events):
    poll = Poll(selector=selector)
    timer = registered(poll, tick=INSTANT)
    timer.set_timeout(0, 1)
    poll.close()
    timer.set_timeout(0, 2)
    with Poll(selector=selector) as other:
        other.registry.register(timer, 1, READABLE)
        expect_only(other, events, 1, "readable")
        assert drain(timer) == [1, 2]
        timer.set_timeout(0.001, 3)
        expect_only(other, events, 1, "readable")


@pytest.mark.skipif("epoll" not in selector_names(), reason="needs a selector that can be polled")
@pytest.mark.parametrize("outer_selector", selector_names())
def test_a_poll_within_a_poll(outer_selector, events):
    with Poll(selector="epoll") as inner, Poll(selector=outer_selector) as outer:
        timer = registered(inner)
        outer.registry.register(inner, "inner", READABLE, PollOpt.LEVEL)
        for _ in range(3):
            before = time.perf_counter()
            timer.set_timeout(0.01, 1)
            expect_only(outer, events, "inner", "readable")
            assert time.perf_counter() - before >= 0.01
            expect_only(inner, events, "timer", "readable")
            assert drain(timer) == [1]
            expect_no_events(outer, events)


# -- Threads and processes --------------------------------------------------------------------------------------------


def test_another_thread_wakes_a_poll_that_sleeps(poll, events, waker_kind):
    timer = registered(poll)
    for _ in range(10):
        worker = Worker(poll.poll, events, PATIENCE)
        sleeping(worker)
        before = time.perf_counter()
        timer.set_timeout(0.002, 1)
        assert worker.finish() == 1
        assert 0.002 <= time.perf_counter() - before < PATIENCE / 2
        assert seen(events) == [("timer", {"readable"})]
        assert drain(timer) == [1]


def test_an_earlier_one_shortens_the_wait_and_a_later_one_does_not(poll, events):
    timer = registered(poll)
    timer.set_timeout(PATIENCE, "late")
    worker = Worker(poll.poll, events)
    sleeping(worker)
    timer.set_timeout(FAR, "later")
    timer.set_timeout(0.005, "soon")
    assert worker.finish() == 1
    assert drain(timer) == ["soon"]


def test_what_is_cancelled_wakes_no_poll_that_sleeps(poll, events):
    timer = registered(poll)
    for _ in range(10):
        before = time.perf_counter()
        timeout = timer.set_timeout(0.4, 1)
        worker = Worker(poll.poll, events, 0.5)
        sleeping(worker)
        assert timer.cancel_timeout(timeout) == 1
        in_time = time.perf_counter() - before < 0.4
        found = worker.finish()
        if in_time:
            break
    assert in_time
    assert found == 0
    assert time.perf_counter() - before >= 0.5


def test_several_threads_poll(poll):
    """Every state comes to one of them, once."""
    timer = registered(poll)
    total = 4000
    random = Random(4)
    taken = []
    done = threading.Event()

    def serve():
        events = Events(4)
        mine = []
        while not done.is_set():
            for _ in range(poll.poll(events, 0.05)):
                while (state := timer.poll()) is not None:
                    assert time.perf_counter_ns() >= state[1]
                    mine.append(state[0])
                    if len(mine) + sum(map(len, taken)) >= total:
                        done.set()
        taken.append(mine)

    workers = [Worker(serve) for _ in range(4)]

    def schedule(share):
        for number in share:
            delay = random.random() * 0.1
            timer.set_timeout(delay, (number, time.perf_counter_ns() + delay * 1e9 - 1e6))

    producers = [Worker(schedule, range(part, total, 2)) for part in range(2)]
    for producer in producers:
        producer.finish()
    deadline = time.perf_counter() + PATIENCE
    while len(timer):
        assert time.perf_counter() < deadline
    done.set()
    for worker in workers:
        worker.finish()
    assert sorted(number for mine in taken for number in mine) == list(range(total))


def test_threads_schedule_cancel_and_take():
    timer = Timer()
    stop = threading.Event()

    def churn(seed):
        random = Random(seed)
        kept = []
        given = back = 0
        while given < 5000:
            kept.append(timer.set_timeout(random.random() * 0.01, seed))
            given += 1
            if random.random() < 0.5:
                back += timer.cancel_timeout(kept.pop(random.randrange(len(kept)))) is not None
        return given, back

    def take():
        count = 0
        while not stop.is_set() or len(timer):
            count += timer.poll() is not None
            timer.next_timeout()
        return count

    taker = Worker(take)
    workers = [Worker(churn, seed) for seed in (1, 2, 3)]
    totals = [worker.finish(60) for worker in workers]
    stop.set()
    assert taker.finish() + sum(back for _, back in totals) == sum(given for given, _ in totals)
    assert len(timer) == 0


def test_closing_under_the_hands_of_other_threads(selector):
    for _ in range(20):
        with Poll(selector=selector) as poll:
            timer = registered(poll)
            begin = threading.Barrier(4)

            def use(timer=timer, begin=begin):
                begin.wait(PATIENCE)
                try:
                    while True:
                        timer.cancel_timeout(timer.set_timeout(0, 1))
                        timer.set_timeout(0.001, 2)
                        timer.poll()
                except ValueError as error:
                    assert "closed Timer" in str(error)

            workers = [Worker(use) for _ in range(3)]
            begin.wait(PATIENCE)
            poll.poll(Events(), 0.002)
            timer.close()
            for worker in workers:
                worker.finish()
            assert len(timer) == 0


def test_in_a_child(poll, selector, events):
    timer = registered(poll, tick=INSTANT)
    timer.set_timeout(0, 1)
    far = timer.set_timeout(FAR, 2)

    def child():
        with pytest.raises(RuntimeError, match="parent process"):
            poll.poll(events, 0)
        timer.set_timeout(0, 3)
        assert timer.cancel_timeout(far) == 2
        with Poll(selector=selector) as own:
            own.registry.register(timer, "child", READABLE)
            expect_only(own, events, "child", "readable")
            assert drain(timer) == [1, 3]
            timer.set_timeout(0.002, 4)
            expect_only(own, events, "child", "readable")
            poll.close()

    in_child(child)
    expect_only(poll, events, "timer", "readable")
    assert drain(timer) == [1]
    assert timer.cancel_timeout(far) == 2


def test_a_poll_that_sleeps_in_a_thread_when_the_process_forks(poll, events):
    timer = registered(poll)
    timer.set_timeout(0.5, 1)
    worker = Worker(poll.poll, events, PATIENCE)
    sleeping(worker)
    in_child(lambda: os.getpid())
    assert worker.finish() == 1


def test_from_a_signal_handler(selector):
    run_python(
        f"""
        import signal
        from util import ALARM, set_alarm
        from metalio import Events, Interest, Poll
        from metalio.timer import Timer

        events = Events()
        with Poll(selector={selector!r}) as poll:
            timer = Timer()
            poll.registry.register(timer, 1, Interest.READABLE)
            signal.signal(ALARM, lambda number, frame: timer.set_timeout(0.001, "x"))
            set_alarm(0.02)
            assert poll.poll(events, 10) == 1
            assert timer.poll() == "x"
        """
    )


def test_left_to_the_end_of_the_interpreter(selector):
    assert (
        run_python(
            f"""
            from metalio import Interest, Poll
            from metalio.timer import Timer

            class State:
                def __del__(self):
                    timer.poll

            poll = Poll(selector={selector!r})
            timer = Timer()
            poll.registry.register(timer, timer, Interest.READABLE)
            timer.set_timeout(0, State())
            timer.set_timeout(1000, timer)
            poll.close()
            """
        )
        == ""
    )
