"""PollOpt."""

import copy
import functools
import itertools
import pickle

import pytest

from metalio import Interest, PollOpt

NAMES = ("EDGE", "LEVEL", "ONESHOT", "EXCLUSIVE")
SINGLES = [getattr(PollOpt, name) for name in NAMES]
ALL = [
    (names, functools.reduce(PollOpt.add, [getattr(PollOpt, name) for name in names]))
    for size in range(1, len(NAMES) + 1)
    for names in itertools.combinations(NAMES, size)
]


@pytest.mark.parametrize(("names", "opts"), ALL, ids=[" ".join(names) for names, _ in ALL])
def test_predicates_and_repr(names, opts):
    for name in NAMES:
        assert getattr(opts, f"is_{name.lower()}")() is (name in names)
        assert (getattr(PollOpt, name) in opts) is (name in names)
    assert repr(opts) == " | ".join(names)


def test_or_and_add_are_the_same():
    assert len(set(SINGLES)) == len(SINGLES)
    for one, other in itertools.product(SINGLES, repeat=2):
        assert one | other == one.add(other)
        assert (one | other) is (other | one)


def test_remove():
    opts = PollOpt.EDGE | PollOpt.ONESHOT
    assert opts.remove(PollOpt.ONESHOT) == PollOpt.EDGE
    assert opts.remove(PollOpt.LEVEL) == opts
    assert opts.remove(opts) is None


def test_comparison_and_hash():
    opts = PollOpt.EDGE | PollOpt.ONESHOT
    assert opts == PollOpt.ONESHOT | PollOpt.EDGE
    assert hash(opts) == hash(PollOpt.ONESHOT | PollOpt.EDGE)
    assert opts != PollOpt.EDGE
    assert opts != 5
    assert PollOpt.EDGE != Interest.READABLE


@pytest.mark.parametrize("other", [1, None, "LEVEL", Interest.READABLE, object()])
def test_combining_with_others(other):
    for combine in (
        lambda: PollOpt.LEVEL | other,
        lambda: other | PollOpt.LEVEL,
        lambda: PollOpt.LEVEL.add(other),
        lambda: PollOpt.LEVEL.remove(other),
        lambda: other in PollOpt.LEVEL,
    ):
        with pytest.raises(TypeError):
            combine()


def test_it_cannot_be_made_or_changed():
    with pytest.raises(TypeError, match="combine"):
        PollOpt()
    with pytest.raises(TypeError):
        PollOpt.EDGE = 3
    with pytest.raises((AttributeError, TypeError)):
        PollOpt.EDGE.bits = 2
    with pytest.raises(TypeError):
        type("Mine", (PollOpt,), {})


def test_copies_are_the_same_object():
    for opts in (PollOpt.EDGE, PollOpt.EDGE | PollOpt.ONESHOT):
        assert copy.copy(opts) is opts
        assert copy.deepcopy([opts])[0] is opts
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(opts, protocol)) is opts


def test_nothing_else_comes_out_of_a_pickle():
    restore = PollOpt.EDGE.__reduce__()[0]
    for bits in (0, 16, -1):
        with pytest.raises(ValueError):
            restore(bits)
