"""`metalio.selectors`.  CPython's own tests, of `selectors` and of asyncio, are in files of their own."""

import asyncio
import gc
import os
import selectors
import signal
import socket
import sys
import threading
import time
import weakref
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from program import system_calls
from util import (
    ALARM,
    MOMENT,
    PATIENCE,
    WINDOWS,
    Worker,
    close_number,
    count_fds,
    give_number,
    in_child,
    mine,
    no_free_descriptors,
    not_on_windows,
    set_alarm,
    sleeping,
    socket_pair,
)

from metalio._sys import selector_names
from metalio.selector_base import KeyMap, SelectorBase
from metalio.selectors import MetalSelector, new_event_loop

if not WINDOWS:
    import resource

# What is said of a number that nothing has.
NOT_OPEN = "no open socket" if WINDOWS else "not open"

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
BOTH = READ | WRITE

needs_epoll = pytest.mark.skipif("epoll" not in selector_names(), reason="needs epoll")


@pytest.fixture
def metal(selector):
    with MetalSelector(selector) as metal:
        yield metal


def seen(ready):
    """What select() returned, by data."""
    return {key.data: events for key, events in ready}


def number_of(sock):
    return sock if isinstance(sock, int) else sock.fileno()


@pytest.fixture
def reuse():
    """`reuse(sock, other)`: close `sock` unheard, and give its number to the file of `other`; the number."""
    taken = []

    def reuse(sock, other):
        number = sock.detach()
        give_number(number, other)
        taken.append(number)
        return number

    yield reuse
    for number in taken:
        close_number(number)


class TestInterface:
    def test_is_a_selector_of_the_standard_library(self, metal):
        assert isinstance(metal, selectors.BaseSelector)
        assert issubclass(MetalSelector, selectors.BaseSelector)

    def test_the_default_is_the_best(self, monkeypatch):
        monkeypatch.delenv("METALIO_SELECTOR", raising=False)
        with MetalSelector() as metal:
            assert repr(metal) == f"<MetalSelector on {selector_names()[0]}>"
            assert not metal.closed
        assert metal.closed
        assert repr(metal) == f"<MetalSelector on {selector_names()[0]} closed>"

    def test_names(self):
        with pytest.raises(ValueError, match="no selector 'nonesuch' on this machine"):
            MetalSelector("nonesuch")
        with pytest.raises(TypeError):
            MetalSelector(1)
        for name in selector_names():
            with MetalSelector(selector=name) as metal:
                assert name in repr(metal)

    def test_keys_are_those_of_the_standard_library(self, metal):
        a, _ = socket_pair()
        key = metal.register(a, READ, "data")
        assert type(key) is selectors.SelectorKey
        assert key == selectors.SelectorKey(a, a.fileno(), READ, "data")
        assert key._replace(data=1).data == 1
        assert metal.get_key(a) is key
        assert metal.modify(a, WRITE, "other") == (a, a.fileno(), WRITE, "other")
        assert metal.unregister(a) == (a, a.fileno(), WRITE, "other")

    @pytest.mark.parametrize("events", [0, None, 4, -1, 1 << 80, 7])
    def test_invalid_events(self, metal, events):
        a, _ = socket_pair()
        with pytest.raises(ValueError, match="Invalid events"):
            metal.register(a, events)
        metal.register(a, READ)
        with pytest.raises(ValueError, match="Invalid events"):
            metal.modify(a, events)
        assert metal.get_key(a).events == READ
        with pytest.raises(TypeError):
            metal.register(a, "r")

    def test_no_file_object(self, metal):
        class Lying:
            def fileno(self):
                return "no number"

        a, _ = socket_pair()
        a.close()
        for fileobj in (-1, object(), Lying(), None, a, "0", 1.0):
            for method in (metal.unregister, metal.get_key, metal.get_map().get, metal.get_map().__getitem__):
                with pytest.raises(ValueError, match="Invalid file"):
                    method(fileobj)
            for method in (metal.register, metal.modify):
                with pytest.raises(ValueError, match="Invalid file"):
                    method(fileobj, READ)
        assert not metal.get_map()

    def test_a_number_that_no_descriptor_has(self, metal):
        for number in (1 << 20, 1 << 40, 1 << 80):
            with pytest.raises(OSError, match=NOT_OPEN):
                metal.register(number, READ)
            with pytest.raises(KeyError):
                metal.unregister(number)
            assert metal.get_map().get(number) is None

    def test_an_error_of_fileno_is_handed_on(self, metal):
        class Failing:
            def fileno(self):
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            metal.register(Failing(), READ)

    def test_regular_files(self, metal, tmp_path):
        with open(tmp_path / "file", "w") as file:
            with pytest.raises(OSError if WINDOWS else PermissionError):
                metal.register(file, WRITE)
            assert file not in metal.get_map()

    def test_an_object_that_was_closed_is_found(self, metal):
        a, _ = socket_pair()
        key = metal.register(a, READ)
        a.close()
        assert metal.get_key(a) is key
        assert metal.get_map()[a] is key
        assert metal.unregister(a) is key
        with pytest.raises(ValueError, match="Invalid file descriptor"):
            metal.unregister(a)

    def test_fileno(self):
        with MetalSelector(selector_names()[-1]) as metal:
            assert not hasattr(metal, "fileno")

    @needs_epoll
    def test_it_nests(self):
        a, b = socket_pair()
        with MetalSelector() as inner, MetalSelector() as outer:
            inner.register(a, READ)
            outer.register(inner, READ, "inner")
            assert outer.select(0) == []
            b.send(b"x")
            assert seen(outer.select(PATIENCE)) == {"inner": READ}
        with pytest.raises(ValueError, match="closed"):
            inner.fileno()

    def test_closed(self, metal):
        a, b = socket_pair()
        metal.register(a, READ)
        keys = metal.get_map()
        metal.close()
        metal.close()
        assert metal.get_map() is None
        assert (len(keys), list(keys), a in keys, keys.get(a)) == (0, [], False, None)
        with pytest.raises(RuntimeError, match="closed"):
            metal.get_key(a)
        for method in (metal.unregister, keys.__getitem__):
            with pytest.raises(KeyError):
                method(a)
        with pytest.raises(KeyError):
            metal.modify(a, WRITE)
        with pytest.raises(ValueError, match="closed"):
            metal.register(b, READ)
        with pytest.raises(ValueError, match="closed"):
            metal.select(0)

    def test_unclosed(self):
        before = count_fds()
        with pytest.warns(ResourceWarning, match="unclosed <MetalSelector on"):
            MetalSelector()
            gc.collect()
        assert count_fds() == before

    def test_a_subclass_with_arguments_of_its_own(self, selector):
        class Mine(MetalSelector):
            def __init__(self, color, *, size):
                super().__init__(selector)
                self.color, self.size = color, size

        with Mine("red", size=3) as metal:
            a, b = socket_pair()
            metal.register(a, READ)
            b.send(b"x")
            assert (metal.color, metal.size, len(metal.select(PATIENCE))) == ("red", 3, 1)

    def test_without_init(self):
        for unfinished in (MetalSelector.__new__(MetalSelector), SelectorBase.__new__(SelectorBase)):
            assert "without a selector" in repr(unfinished)
            assert unfinished.closed
            unfinished.close()
            for use in (lambda s: s.register(0, READ), lambda s: s.select(0)):
                with pytest.raises(ValueError, match="closed"):
                    use(unfinished)
            for use in (lambda s: s.unregister(0), lambda s: s.modify(0, READ)):
                with pytest.raises(KeyError):
                    use(unfinished)
            with pytest.raises(RuntimeError):
                unfinished.get_key(0)
            keys = KeyMap(unfinished)
            assert (len(keys), list(keys), keys.get(0)) == (0, [], None)

    def test_init_again(self, selector):
        before = count_fds()
        with MetalSelector(selector) as metal:
            a, _ = socket_pair()
            metal.register(a, READ)
            metal.__init__(selector)
            assert not metal.get_map()
            with pytest.raises(ValueError, match="no selector"):
                metal.__init__("nonesuch")
            metal.register(a, READ)
            a.close()
        del a, _
        gc.collect()
        assert count_fds() <= before + 1

    def test_no_map_of_nothing(self):
        for wrong in (None, 1, object()):
            with pytest.raises(TypeError):
                KeyMap(wrong)


class TestMap:
    def test_is_live(self, metal):
        keys = metal.get_map()
        assert keys is metal.get_map()
        a, b = socket_pair()
        assert (len(keys), list(keys), dict(keys)) == (0, [], {})
        one = metal.register(a, READ)
        two = metal.register(b.fileno(), WRITE)
        assert sorted(keys) == sorted([a.fileno(), b.fileno()])
        assert keys[a] is keys[a.fileno()] is keys.get(a) is one
        assert keys[b] is two
        assert a in keys
        assert 999_999 not in keys
        assert sorted(keys.values(), key=lambda key: key.fd) == sorted([one, two], key=lambda key: key.fd)
        assert dict(keys.items()) == {a.fileno(): one, b.fileno(): two} == keys
        three = metal.modify(a, READ, "data")
        assert keys[a] is three
        metal.unregister(b)
        assert (len(keys), list(keys)) == (1, [a.fileno()])
        assert keys.get(b, "none") == "none"

    def test_is_read_only(self, metal):
        keys = metal.get_map()
        with pytest.raises(TypeError):
            keys[0] = 1
        with pytest.raises(TypeError):
            del keys[0]
        assert not hasattr(keys, "__dict__")

    def test_may_change_while_it_is_iterated(self, metal):
        socks = [sock for _ in range(10) for sock in socket_pair()]
        for sock in socks:
            metal.register(sock, READ)
        for number in metal.get_map():
            metal.unregister(number)
        assert not metal.get_map()


class TestSelect:
    def test_timeouts(self, metal):
        a, b = socket_pair()
        metal.register(a, READ, "a")
        for timeout in (0, -1, 0.0, -0.5, float("-inf"), False):
            begin = time.perf_counter()
            assert metal.select(timeout) == []
            assert time.perf_counter() - begin < 1
        for timeout in (0.0001, 0.0015, 0.02):
            begin = time.perf_counter()
            assert metal.select(timeout) == []
            assert time.perf_counter() - begin >= timeout
        b.send(b"x")
        for timeout in (None, 1e300, float("inf"), 10):
            assert seen(metal.select(timeout)) == {"a": READ}
        with pytest.raises(ValueError, match="nan"):
            metal.select(float("nan"))
        with pytest.raises(TypeError):
            metal.select("soon")

    def test_is_level_triggered(self, metal):
        a, b = socket_pair()
        metal.register(a, READ, "a")
        b.send(b"xy")
        for _ in range(3):
            assert seen(metal.select(PATIENCE)) == {"a": READ}
        a.recv(1)
        assert seen(metal.select(PATIENCE)) == {"a": READ}
        a.recv(1)
        assert metal.select(MOMENT) == []

    def test_one_of_two_directions(self, metal):
        a, b = socket_pair()
        metal.register(a, BOTH, "a")
        assert seen(metal.select(PATIENCE)) == {"a": WRITE}
        b.send(b"x")
        assert seen(metal.select(PATIENCE)) == {"a": BOTH}
        fill(a)
        assert seen(metal.select(PATIENCE)) == {"a": READ}

    def test_the_end_is_readable_and_not_writable(self, metal):
        a, b = socket_pair()
        fill(a)
        metal.register(a, BOTH, "a")
        b.shutdown(socket.SHUT_WR)
        assert seen(metal.select(PATIENCE)) == {"a": READ}

    def test_a_hang_up_is_whatever_was_asked(self, metal):
        for events in (READ, WRITE, BOTH):
            a, b = socket_pair()
            metal.register(a, events, "a")
            b.close()
            assert seen(metal.select(PATIENCE)) == {"a": events}
            metal.unregister(a)

    @not_on_windows("on Windows pipes cannot be polled")
    def test_a_pipe_without_a_writer_is_readable(self, metal):
        reader, writer = os.pipe()
        metal.register(reader, READ, "pipe")
        os.close(writer)
        assert seen(metal.select(PATIENCE)) == {"pipe": READ}
        os.close(reader)

    def test_an_error_is_writable(self, metal):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            nobody = listener.getsockname()
        a = mine(socket.socket())
        a.setblocking(False)
        a.connect_ex(nobody)
        metal.register(a, WRITE, "a")
        assert seen(metal.select(PATIENCE)) == {"a": WRITE}
        assert a.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def test_what_is_returned_is_the_callers(self, metal):
        a, b = socket_pair()
        metal.register(a, READ, "a")
        b.send(b"x")
        first = metal.select(PATIENCE)
        first.append("something")
        assert first is not metal.select(PATIENCE)
        assert len(metal.select(PATIENCE)) == 1
        assert type(first) is list
        assert type(first[0]) is tuple
        # An old answer is not changed by what is registered later.
        metal.modify(a, BOTH, "b")
        assert first[0][0].data == "a"

    def test_nothing_is_registered(self, metal):
        assert metal.select(0) == []
        assert metal.select(MOMENT) == []

    def test_data_may_be_anything(self, metal):
        class Awkward:
            def __eq__(self, other):
                raise ZeroDivisionError

            __hash__ = None

            def __bool__(self):
                raise ZeroDivisionError

        a, b = socket_pair()
        b.send(b"x")
        one, two = Awkward(), Awkward()
        metal.register(a, READ, one)
        ((key, _),) = metal.select(PATIENCE)
        assert key.data is one
        metal.modify(a, READ, two)
        ((key, _),) = metal.select(PATIENCE)
        assert key.data is two

    def test_equal_data_is_replaced(self, metal):
        a, _ = socket_pair()
        one, two = [1], [1]
        metal.register(a, READ, one)
        assert metal.modify(a, READ, two).data is two
        assert metal.get_key(a).data is two

    @pytest.mark.parametrize("count", [1_200, 5_000])
    def test_all_that_is_ready(self, metal, count):
        """More than select(2) can, and more than one batch of `Events`."""
        with descriptors(2 * count + 100):
            socks = {}
            for index in range(count):
                a, b = socket_pair()
                socks[index] = a
                metal.register(a, READ, index)
                b.send(b"x")
            assert max(sock.fileno() for sock in socks.values()) > 1024
            assert len(metal.get_map()) == count
            assert seen(metal.select(PATIENCE)) == dict.fromkeys(range(count), READ)
            for index in range(0, count, 2):
                socks[index].recv(1)
            assert seen(metal.select(PATIENCE)) == dict.fromkeys(range(1, count, 2), READ)
            for index in range(1, count, 2):
                metal.unregister(socks[index])
            assert metal.select(0) == []
            # Closed here, while the limit is still high.
            while socks:
                socks.popitem()[1].close()


@contextmanager
def descriptors(count):
    """While this lasts, the process may have so many."""
    if WINDOWS:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"the limit of descriptors is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def fill(sock):
    try:
        while True:
            sock.send(bytes(65536))
    except BlockingIOError:
        pass


class TestKernel:
    """What is asked of the kernel."""

    def calls(self, code, tmp_path):
        setup = (
            "import socket\n"
            "from metalio.selectors import MetalSelector\n"
            "a, b = socket.socketpair()\n"
            "metal = MetalSelector()\n"
            "metal.register(a, 1)\n"
        )
        return system_calls(setup, code, tmp_path)

    @not_on_windows("Windows has no strace")
    def test_a_modify_of_data_alone(self, tmp_path):
        code = "for data in range(1000): metal.modify(a, 1, data)"
        assert self.calls(code, tmp_path) == []

    @needs_epoll
    def test_what_is_made_up_for_by_select(self, tmp_path):
        """However often data was replaced, the kernel is asked once."""
        code = "for data in range(1000): metal.modify(a, 1, data)\nmetal.select(0)\nmetal.select(0)"
        assert self.calls(code, tmp_path) == ["epoll_ctl", "epoll_wait", "epoll_wait"]

    @needs_epoll
    def test_a_modify_of_events(self, tmp_path):
        assert self.calls("metal.modify(a, 3)\nmetal.modify(a, 2)", tmp_path) == ["epoll_ctl", "epoll_ctl"]

    @needs_epoll
    def test_one_wait_for_one_select(self, tmp_path):
        code = "b.send(b'x')\nfor _ in range(5): metal.select()"
        assert [call for call in self.calls(code, tmp_path) if call.startswith("epoll")] == ["epoll_wait"] * 5

    @needs_epoll
    def test_one_wait_also_where_nothing_is_ready_after_something_was(self, tmp_path):
        code = "b.send(b'x')\nmetal.select()\na.recv(1)\nmetal.select(0.01)"
        assert [call for call in self.calls(code, tmp_path) if call.startswith("epoll")] == ["epoll_wait"] * 2


class TestStaleDescriptors:
    """Closed without a word, and the number used again: what the stock one does, and what this one does."""

    def old_and_new(self, new_selector, reuse, use):
        """Register a socket, have its number taken by another that is readable, and `use(selector, number)`."""
        a, _ = socket_pair()
        c, d = socket_pair()
        with new_selector() as one:
            one.register(a.fileno(), READ, "old")
            number = reuse(a, c)
            d.send(b"x")
            use(one, number)
            return seen(one.select(MOMENT))

    def modify_data(one, number):
        one.modify(number, READ, "new")

    def modify_events(one, number):
        one.modify(number, BOTH, "new")

    def register(one, number):
        one.register(number, READ, "new")

    def unregister(one, number):
        one.unregister(number)
        one.register(number, READ, "new")

    @needs_epoll
    @pytest.mark.parametrize(
        ("use", "outcome"),
        [
            # Deaf for ever: the kernel was never told of the new file.
            (modify_data, {}),
            (modify_events, FileNotFoundError),
            (register, KeyError),
            (unregister, {"new": READ}),
        ],
    )
    def test_the_stock_one(self, reuse, use, outcome):
        if isinstance(outcome, dict):
            assert self.old_and_new(selectors.EpollSelector, reuse, use) == outcome
        else:
            with pytest.raises(outcome):
                self.old_and_new(selectors.EpollSelector, reuse, use)

    @pytest.mark.parametrize(
        ("use", "outcome"),
        [
            (modify_data, {"new": READ}),
            (modify_events, {"new": BOTH}),
            (register, {"new": READ}),
            (unregister, {"new": READ}),
        ],
    )
    def test_this_one(self, selector, reuse, use, outcome):
        assert self.old_and_new(lambda: MetalSelector(selector), reuse, use) == outcome

    def kept_by_a_duplicate(self, new_selector, reuse):
        """The same, with the old file kept open by a duplicate, and readable; the new one is not."""
        a, b = socket_pair()
        c, d = socket_pair()
        mine(a.dup())
        b.send(b"x")
        with new_selector() as one:
            one.register(a.fileno(), READ, "old")
            number = reuse(a, c)
            one.modify(number, READ, "new")
            first = seen(one.select(MOMENT))
            d.send(b"y")
            b.send(b"x")
            return first, seen(one.select(MOMENT))

    @needs_epoll
    def test_kept_by_a_duplicate_the_stock_one_takes_the_old_for_the_new(self, reuse):
        first, _ = self.kept_by_a_duplicate(selectors.EpollSelector, reuse)
        assert first == {"new": READ}

    def test_kept_by_a_duplicate(self, selector, reuse):
        first, second = self.kept_by_a_duplicate(lambda: MetalSelector(selector), reuse)
        assert (first, second) == ({}, {"new": READ})

    def closed_while_a_duplicate_lives(self, new_selector):
        """Unregistered too late: how long a select() of 0.2 s that has nothing to report takes."""
        a, b = socket_pair()
        mine(a.dup())
        b.send(b"x")
        with new_selector() as one:
            one.register(a, READ)
            a.close()
            one.unregister(a)
            begin = time.perf_counter()
            assert one.select(0.2) == []
            return time.perf_counter() - begin

    @needs_epoll
    def test_closed_while_a_duplicate_lives_the_stock_one_spins(self):
        assert self.closed_while_a_duplicate_lives(selectors.EpollSelector) < 0.1

    def test_closed_while_a_duplicate_lives(self, selector):
        assert self.closed_while_a_duplicate_lives(lambda: MetalSelector(selector)) >= 0.2

    def test_another_object_for_a_number(self, metal, reuse):
        a, _ = socket_pair()
        c, d = socket_pair()
        metal.register(a, READ, "old")
        with socket.socket(fileno=reuse(a, c)) as new:
            d.send(b"x")
            key = metal.modify(new, READ, "new")
            assert key.fileobj is new
            assert metal.get_key(new).fileobj is new
            assert seen(metal.select(PATIENCE)) == {"new": READ}
            metal.unregister(new)
            new.detach()

    def test_another_object_for_the_same_file(self, metal):
        a, b = socket_pair()
        metal.register(a.fileno(), READ, 1)
        assert metal.modify(a, READ, 2) == (a.fileno(), a.fileno(), READ, 2)
        b.send(b"x")
        assert seen(metal.select(PATIENCE)) == {2: READ}

    def test_closed_and_not_reused(self, metal):
        a, _ = socket_pair()
        metal.register(a.fileno(), READ, "old")
        number = a.detach()
        close_number(number)
        metal.modify(number, READ, "new")
        assert metal.select(MOMENT) == []
        assert metal.get_key(number).data == "new"
        with pytest.raises(OSError, match=NOT_OPEN):
            metal.register(number, READ)
        with pytest.raises(OSError, match=NOT_OPEN):
            metal.modify(number, WRITE)
        # As with the stock one, what could not be modified is registered no longer.
        assert number not in metal.get_map()

    @not_on_windows("on Windows a file has no number that a socket has had")
    def test_reused_by_what_cannot_be_watched(self, metal, tmp_path):
        a, _b = socket_pair()
        c, d = socket_pair()
        number = a.detach()
        metal.register(number, READ, "old")
        with open(tmp_path / "file", "wb") as file:
            os.dup2(file.fileno(), number)
        metal.modify(number, READ, "new")
        assert metal.select(MOMENT) == []
        with pytest.raises(PermissionError):
            metal.modify(number, BOTH, "newer")
        assert number not in metal.get_map()
        metal.register(c, READ, "c")
        os.dup2(c.fileno(), number)
        d.send(b"x")
        metal.register(number, READ, "number")
        assert seen(metal.select(PATIENCE)) == {"c": READ, "number": READ}
        metal.unregister(number)
        os.close(number)

    def test_unregistered_before_it_is_looked_after(self, metal, reuse):
        a, _ = socket_pair()
        c, d = socket_pair()
        metal.register(a.fileno(), READ, "old")
        number = reuse(a, c)
        d.send(b"x")
        metal.modify(number, READ, "new")
        metal.unregister(number)
        assert metal.select(MOMENT) == []
        assert not metal.get_map()

    def test_many_doubts(self, metal, reuse):
        numbers = []
        for index in range(100):
            a, _ = socket_pair()
            c, d = socket_pair()
            metal.register(a.fileno(), READ, None)
            numbers.append(reuse(a, c))
            d.send(b"x")
            for _ in range(3):
                metal.modify(numbers[-1], READ, index)
        assert seen(metal.select(PATIENCE)) == dict.fromkeys(range(100), READ)
        for number in numbers:
            metal.unregister(number)

    def test_while_another_thread_is_in_select(self, metal, reuse):
        a, _ = socket_pair()
        c, d = socket_pair()
        metal.register(a.fileno(), READ, "old")
        number = reuse(a, c)
        waiting = Worker(metal.select, PATIENCE)
        sleeping(waiting)
        metal.modify(number, READ, "new")
        d.send(b"x")
        assert seen(waiting.finish()) == {"new": READ}
        metal.unregister(number)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["register", "modify"]), st.integers(0, 5), st.sampled_from([READ, WRITE, BOTH])),
        st.tuples(st.sampled_from(["modify data"]), st.integers(0, 5), st.just(0)),
        st.tuples(
            st.sampled_from(["unregister", "send", "receive", "fill", "shut", "close", "peer close"]),
            st.integers(0, 5),
            st.just(0),
        ),
    ),
    max_size=30,
)


@needs_epoll
@pytest.mark.parametrize("name", selector_names())
@settings(max_examples=150, deadline=None)
@given(operations=OPERATIONS)
def test_like_the_stock_one(name, operations):
    """Whatever is done, the answers are those of `selectors.EpollSelector`."""
    pairs = [socket.socketpair() for _ in range(3)]
    socks = [sock for pair in pairs for sock in pair]
    for sock in socks:
        sock.setblocking(False)
    with selectors.EpollSelector() as stock, MetalSelector(name) as metal:
        try:
            for step, (operation, index, events) in enumerate(operations):
                sock, peer = socks[index], socks[index ^ 1]
                if operation in ("register", "modify", "unregister", "modify data"):
                    outcomes = []
                    for one in (stock, metal):
                        try:
                            if operation == "unregister":
                                outcomes.append(one.unregister(sock))
                            elif operation == "modify data":
                                outcomes.append(one.modify(sock, one.get_key(sock).events, step))
                            else:
                                outcomes.append(getattr(one, operation)(sock, events, step))
                        except (KeyError, ValueError, OSError) as error:
                            outcomes.append(type(error))
                    assert outcomes[0] == outcomes[1]
                elif sock.fileno() >= 0:
                    act(operation, sock, peer)
                assert dict(metal.get_map()) == dict(stock.get_map())
                assert len(metal.get_map()) == len(stock.get_map())
                assert sorted(metal.select(0), key=number) == sorted(stock.select(0), key=number)
        finally:
            for sock in socks:
                sock.close()


def number(answer):
    return answer[0].fd


def act(operation, sock, peer):
    try:
        match operation:
            case "send":
                sock.send(b"x" * 10)
            case "receive":
                sock.recv(1 << 20)
            case "fill":
                fill(sock)
            case "shut":
                sock.shutdown(socket.SHUT_WR)
            case "close":
                sock.close()
            case "peer close":
                peer.close()
    except OSError:
        pass


class TestThreads:
    def test_registered_while_another_waits(self, metal):
        a, b = socket_pair()
        b.send(b"x")
        waiting = Worker(metal.select, PATIENCE)
        sleeping(waiting)
        metal.register(a, READ, "a")
        assert seen(waiting.finish()) == {"a": READ}

    def test_modified_while_another_waits(self, metal):
        a, _ = socket_pair()
        metal.register(a, READ, "old")
        waiting = Worker(metal.select, PATIENCE)
        sleeping(waiting)
        metal.modify(a, WRITE, "new")
        assert seen(waiting.finish()) == {"new": WRITE}

    def test_two_wait(self, metal):
        a, b = socket_pair()
        metal.register(a, READ, "a")
        waiting = [Worker(metal.select, PATIENCE) for _ in range(2)]
        for worker in waiting:
            sleeping(worker)
        b.send(b"x")
        # Level-triggered: both of them hear of it.
        assert [seen(worker.finish()) for worker in waiting] == [{"a": READ}] * 2

    def test_closed_while_another_waits(self, metal):
        a, _ = socket_pair()
        metal.register(a, READ)
        waiting = Worker(metal.select, PATIENCE)
        sleeping(waiting)
        metal.close()
        with pytest.raises(ValueError, match="closed"):
            waiting.finish()

    def test_everything_at_once(self, metal):
        pairs = [socket_pair() for _ in range(8)]
        stop = []

        def churn(number):
            own = pairs[number::2]
            while not stop:
                for a, _ in own:
                    metal.register(a, READ, a)
                    metal.modify(a, READ, None)
                    metal.modify(a, BOTH, a)
                    metal.unregister(a)

        def look():
            while not stop:
                for key, events in metal.select(0):
                    assert events == WRITE
                    assert key.fileobj.fileno() == key.fd
                assert len(metal.get_map()) <= len(pairs)

        def values():
            while not stop:
                for number in metal.get_map():
                    metal.get_map().get(number)

        workers = [Worker(churn, number) for number in range(2)] + [Worker(look), Worker(look), Worker(values)]
        threading.Event().wait(0.3)
        stop.append(True)
        for worker in workers:
            worker.finish()
        assert not metal.get_map()


class TestSignals:
    @pytest.fixture
    def alarm(self):
        before = signal.getsignal(ALARM)
        yield lambda handler: signal.signal(ALARM, handler)
        set_alarm(0)
        signal.signal(ALARM, before)

    def test_a_handler_runs_and_waiting_goes_on(self, metal, alarm):
        ran = []
        alarm(lambda *_: ran.append(time.monotonic()))
        begin = time.perf_counter()
        set_alarm(0.02)
        assert metal.select(0.1) == []
        assert time.perf_counter() - begin >= 0.1
        assert len(ran) == 1

    def test_what_a_handler_raises(self, metal, alarm):
        def handler(*_):
            raise ZeroDivisionError

        alarm(handler)
        set_alarm(0.02)
        with pytest.raises(ZeroDivisionError):
            metal.select(PATIENCE)
        a, b = socket_pair()
        metal.register(a, READ, "a")
        b.send(b"x")
        assert seen(metal.select(PATIENCE)) == {"a": READ}

    def test_a_handler_that_selects(self, metal, alarm):
        a, b = socket_pair()
        metal.register(a, READ, "a")
        within = []

        def handler(*_):
            b.send(b"x")
            within.append(seen(metal.select(PATIENCE)))
            metal.modify(a, READ, "new")

        alarm(handler)
        set_alarm(0.02)
        assert seen(metal.select(PATIENCE)) == {"new": READ}
        assert within == [{"a": READ}]


class TestLifetime:
    class Data:
        pass

    def test_data_is_released_at_once(self, metal):
        a, b = socket_pair()
        b.send(b"x")

        def released(release):
            data = self.Data()
            gone = weakref.ref(data)
            metal.register(a, READ, data)
            assert metal.select(PATIENCE)[0][0].data is data
            del data
            assert gone() is not None
            release()
            return gone() is None

        assert released(lambda: metal.unregister(a))
        assert released(lambda: metal.modify(a, READ, None))
        metal.unregister(a)
        assert released(lambda: metal.modify(a, WRITE, None))
        metal.unregister(a)
        assert released(metal.close)

    def test_references(self, metal):
        a, b = socket_pair()
        data = self.Data()
        before = sys.getrefcount(data), sys.getrefcount(a), sys.getrefcount(selectors.SelectorKey)
        b.send(b"x")
        for _ in range(100):
            metal.register(a, READ, data)
            metal.modify(a, READ, data)
            metal.modify(a, BOTH, data)
            metal.select(0)
            metal.get_key(a)
            metal.unregister(a)
        assert (sys.getrefcount(data), sys.getrefcount(a), sys.getrefcount(selectors.SelectorKey)) == before

    def test_cycles(self, selector):
        a, _ = socket_pair()
        metal = MetalSelector(selector)
        data = self.Data()
        data.metal = metal
        gone = weakref.ref(data)
        metal.register(a, READ, data)
        with pytest.warns(ResourceWarning, match="unclosed"):
            del data, metal
            gc.collect()
        assert gone() is None

    def test_a_finaliser_that_uses_the_selector(self, metal):
        a, _b = socket_pair()
        c, _ = socket_pair()

        class Final:
            def __del__(self):
                metal.register(c, READ, "by a finaliser")
                metal.select(0)
                metal.unregister(c)
                done.append(True)

        for release in (
            lambda: metal.modify(a, READ, None),
            lambda: metal.modify(a, BOTH, None),
            lambda: metal.unregister(a),
        ):
            done = []
            if a in metal.get_map():
                metal.unregister(a)
            metal.register(a, READ, Final())
            release()
            assert done
        assert c not in metal.get_map()

    # asyncio's own half of a loop complains when it is deleted.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_out_of_descriptors(self, selector):
        with no_free_descriptors(), pytest.raises(OSError, match="Too many open files"):
            MetalSelector(selector)
        before = count_fds()
        for spare in range(2 if selector == "poll" else 3):
            with no_free_descriptors(spare), pytest.raises(OSError, match="Too many open files"):
                new_event_loop(selector)
            gc.collect()
            assert count_fds() == before


class TestFork:
    def test_parent_and_child_have_a_set_each(self, metal):
        a, b = socket_pair()
        c, d = socket_pair()
        key = metal.register(a, READ, "a")
        metal.register(c, READ, "c")
        keys = metal.get_map()

        def child():
            assert metal.get_key(a) is key
            assert keys is metal.get_map()
            b.send(b"x")
            assert seen(metal.select(PATIENCE)) == {"a": READ}
            metal.unregister(a)
            metal.modify(c, BOTH, "new")
            assert seen(metal.select(PATIENCE)) == {"new": WRITE}
            assert len(keys) == 1
            metal.close()
            assert metal.get_map() is None

        in_child(child)
        # What the child gave up was its own.
        assert len(keys) == 2
        assert seen(metal.select(PATIENCE)) == {"a": READ}
        d.send(b"x")
        assert seen(metal.select(PATIENCE)) == {"a": READ, "c": READ}

    def test_the_first_thing_that_a_child_does(self, metal):
        a, _ = socket_pair()
        b, _c = socket_pair()
        metal.register(a, READ, "a")
        for first in (
            lambda: metal.unregister(a),
            lambda: metal.modify(a, WRITE),
            lambda: metal.modify(a, READ, 1),
            lambda: metal.register(b, READ),
            lambda: metal.select(0),
            lambda: metal.get_map()[a],
            lambda: len(metal.get_map()),
            lambda: metal.close(),
            lambda: repr(metal),
            lambda: getattr(metal, "fileno", int)(),
        ):
            in_child(first)
        assert len(metal.get_map()) == 1

    def test_a_descriptor_that_the_child_closed(self, metal):
        a, b = socket_pair()
        metal.register(a, READ, "a")

        def child():
            a.close()
            assert metal.select(MOMENT) == []
            assert metal.unregister(a).data == "a"

        in_child(child)
        b.send(b"x")
        assert seen(metal.select(PATIENCE)) == {"a": READ}

    @not_on_windows("there is no fork on Windows")
    def test_a_loop_goes_on_in_the_child(self, selector):
        """A program that goes into the background after it has made its loop."""
        loop = new_event_loop(selector)

        def child():
            async def main():
                server = await asyncio.start_server(echo, "127.0.0.1", 0)
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
                writer.close()
                server.close()

            loop.run_until_complete(asyncio.wait_for(main(), PATIENCE))
            loop.close()

        in_child(child)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


async def echo(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
def loop(selector):
    loop = new_event_loop(selector)
    yield loop
    loop.close()


class TestAsyncio:
    def test_new_event_loop(self, loop):
        assert isinstance(loop, asyncio.SelectorEventLoop)
        assert isinstance(loop._selector, MetalSelector)

    def test_runner(self):
        async def main():
            return asyncio.get_running_loop()

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            assert isinstance(runner.run(main())._selector, MetalSelector)

    def test_a_program(self, loop, tmp_path):
        """Streams, Unix streams, datagrams, a child, a signal, an executor, at once."""

        class Datagrams(asyncio.DatagramProtocol):
            def __init__(self):
                self.received = loop.create_future()

            def datagram_received(self, data, addr):
                self.received.set_result(data)

        async def streams(connect):
            reader, writer = await connect
            blocks = [os.urandom(100_000) for _ in range(5)]
            for block in blocks:
                writer.write(block)
                assert await reader.readexactly(len(block)) == block
            writer.close()
            await writer.wait_closed()

        async def datagram():
            receiver, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
            address = receiver.get_extra_info("sockname")
            sender, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=address)
            sender.sendto(b"hello")
            assert await protocol.received == b"hello"
            sender.close()
            receiver.close()

        async def child():
            code = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(3)"
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdin=pipe, stdout=pipe)
            output, _ = await process.communicate(b"x" * 200_000)
            assert (output, process.returncode) == (b"X" * 200_000, 3)

        async def signals():
            arrived = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, arrived.set)
            os.kill(os.getpid(), signal.SIGUSR1)
            await arrived.wait()
            loop.remove_signal_handler(signal.SIGUSR1)

        async def executor():
            assert await loop.run_in_executor(None, sum, range(1000)) == 499_500

        async def main():
            servers = [await asyncio.start_server(echo, "127.0.0.1", 0)]
            host, port = servers[0].sockets[0].getsockname()
            tasks = [streams(asyncio.open_connection(host, port)) for _ in range(5)]
            tasks += [datagram(), executor()]
            # A loop on selectors has these on Unix only.
            if not WINDOWS:
                servers.append(await asyncio.start_unix_server(echo, tmp_path / "socket"))
                tasks += [streams(asyncio.open_unix_connection(tmp_path / "socket")), child(), signals()]
            await asyncio.gather(*tasks)
            for server in servers:
                server.close()
            await asyncio.sleep(0)
            await loop.shutdown_default_executor()

        loop.run_until_complete(asyncio.wait_for(main(), PATIENCE))

    def test_another_thread_wakes_it(self, loop):
        async def main():
            woken = asyncio.Event()
            worker = Worker(lambda: loop.call_soon_threadsafe(woken.set))
            await asyncio.wait_for(woken.wait(), PATIENCE)
            worker.finish()

        loop.run_until_complete(main())

    def test_timers_are_never_early(self, loop):
        async def main():
            for delay in (0.0003, 0.001, 0.0027, 0.02):
                begin = loop.time()
                await asyncio.sleep(delay)
                assert loop.time() - begin >= delay - time.get_clock_info("monotonic").resolution

        loop.run_until_complete(main())

    def receive_on_a_number_used_again(self, loop, reuse):
        """A socket is closed while it is awaited, and another gets its number: what that one receives."""
        a, _ = socket_pair()
        c, d = socket_pair()

        async def main():
            awaited = asyncio.ensure_future(loop.sock_recv(a, 10))
            await asyncio.sleep(0)
            with socket.socket(fileno=reuse(a, c)) as new:
                new.setblocking(False)
                loop.call_later(MOMENT, d.send, b"hello")
                try:
                    return await asyncio.wait_for(loop.sock_recv(new, 10), 10 * MOMENT)
                except TimeoutError:
                    return None
                finally:
                    awaited.cancel()
                    loop.remove_reader(new.detach())

        return loop.run_until_complete(main())

    @needs_epoll
    def test_a_number_used_again_hangs_the_stock_one(self, reuse):
        loop = asyncio.SelectorEventLoop(selectors.EpollSelector())
        assert self.receive_on_a_number_used_again(loop, reuse) is None
        loop.close()

    def test_a_number_used_again(self, loop, reuse):
        assert self.receive_on_a_number_used_again(loop, reuse) == b"hello"

    def turns_in_vain(self, loop):
        """How often the loop turns in a moment in which nothing happens, after a socket was closed too early."""
        a, b = socket_pair()
        mine(a.dup())
        b.send(b"x")
        turns = 0
        select = loop._selector.select

        def counted(timeout=None):
            nonlocal turns
            turns += 1
            return select(timeout)

        async def main():
            number = a.fileno()
            loop.add_reader(number, int)
            a.close()
            loop.remove_reader(number)
            loop._selector.select = counted
            await asyncio.sleep(5 * MOMENT)

        loop.run_until_complete(main())
        return turns

    @needs_epoll
    def test_closed_too_early_keeps_the_stock_one_busy(self):
        loop = asyncio.SelectorEventLoop(selectors.EpollSelector())
        assert self.turns_in_vain(loop) > 50
        loop.close()

    def test_closed_too_early(self, loop):
        assert self.turns_in_vain(loop) < 10
