"""Slab, its vacant entries, and SlabFull."""

import gc
import itertools
import sys
import threading
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from util import Worker, apart

from metalio import Token
from metalio.slab import Slab, SlabFull, VacantEntry


class Thing:
    """A value that can be referred to weakly."""


def filled(count, **options):
    slab = Slab(**options)
    return slab, [slab.insert(f"value {index}") for index in range(count)]


# -- Values by tokens -------------------------------------------------------------------------------------------------


def test_an_empty_one():
    slab = Slab()
    assert len(slab) == 0
    assert slab.is_empty()
    assert not slab
    assert list(slab) == []
    assert 0 not in slab
    assert slab.capacity is None


def test_inserting():
    slab = Slab()
    value = Thing()
    token = slab.insert(value)
    assert type(token) is Token
    assert token == 0
    assert slab[token] is value
    assert slab.get(token) is value
    assert token in slab
    assert (len(slab), slab.is_empty()) == (1, False)
    assert slab
    assert [slab.insert(None) for _ in range(5)] == [1, 2, 3, 4, 5]


def test_removing():
    slab, (first, second, third) = filled(3)
    assert slab.remove(second) == "value 1"
    assert second not in slab
    assert len(slab) == 2
    for call in (lambda: slab[second], lambda: slab.remove(second), lambda: slab.__setitem__(second, 1)):
        with pytest.raises(KeyError) as raised:
            call()
        assert raised.value.args[0] is second
    assert slab.get(second) is None
    assert slab.get(second, "default") == "default"
    assert (slab[first], slab[third]) == ("value 0", "value 2")
    with pytest.raises(NotImplementedError):
        del slab[first]


def test_replacing():
    slab, (first, second) = filled(2)
    slab[first] = "other"
    assert (slab[first], slab[second], len(slab)) == ("other", "value 1", 2)


def test_slots_are_used_again():
    """The last one first; so the numbers stay small, and an old token names the new value."""
    slab, tokens = filled(5)
    for token in (tokens[1], tokens[3]):
        slab.remove(token)
    assert [slab.insert("new") for _ in range(3)] == [3, 1, 5]
    assert slab[tokens[3]] == "new"


def test_none_is_a_value():
    slab = Slab()
    token = slab.insert(None)
    assert token in slab
    assert slab[token] is None
    assert slab.get(token, "default") is None
    assert list(slab) == [(token, None)]
    assert slab.remove(token) is None
    assert slab.get(token, "default") == "default"


def test_start():
    slab = Slab(start=10)
    assert [slab.insert(name) for name in "ab"] == [10, 11]
    assert slab[10] == "a"
    for number in (0, 1, 9, 12, -1, -10, -(1 << 63), (1 << 63) - 1, 1 << 64, (1 << 64) + 10, -(1 << 200)):
        assert number not in slab
        with pytest.raises(KeyError):
            slab[number]
    slab.remove(11)
    assert slab.insert("c") == 11


def test_what_is_no_token():
    """Any object can be a token of a poll: those which are not the slab's are not in it."""
    slab, _ = filled(2)
    for other in (1.0, "1", None, b"1", (1,), 1j, object(), [], {}):
        assert other not in slab
        assert slab.get(other, "default") == "default"
        for call in (lambda other=other: slab[other], lambda other=other: slab.remove(other)):
            with pytest.raises(KeyError):
                call()
        with pytest.raises(KeyError):
            slab[other] = 1
    assert len(slab) == 2


def test_any_int_will_do():
    class Number(int):
        def __index__(self):
            raise AssertionError("not to be called")

        __int__ = __hash__ = __eq__ = __sub__ = __index__

    slab, _ = filled(2)
    assert slab[1] == slab[Token(1)] == slab[Number(1)] == slab[True] == "value 1"


def test_arguments():
    assert Slab(3, 5).capacity == Slab(capacity=3, start=5).capacity == 3
    for options in ({"capacity": 0}, {"capacity": -1}, {"start": -1}):
        with pytest.raises(ValueError):
            Slab(**options)
    for options in ({"capacity": "8"}, {"capacity": 8.0}, {"start": None}, {"start": "1"}, {"start": 1.0}, {"most": 1}):
        with pytest.raises(TypeError):
            Slab(**options)
    for options in ({"start": sys.maxsize}, {"capacity": sys.maxsize}, {"capacity": 5, "start": sys.maxsize // 2}):
        with pytest.raises(ValueError, match="numbers of tokens end"):
            Slab(**options)
    with pytest.raises(OverflowError):
        Slab(1 << 80)
    with pytest.raises(TypeError):
        type("Mine", (Slab,), {})


def test_as_a_generic():
    assert Slab[str].__origin__ is Slab
    assert Slab[str](3).capacity == 3


def test_repr():
    assert repr(filled(2)[0]) == "<Slab: 2>"
    assert repr(filled(2, capacity=5)[0]) == "<Slab: 2 of 5>"


# -- How many ---------------------------------------------------------------------------------------------------------


def test_a_full_one():
    slab, tokens = filled(3, capacity=3)
    assert slab.remaining == 0
    called = []
    for call in (
        lambda: slab.insert("more"),
        lambda: slab.vacant_entry(),
        lambda: slab.insert_with(called.append),
    ):
        with pytest.raises(SlabFull, match="holds 3"):
            call()
    assert called == []
    assert [value for _, value in slab] == ["value 0", "value 1", "value 2"]
    slab.remove(tokens[1])
    assert slab.remaining == 1
    assert slab.insert("more") == tokens[1]
    with pytest.raises(SlabFull):
        slab.insert("more")


def test_remaining():
    slab = Slab(5)
    assert slab.remaining == 5
    slab.insert(1)
    assert slab.remaining == 4
    with pytest.raises(AttributeError):
        slab.remaining = 3
    assert Slab().remaining > 1 << 20
    assert Slab(start=7).remaining == Slab().remaining - 7


def test_the_last_numbers():
    slab = Slab(start=sys.maxsize // 2 - 2)
    assert slab.remaining == 2
    first, second = slab.insert("a"), slab.insert("b")
    with pytest.raises(SlabFull):
        slab.insert("c")
    assert (slab[first], slab[second]) == ("a", "b")


def test_many():
    slab = Slab()
    tokens = [slab.insert(number) for number in range(100_000)]
    assert tokens == list(range(100_000))
    assert all(slab[token] == token for token in tokens)
    for token in tokens[::2]:
        assert slab.remove(token) == token
    assert [token for token, _ in slab] == tokens[1::2]
    assert {slab.insert(None) for _ in range(50_000)} == set(tokens[::2])


# -- Values that know their token -------------------------------------------------------------------------------------


def test_insert_with():
    slab, _ = filled(2)
    token = slab.insert_with(lambda token: ("made for", token))
    assert type(token) is Token
    assert token == 2
    assert slab[token] == ("made for", token)


def test_a_make_that_raises_inserts_nothing():
    slab, tokens = filled(3, capacity=4)
    slab.remove(tokens[1])

    def make(token):
        assert slab.remaining == 1
        raise ZeroDivisionError

    for _ in range(10):
        with pytest.raises(ZeroDivisionError):
            slab.insert_with(make)
        assert (len(slab), slab.remaining) == (2, 2)
    with pytest.raises(TypeError):
        slab.insert_with(None)
    assert slab.insert("next") == tokens[1]
    assert slab.insert("last") == 3


def test_a_make_that_uses_the_slab():
    slab, tokens = filled(3)

    def make(token):
        assert token not in slab
        with pytest.raises(KeyError):
            slab[token]
        with pytest.raises(KeyError):
            slab.remove(token)
        with pytest.raises(KeyError):
            slab[token] = "early"
        slab.remove(tokens[0])
        inner.append(slab.insert("inner"))
        inner.append(slab.insert_with(lambda inmost: inmost))
        slab.remove(tokens[2])
        assert list(slab) == [(0, "inner"), (1, "value 1"), (4, 4)]
        return "outer"

    inner = []
    token = slab.insert_with(make)
    assert (token, inner) == (3, [0, 4])
    assert list(slab) == [(0, "inner"), (1, "value 1"), (3, "outer"), (4, 4)]


def test_vacant_entries():
    slab, _ = filled(1, capacity=3)
    entry = slab.vacant_entry()
    assert type(entry) is VacantEntry
    assert type(entry.token) is Token
    assert entry.token == 1
    assert entry.token not in slab
    assert (len(slab), slab.remaining) == (1, 1)
    assert repr(entry) == "<VacantEntry: Token(1)>"
    assert entry.insert("value") is entry.token
    assert slab[entry.token] == "value"
    assert (len(slab), slab.remaining) == (2, 1)
    assert repr(entry) == "<VacantEntry: Token(1) used>"
    for _ in range(2):
        with pytest.raises(RuntimeError, match="ask the slab"):
            entry.insert("again")
    assert slab[1] == "value"
    with pytest.raises(AttributeError):
        entry.token = 5


def test_a_vacant_entry_keeps_its_place():
    slab, tokens = filled(2)
    entry = slab.vacant_entry()
    other = slab.vacant_entry()
    for token in tokens:
        slab.remove(token)
    assert {slab.insert("new") for _ in range(3)} == {0, 1, 4}
    assert (other.insert("other"), entry.insert("entry")) == (3, 2)
    assert [value for _, value in slab] == ["new", "new", "entry", "other", "new"]


def test_a_used_entry_is_worth_nothing():
    """Not even when its value has been removed, and dropping it changes nothing."""
    slab = Slab(2)
    entry = slab.vacant_entry()
    slab.remove(entry.insert("value"))
    assert slab.insert("new") == entry.token
    with pytest.raises(RuntimeError):
        entry.insert("again")
    del entry
    assert (len(slab), slab.remaining) == (1, 1)
    assert list(slab) == [(0, "new")]


def test_a_dropped_entry_gives_its_place_back():
    slab = Slab(1)
    for _ in range(10):
        entry = slab.vacant_entry()
        assert entry.token == 0
        with pytest.raises(SlabFull):
            slab.insert("no")
        del entry
        assert slab.remaining == 1
    assert slab.insert("yes") == 0


def test_an_entry_dropped_in_a_cycle_gives_its_place_back():
    slab = Slab(1)
    thing = Thing()
    thing.me, thing.entry = thing, slab.vacant_entry()
    del thing
    assert slab.remaining == 0
    gc.collect()
    assert slab.remaining == 1


def test_an_entry_keeps_its_slab():
    slab = Slab()
    entry = slab.vacant_entry()
    del slab
    gc.collect()
    assert entry.insert("value") == 0


def test_making_an_entry():
    slab = Slab(1)
    for arguments in ((), (None,), ([],), (slab, 1)):
        with pytest.raises(TypeError):
            VacantEntry(*arguments)
    assert VacantEntry(slab).token == 0
    with pytest.raises(TypeError):
        type("Mine", (VacantEntry,), {})


# -- Going through it -------------------------------------------------------------------------------------------------


def test_iteration_is_in_the_order_of_slots():
    slab, tokens = filled(6, start=3)
    slab.remove(tokens[2])
    slab.remove(tokens[4])
    slab.insert("new")
    assert list(slab) == [(3, "value 0"), (4, "value 1"), (6, "value 3"), (7, "new"), (8, "value 5")]
    assert all(type(token) is Token for token, _ in slab)
    assert dict(slab)[7] == "new"


def test_removing_everything_while_going_through_it():
    slab, tokens = filled(10)
    removed = []
    for token, value in slab:
        removed.append((token, value))
        slab.remove(token)
    assert [token for token, _ in removed] == tokens
    assert slab.is_empty()


def test_changes_while_going_through_it():
    slab, tokens = filled(5)
    seen = []
    for token, value in slab:
        seen.append(value)
        if token == 1:
            # What is still to come changes, goes, or comes again; what is behind does not come.
            slab[tokens[2]] = "replaced"
            slab.remove(tokens[3])
            slab.remove(tokens[0])
            assert slab.insert("behind") == 0
            assert slab.insert("again") == 3
            assert slab.insert("beyond") == 5
    assert seen == ["value 0", "value 1", "replaced", "again", "value 4"]


def test_inserting_while_going_through_it_comes_to_an_end():
    slab, _ = filled(5)
    assert [slab.insert("new") for _ in slab] == [5, 6, 7, 8, 9]


def test_an_iterator_of_what_is_gone():
    slab, _ = filled(3)
    iterator = iter(slab)
    assert next(iterator) == (0, "value 0")
    del slab
    assert list(iterator) == [(1, "value 1"), (2, "value 2")]


# -- References -------------------------------------------------------------------------------------------------------


def test_values_are_released():
    slab, value = Slab(), Thing()
    gone = weakref.ref(value)
    token = slab.insert(value)
    slab[token] = value
    assert slab.insert_with(lambda token, value=value: value) == 1
    del value
    slab.remove(1)
    assert gone() is not None
    slab.remove(token)
    assert gone() is None

    value = Thing()
    gone = weakref.ref(value)
    token = slab.insert(value)
    del value
    slab[token] = None
    assert gone() is None

    value = Thing()
    gone = weakref.ref(value)
    slab.insert(value)
    del value, slab
    assert gone() is None


def test_references_are_counted_right():
    slab, value, other = Slab(), Thing(), Thing()
    before = (sys.getrefcount(value), sys.getrefcount(other), sys.getrefcount(slab))
    for _ in range(100):
        token = slab.insert(value)
        slab.get(token), slab[token], token in slab, slab.get("none", other)
        slab[token] = other
        assert list(slab) == [(token, other)]
        slab.remove(token)
        slab.remove(slab.insert_with(lambda token: value))
        slab.vacant_entry()
        with pytest.raises(KeyError):
            slab[other]
    assert (sys.getrefcount(value), sys.getrefcount(other), sys.getrefcount(slab)) == before


def test_cycles_are_collected():
    slab, thing = Slab(), Thing()
    thing.token = slab.insert(thing)
    thing.slab, thing.entry = slab, slab.vacant_entry()
    slab.insert(slab.vacant_entry())
    slab.insert(iter(slab))
    gone = weakref.ref(thing)
    del slab, thing
    gc.collect()
    assert gone() is None


def test_finalisers_may_use_the_slab():
    class Final:
        def __del__(self):
            calls.append(len(slab))
            slab.insert("from the finaliser")
            if token in slab:
                slab[token] = "from the finaliser, too"

    calls = []
    slab = Slab()
    token = slab.insert(Final())
    slab[token] = "other"
    assert (calls, slab[token]) == ([1], "from the finaliser, too")
    slab[token] = Final()
    slab.remove(token)
    assert calls == [1, 1]
    assert [value for _, value in slab] == ["from the finaliser, too", "from the finaliser"]


def test_finalisers_that_run_while_it_grows():
    """Making a token may have the garbage collected."""

    class Final:
        def __del__(self):
            made.append(slab.insert("from the finaliser"))

    slab, made, tokens, kept = Slab(), [], [], []
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for number in range(200):
            gc.disable()
            final = Final()
            final.me = final
            del final
            # Used tuples are used again, and then nothing is collected.
            kept.extend([(number,) for number in range(100)])
            gc.enable()
            tokens.append(slab.insert("mine"))
    finally:
        gc.enable()
        gc.set_threshold(*before)
    gc.collect()
    assert len(made) == 200
    assert len({*tokens, *made}) == 400 == len(slab)
    assert [slab[token] for token in tokens] == ["mine"] * 200


def test_running_out_of_memory():
    """Nothing is lost, and nothing taken for there that is not."""
    testcapi = pytest.importorskip("_testcapi")

    def run():
        for start in range(60):
            slab = Slab()
            inserted, caught = [], False
            try:
                testcapi.set_nomemory(start, start + 3)
                try:
                    for _ in range(40):
                        inserted.append(slab.insert("value"))
                finally:
                    testcapi.remove_mem_hooks()
            except MemoryError:
                caught = True
            count = len(slab)
            assert count in (len(inserted), len(inserted) + 1)
            assert [value for _, value in slab] == ["value"] * count
            assert slab.insert("after") == count
            assert slab.remaining == Slab().remaining - count - 1
            if caught:
                met.append(start)
        assert met

    met = []
    apart(run)


# -- Against a dictionary ---------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.one_of(st.none(), st.integers(1, 8)),
    st.integers(0, 3),
    st.lists(
        st.tuples(
            st.sampled_from(
                ["insert", "insert", "insert_with", "raise", "remove", "replace", "vacant", "fill", "drop", "get"]
            ),
            st.integers(0, 12),
        ),
        max_size=60,
    ),
)
def test_any_operations(capacity, start, operations):
    slab, model, entries = Slab(capacity, start), {}, []
    values = itertools.count()
    for name, number in operations:
        full = capacity is not None and len(model) + len(entries) == capacity
        if name in ("insert", "insert_with", "raise", "vacant") and full:
            with pytest.raises(SlabFull):
                slab.insert("no")
            with pytest.raises(SlabFull):
                slab.insert_with(lambda token: pytest.fail("called"))
            with pytest.raises(SlabFull):
                slab.vacant_entry()
        elif name == "insert":
            value = next(values)
            token = slab.insert(value)
            assert token not in model
            model[token] = value
        elif name == "insert_with":
            token = slab.insert_with(lambda token: -token)
            assert token not in model
            model[token] = -token
        elif name == "raise":
            with pytest.raises(ZeroDivisionError):
                slab.insert_with(lambda token: 1 / 0)
        elif name == "vacant":
            entries.append(slab.vacant_entry())
            assert entries[-1].token not in model
        elif name in ("fill", "drop") and entries:
            entry = entries.pop(number % len(entries))
            if name == "fill":
                model[entry.token] = next(values)
                assert entry.insert(model[entry.token]) == entry.token
            del entry
        elif name == "remove":
            if number in model:
                assert slab.remove(number) == model.pop(number)
            else:
                with pytest.raises(KeyError):
                    slab.remove(number)
        elif name == "replace":
            if number in model:
                slab[number] = model[number] = next(values)
            else:
                with pytest.raises(KeyError):
                    slab[number] = 0
        elif name == "get":
            assert slab.get(number, "none") == model.get(number, "none")
            assert (number in slab) is (number in model)
        tokens = [*model, *(entry.token for entry in entries)]
        assert len(set(tokens)) == len(tokens)
        assert all(token >= start for token in tokens)
        assert list(slab) == sorted(model.items())
        assert (len(slab), slab.is_empty()) == (len(model), not model)
        assert slab.remaining == (Slab(start=start).remaining if capacity is None else capacity) - len(tokens)


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=200))
def test_the_numbers_stay_as_small_as_can_be(operations):
    """No slot is made while there is a vacant one."""
    slab, tokens, most = Slab(), [], 0
    for insert in operations:
        if insert or not tokens:
            tokens.append(slab.insert(None))
            most = max(most, len(tokens))
            assert tokens[-1] < most
        else:
            slab.remove(tokens.pop(len(tokens) // 2))


# -- Threads ----------------------------------------------------------------------------------------------------------


def test_several_threads():
    slab = Slab(capacity=64)
    barrier = threading.Barrier(4)

    def work(name):
        barrier.wait()
        for number in range(3000):
            value = (name, number)
            token = slab.insert_with(lambda token, value=value: value) if number % 3 else slab.insert(value)
            entry = slab.vacant_entry()
            assert slab[token] is value
            slab[token] = [value]
            for _, other in slab:
                assert other[0] is not None
            assert slab.get(token) == [value]
            assert entry.token not in slab
            if number % 2:
                slab.remove(entry.insert([value]))
            del entry
            assert slab.remove(token) == [value]

    for worker in [Worker(work, name) for name in range(4)]:
        worker.finish(30)
    assert (len(slab), slab.remaining) == (0, 64)
