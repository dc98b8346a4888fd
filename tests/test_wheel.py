"""The timing wheel, on a clock of the test's own, against a sorted list."""

import sys
import time
from bisect import insort
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metalio.timer.wheel import Wheel

NEVER = 2**63 - 1
MOST = 2**32 - 2


class Model:
    """A sorted list of `(tick, number)`; the tick is worked out in whole numbers without bounds."""

    def __init__(self, start, tick):
        self.start = start
        self.tick = tick
        self.timeouts = []

    def due(self, moment, delay):
        return -((self.start - moment - delay) // self.tick)

    def deadline(self):
        return self.start + self.timeouts[0][0] * self.tick if self.timeouts else NEVER

    def ready(self, moment):
        return [entry for entry in self.timeouts if self.start + entry[0] * self.tick <= moment]


class Pair:
    """A wheel and its model: every method does the same with both, and compares."""

    def __init__(self, start=0, tick=1, slots=256, capacity=MOST):
        self.wheel = Wheel(start, tick, slots, capacity)
        self.model = Model(start, tick)
        self.moment = start
        self.places = {}

    def set(self, delay):
        due = self.wheel.due_after(self.moment, delay)
        assert due == self.model.due(self.moment, delay)
        # Never early, and at most a tick late.
        assert 0 <= self.model.start + due * self.model.tick - self.moment - delay < self.model.tick
        place = self.wheel.reserve(due)
        assert self.wheel.number_at(place) == 0
        self.wheel.schedule(place, due)
        number = self.wheel.number_at(place)
        assert number not in self.places
        self.places[number] = place
        insort(self.model.timeouts, (due, number))
        return number

    def cancel(self, number):
        place = self.places[number]
        pending = [entry for entry in self.model.timeouts if entry[1] == number]
        assert (self.wheel.number_at(place) == number) == bool(pending)
        if pending:
            self.wheel.cancel(place)
            self.model.timeouts.remove(pending[0])
            assert self.wheel.number_at(place) == 0

    def advance(self, by=0):
        self.moment += by
        self.wheel.advance(self.moment)

    def take(self, most=-1):
        """Take what is due, or so many; how many that were."""
        taken = 0
        while taken != most and (place := self.wheel.first_due()):
            number = self.wheel.number_at(place)
            assert self.places[number] == place
            assert number == self.model.timeouts.pop(0)[1]
            self.wheel.take_due()
            taken += 1
        return taken

    def check(self):
        assert self.wheel.count == len(self.model.timeouts)
        ready = self.model.ready(self.moment)
        assert (self.wheel.first_due() != 0) == bool(ready)
        later = self.model.timeouts[len(ready) :]
        expected = self.model.start + later[0][0] * self.model.tick if later else NEVER
        assert self.wheel.next_deadline() == expected


# Numbers of every size, and close to where digits turn over.
SIZES = st.integers(0, 60).flatmap(lambda bits: st.integers(0, 2**bits)) | st.builds(
    lambda bits, by: max(2**bits + by, 0), st.integers(0, 60), st.integers(-2, 2)
)
STEPS = st.one_of(
    st.tuples(st.just("set"), SIZES),
    st.tuples(st.just("cancel"), st.integers(0, 1000)),
    st.tuples(st.just("jump"), SIZES),
    st.tuples(st.just("step"), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.integers(0, 10)),
    st.tuples(st.just("next"), st.just(0)),
    st.tuples(st.just("look"), st.just(0)),
    st.tuples(st.just("take"), st.integers(0, 4)),
)


@settings(max_examples=600, deadline=None)
@given(
    st.integers(0, 2**40),
    st.sampled_from([1, 3, 1000, 1_000_000]),
    st.sampled_from([4, 8, 64, 256, 1024]),
    st.lists(STEPS, max_size=80),
)
@example(0, 1, 4, [("set", 5), ("set", 5), ("set", 4), ("jump", 5)])
def test_it_is_a_sorted_list(start, tick, slots, steps):
    pair = Pair(start, tick, slots)
    numbers = []
    for what, value in steps:
        if what == "set" and pair.moment + value < 2**61:
            numbers.append(pair.set(value))
        elif what == "cancel" and numbers:
            pair.cancel(numbers[value % len(numbers)])
        elif what == "jump" and pair.moment + value < 2**61:
            pair.advance(value)
        elif what == "step":
            pair.advance(value * tick)
        elif what == "take":
            pair.advance()
            pair.take(value)
        elif what == "wait":
            # Time goes by, and nobody looks.
            pair.moment += value * tick
        elif what == "look":
            pair.advance()
            pair.check()
        elif what == "next":
            # From deadline to deadline, as a poll does.
            deadline = pair.wheel.next_deadline()
            if pair.moment < deadline < 2**61:
                before = pair.model.ready(deadline - 1)
                pair.advance(deadline - 1 - pair.moment)
                assert pair.model.ready(pair.moment) == before
                pair.advance(1)
                assert len(pair.model.ready(pair.moment)) > len(before)
        assert pair.wheel.count == len(pair.model.timeouts)
    pair.advance()
    pair.check()
    pair.advance(2**61)
    pair.take()
    pair.check()
    assert pair.wheel.count == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=300), st.sampled_from([4, 16, 256]), st.randoms())
def test_after_a_stall_all_come_in_due_order(delays, slots, random):
    pair = Pair(slots=slots)
    for delay in delays:
        pair.set(delay)
        pair.moment += random.randrange(3)
    pair.advance(2**40)
    assert pair.take() == len(delays)


def test_those_of_one_tick_come_as_they_were_scheduled():
    pair = Pair(slots=4)
    due = 1000
    while pair.moment < due:
        pair.set(due - pair.moment)
        pair.advance(1)
        pair.check()
    assert pair.take() == due


def test_places_are_used_again():
    pair = Pair()
    for _ in range(100):
        numbers = [pair.set(delay) for delay in range(10)]
        for number in numbers[::2]:
            pair.cancel(number)
        pair.advance(10)
        assert pair.take() == 5
    assert max(pair.places.values()) <= 10


def test_a_number_is_not_used_again():
    pair = Pair()
    number = pair.set(10)
    place = pair.places[number]
    pair.cancel(number)
    other = pair.set(10)
    assert pair.places[other] == place
    assert other != number
    pair.cancel(number)
    assert pair.wheel.count == 1


def test_the_farthest():
    pair = Pair(tick=1_000_000)
    last = pair.wheel.due_after(0, NEVER)
    assert pair.wheel.due_after(5_000_000_000, NEVER) == last
    assert 0 < (2**63 - last * 1_000_000) < 4_000_000
    place = pair.wheel.reserve(last)
    pair.wheel.schedule(place, last)
    assert pair.wheel.next_deadline() == last * 1_000_000
    assert not pair.wheel.advance(last * 1_000_000 - 1)
    assert pair.wheel.advance(last * 1_000_000)
    assert pair.wheel.first_due() == place


@pytest.mark.parametrize("tick", [1, 10**18])
@pytest.mark.parametrize("slots", [4, 1 << 16])
def test_extreme_ticks_and_slots(tick, slots):
    pair = Pair(start=10**15, tick=tick, slots=slots)
    for delay in (0, 1, 10**9, 10**18, 2 * 10**18):
        pair.set(delay)
    while pair.wheel.count:
        pair.advance(pair.wheel.next_deadline() - pair.moment)
        assert pair.take()


def test_an_empty_wheel_catches_up_for_nothing():
    pair = Pair(slots=4)
    pair.moment = 2**50
    pair.set(1)
    pair.advance(1)
    assert pair.take() == 1


def test_emptied():
    pair = Pair()
    for delay in range(0, 100_000, 7):
        pair.set(delay)
    pair.advance(1000)
    pair.wheel.empty()
    assert pair.wheel.count == pair.wheel.first_due() == 0
    assert pair.wheel.next_deadline() == NEVER
    assert not any(pair.wheel.number_at(place) for place in pair.places.values())
    pair.model.timeouts.clear()
    for delay in (5, 70_000, 3):
        pair.set(delay)
    pair.check()
    pair.advance(70_000)
    assert pair.take() == 3


@pytest.mark.parametrize("slots", [4, 8, 512])
@pytest.mark.parametrize("seed", range(4))
def test_long_and_crowded(slots, seed):
    """Many in one slot, so that finding out which is next takes more than a glance."""
    random = Random(seed)
    pair = Pair(slots=slots)
    numbers = []
    for _ in range(3000):
        choice = random.random()
        if choice < 0.5:
            numbers.append(pair.set(random.choice([5, 300, 5000, 70_000, 70_000]) + random.randrange(200)))
        elif choice < 0.8 and pair.model.timeouts:
            # Often the one that is next.
            index = random.choice([0, 0, 0, random.randrange(len(pair.model.timeouts))])
            pair.cancel(pair.model.timeouts[index][1])
        elif choice < 0.95:
            pair.advance(random.choice([0, 1, 50]))
            pair.take(random.randrange(3))
        elif choice < 0.98:
            pair.advance()
            pair.check()
        else:
            pair.advance(pair.wheel.next_deadline() - pair.moment if pair.wheel.next_deadline() < NEVER else 0)
            pair.check()
    pair.advance(100_000)
    pair.take()
    pair.check()


def test_no_tick_has_to_move_them_all():
    """What is in the slot that comes next is moved little by little before its time comes."""
    shares = []
    # The processor's time, for which it does not matter what else runs.  Windows counts it in ticks of a slow clock.
    clock = time.perf_counter_ns if sys.platform == "win32" else time.thread_time_ns
    while not shares or min(shares) > 0.1:
        assert len(shares) < 10, shares
        pair = Pair(slots=512)
        count = 50_000
        for index in range(count):
            due = pair.wheel.due_after(0, 2 * 65536 + index)
            pair.wheel.schedule(pair.wheel.reserve(due), due)
        times = []
        for moment in range(65536, 2 * 65536 + 1000, 65):
            before = clock()
            pair.wheel.advance(moment)
            times.append(clock() - before)
        shares.append(max(times) / sum(times))


def test_the_next_one_is_known_while_some_have_moved_and_some_have_not():
    pair = Pair(slots=512)
    numbers = [pair.set(512 + index // 2) for index in range(500)]
    # Now they are in the slot that comes next, and the first of them have moved.
    pair.advance(300)
    for number in numbers:
        pair.cancel(number)
        pair.check()


def test_the_next_one_is_known_where_the_latest_came_first():
    pair = Pair(slots=512)
    numbers = [pair.set(70_000 + index) for index in reversed(range(100))]
    for number in reversed(numbers):
        pair.cancel(number)
        pair.check()


def test_moving_beforehand_keeps_the_order():
    """Those that come while the slot of their tick is being emptied come behind what was there."""
    pair = Pair(slots=8)
    due = 1000
    for moment in range(0, due, 3):
        pair.moment = moment
        for _ in range(5):
            pair.set(due - moment)
            pair.set(due + 1 - moment)
        if moment % 2:
            pair.advance()
    pair.advance(due + 1 - pair.moment)
    assert pair.take() == 2 * 5 * len(range(0, due, 3))
