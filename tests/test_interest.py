"""Interest."""

import copy
import functools
import itertools
import pickle

import pytest

from metalio import Interest, PollOpt

NAMES = ("READABLE", "WRITABLE", "PRIORITY", "AIO", "LIO")
SINGLES = [getattr(Interest, name) for name in NAMES]
ALL = [
    (names, functools.reduce(Interest.add, [getattr(Interest, name) for name in names]))
    for size in range(1, len(NAMES) + 1)
    for names in itertools.combinations(NAMES, size)
]


@pytest.mark.parametrize(("names", "interest"), ALL, ids=[" ".join(names) for names, _ in ALL])
def test_predicates_and_repr(names, interest):
    for name in NAMES:
        assert getattr(interest, f"is_{name.lower()}")() is (name in names)
        assert (getattr(Interest, name) in interest) is (name in names)
    assert repr(interest) == " | ".join(names)


def test_the_constants_are_interests_of_their_own():
    assert all(type(interest) is Interest for interest in SINGLES)
    assert len(set(SINGLES)) == len(SINGLES)


def test_or_and_add_are_the_same():
    for one, other in itertools.product(SINGLES, repeat=2):
        assert one | other == one.add(other) == other | one
        assert (one | other) is (other | one)
    assert Interest.READABLE | Interest.READABLE is Interest.READABLE


def test_remove():
    both = Interest.READABLE | Interest.WRITABLE
    assert both.remove(Interest.READABLE) == Interest.WRITABLE
    assert both.remove(Interest.PRIORITY) == both
    assert both.remove(both) is None
    assert Interest.READABLE.remove(both) is None


def test_contains_means_all_of_it():
    both = Interest.READABLE | Interest.WRITABLE
    assert both in both
    assert both not in Interest.READABLE
    assert Interest.READABLE in both


def test_comparison_and_hash():
    both = Interest.READABLE | Interest.WRITABLE
    assert both == Interest.WRITABLE | Interest.READABLE
    assert hash(both) == hash(Interest.WRITABLE | Interest.READABLE)
    assert both != Interest.READABLE
    assert {both: 1}[Interest.WRITABLE | Interest.READABLE] == 1
    low, high = sorted([both, Interest.READABLE])
    assert low < high and low <= high and high > low and high >= low and low <= low and low >= low
    assert not low > high and not high < low and not low < low


def test_comparison_with_others():
    assert Interest.READABLE != 1
    assert Interest.READABLE != PollOpt.EDGE
    assert Interest.READABLE != "READABLE"
    with pytest.raises(TypeError):
        _ = Interest.READABLE < 2
    with pytest.raises(TypeError):
        _ = Interest.READABLE < PollOpt.EDGE


@pytest.mark.parametrize("other", [1, None, "WRITABLE", PollOpt.EDGE, object()])
def test_combining_with_others(other):
    for combine in (
        lambda: Interest.READABLE | other,
        lambda: other | Interest.READABLE,
        lambda: Interest.READABLE.add(other),
        lambda: Interest.READABLE.remove(other),
        lambda: other in Interest.READABLE,
    ):
        with pytest.raises(TypeError):
            combine()


def test_it_cannot_be_made_or_changed():
    with pytest.raises(TypeError, match="combine"):
        Interest()
    with pytest.raises(TypeError):
        Interest(3)
    with pytest.raises(TypeError):
        Interest.READABLE = 3
    with pytest.raises((AttributeError, TypeError)):
        Interest.READABLE.anything = 3
    with pytest.raises((AttributeError, TypeError)):
        Interest.READABLE.bits = 3
    with pytest.raises(TypeError):
        type("Mine", (Interest,), {})


def test_copies_are_the_same_object():
    for interest in (Interest.READABLE, Interest.READABLE | Interest.PRIORITY):
        assert copy.copy(interest) is interest
        assert copy.deepcopy([interest])[0] is interest
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(interest, protocol)) is interest


def test_nothing_else_comes_out_of_a_pickle():
    restore = Interest.READABLE.__reduce__()[0]
    for bits in (0, 8, -1, 1 << 20):
        with pytest.raises(ValueError):
            restore(bits)
    with pytest.raises((TypeError, OverflowError, ValueError)):
        restore(1 << 70)
