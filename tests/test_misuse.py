"""What nobody should do.  It raises, and whatever else happens, nothing crashes.

Each check runs in a child, so that a crash is a failure of one test.  What is particular to a type is in its own file.
"""

import copy
import gc
import itertools
import pickle
import random
import socket

import pytest
from util import (
    BOTH,
    READABLE,
    WINDOWS,
    WRITABLE,
    apart,
    open_descriptors,
    run_python,
    socket_pair,
    tcp_listener,
    tcp_pair,
)

import metalio
import metalio.net
from metalio import Event, Events, Interest, Poll, PollOpt, Registry, Token, Waker
from metalio.net import TcpListener, TcpStream

LEVEL = PollOpt.LEVEL


def everything():
    """One of each public object."""
    poll = Poll()
    events = Events()
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", BOTH)
    poll.poll(events, 5)
    return [
        poll,
        poll.registry,
        events,
        events[0],
        iter(events),
        Waker(poll.registry, "w"),
        Interest.READABLE,
        PollOpt.EDGE,
        Token(1),
        stream,
        peer,
        tcp_listener(),
    ]


def empty():
    """One of each public type, made without its constructor, where that is possible."""
    types = [Registry, Events, Event, type(iter(Events())), Poll, Waker, Interest, PollOpt, TcpStream, TcpListener]
    made = []
    for kind in types:
        try:
            made.append(kind.__new__(kind))
        except TypeError:
            pass
    return made


ODD = [None, 0, -1, 1 << 80, 1.5, "text", b"bytes", (), [], {}, object(), Interest.READABLE, LEVEL, Ellipsis, print]


def abuse(thing, rng, others=()):
    """Call whatever it has with whatever there is."""
    names = [name for name in dir(thing) if name not in _LEFT_OUT]
    rng.shuffle(names)
    names.sort(key=_ENDING.__contains__)
    arguments = [*ODD, *others, thing, bytearray(8), memoryview(bytearray(8))]
    calls = 0
    for name in names:
        try:
            attribute = getattr(thing, name)
        except Exception:
            continue
        for value in rng.sample(arguments, 4):
            try:
                setattr(thing, name, value)
            except Exception:
                pass
        try:
            delattr(thing, name)
        except Exception:
            pass
        if not callable(attribute):
            continue
        for count in (0, 1, 1, 2, 2, 3, 4):
            for _ in range(10):
                picked = [rng.choice(arguments) for _ in range(count)]
                if name.startswith("poll") and (count < 2 or not isinstance(picked[1], str | bytes | tuple)):
                    # It would wait; those that do not are tested elsewhere.
                    continue
                try:
                    attribute(*picked)
                except Exception:
                    continue
                calls += 1
    return calls


# The interpreter's own.
_LEFT_OUT = {"__class__", "__init_subclass__", "__subclasshook__", "__getattribute__", "__reduce__", "__reduce_ex__"}
# After these there is not much left to be done.
_ENDING = {"close", "into_socket", "__exit__", "__del__"}


@pytest.mark.parametrize("index", range(4 if WINDOWS else 12))
def test_any_method_with_any_arguments(index):
    def check():
        for seed in range(5):
            things = everything()
            others = [thing for thing in things if not isinstance(thing, Token)]
            assert abuse(things[index], random.Random(seed), others) > 10
        gc.collect()

    apart(check)


def test_any_method_of_what_was_made_without_a_constructor():
    def check():
        for seed in range(3):
            for thing in empty():
                repr(thing)
                abuse(thing, random.Random(seed))
        gc.collect()

    apart(check)


def test_empty_ones_together_with_whole_ones():
    def check():
        sources = [socket_pair()[0], tcp_pair()[0], tcp_listener()]
        made = {type(thing): thing for thing in empty()}
        registry = made.get(Registry)
        if registry is not None:
            for source in sources:
                for call in (
                    lambda source=source: registry.register(source, "t", READABLE, LEVEL),
                    lambda source=source: registry.reregister(source, "t", READABLE, LEVEL),
                    lambda source=source: registry.deregister(source),
                ):
                    with pytest.raises((TypeError, ValueError, AttributeError, RuntimeError, FileNotFoundError)):
                        call()
            with pytest.raises((TypeError, ValueError, AttributeError, RuntimeError)):
                Waker(registry, "w")
        for kind in (Interest, PollOpt):
            if kind in made:
                with Poll() as poll:
                    for source in sources:
                        arguments = (made[kind],) if kind is Interest else (READABLE, made[kind])
                        try:
                            poll.registry.register(source, "t", *arguments)
                        except (TypeError, ValueError, OSError):
                            continue
                        poll.poll(Events(), 0)

    apart(check)


def test_methods_of_one_type_on_another():
    def check():
        things = everything()
        for thing, other in itertools.product(things, things):
            for name in dir(type(thing)):
                method = getattr(type(thing), name)
                if name in _LEFT_OUT or not callable(method) or isinstance(method, type):
                    continue
                if name in ("poll", "poll_interruptible"):
                    continue
                try:
                    method(other)
                except Exception:
                    pass

    apart(check)


def test_initialising_again():
    """A second __init__ changes nothing, and leaks nothing."""

    def check():
        for thing in everything():
            before = open_descriptors()
            for arguments in ((), (5,), ("x", "y")):
                try:
                    thing.__init__(*arguments)
                except TypeError:
                    pass
            assert open_descriptors() == before
        poll = Poll()
        left, _ = socket_pair()
        poll.registry.register(left, "t", WRITABLE, LEVEL)
        poll.__init__()
        assert poll.poll(Events(), 0) == 1

    apart(check)


def test_copies_of_what_owns_something():
    def check():
        for thing in everything():
            for how in (copy.copy, copy.deepcopy, pickle.dumps):
                if isinstance(thing, Interest | PollOpt | Token | Event):
                    continue
                with pytest.raises(TypeError):
                    how(thing)

    apart(check)


def test_pickles_that_were_tampered_with():
    def check():
        for kind in (Registry, Events, Poll, Waker, TcpStream, TcpListener, type(iter(Events()))):
            name = f"{kind.__module__}\n{kind.__qualname__}"
            for text in (
                f"c{name}\n)\x81.",
                f"ccopyreg\n__newobj__\n(c{name}\ntR.",
                f"ccopyreg\n_reconstructor\n(c{name}\nc__builtin__\nobject\nNtR.",
            ):
                try:
                    thing = pickle.loads(text.encode())
                except Exception:
                    continue
                repr(thing)
                for state in ({}, (None,), (None, None), {"selector": None}, 5):
                    for name in ("__setstate__", "__setstate_cython__"):
                        try:
                            getattr(thing, name)(state)
                        except Exception:
                            pass
                abuse(thing, random.Random(0))

    apart(check)


def test_calls_during_construction_by_a_subclass():
    """A stream that is used before it has a descriptor, through a class method that a subclass overrides."""

    def check():
        class Early(TcpStream):
            def __new__(cls):
                self = super().__new__(cls)
                for use in (self.fileno, self.readall, lambda: self.write(b"x"), lambda: self.local_addr):
                    with pytest.raises(ValueError):
                        use()
                self.close()
                return self

        listener = tcp_listener()
        with Early.connect(listener.local_addr) as stream:
            assert not stream.closed

        class Wrong(TcpStream):
            def __new__(cls):
                return 5

        class Other(TcpStream):
            def __new__(cls):
                return TcpListener.__new__(TcpListener)

        class Raises(TcpStream):
            def __new__(cls):
                raise LookupError

        before = open_descriptors()
        for kind in (Wrong, Other, Raises):
            for make in (lambda kind=kind: kind.connect(listener.local_addr),):
                try:
                    make().close()
                except (TypeError, LookupError):
                    pass
            with socket.create_connection(listener.local_addr) as sock:
                try:
                    kind.from_socket(sock).close()
                except (TypeError, LookupError):
                    pass
        gc.collect()
        while connection := listener.accept():
            connection[0].close()
        assert open_descriptors() == before

    apart(check)


def test_changing_the_class_of_an_object():
    def check():
        class Mine(TcpStream):
            pass

        listener = tcp_listener()
        with Mine.connect(listener.local_addr) as stream:
            for kind in (TcpStream, TcpListener, object, type("Other", (TcpListener,), {})):
                try:
                    stream.__class__ = kind
                except TypeError:
                    continue
                raise AssertionError(kind)

    apart(check)


def test_what_is_public():
    for module in (metalio, metalio.net):
        for name in module.__all__:
            thing = getattr(module, name)
            if name != "__version__":
                assert thing.__doc__, name
            if isinstance(thing, type):
                for member, value in vars(thing).items():
                    if not member.startswith("_") and callable(value):
                        assert value.__doc__, f"{name}.{member}"


def test_the_collector_at_any_moment(selector):
    """Garbage that has finalisers is collected in the middle of anything."""

    def check():
        gc.set_threshold(1)
        poll = Poll(selector=selector)
        events = Events(8)

        class Litter:
            def __init__(self):
                self.me = self
                self.stream, self.peer = socket.socketpair()
                poll.registry.register(self.stream, self, BOTH, LEVEL)

            def __del__(self):
                poll.poll(events, 0)
                for event in events:
                    _ = event.token
                poll.registry.deregister(self.stream)
                self.stream.close()
                self.peer.close()

        for _ in range(50):
            litter = Litter()
            poll.poll(Events(4), 0)
            # What is registered lives; what is not is found by the collector.
            poll.registry.reregister(litter.stream, "none", READABLE, LEVEL)
            del litter
            stream = TcpStream.connect(tcp_listener().local_addr)
            stream.close()
        poll.close()

    apart(check)


def test_out_of_memory(selector):
    """Allocations that fail, one after the other."""
    pytest.importorskip("_testcapi")
    run_python(
        f"""
        import _testcapi, socket
        from metalio import Events, Interest, Poll, PollOpt, Waker
        from metalio.net import TcpListener, TcpStream

        listener = TcpListener.bind("127.0.0.1:0")
        client = TcpStream.connect(listener.local_addr)
        other, _ = socket.socketpair()

        def work():
            with Poll(selector={selector!r}) as poll:
                events = Events(4)
                with Waker(poll.registry, "w") as waker:
                    poll.registry.register(client, "t", Interest.READABLE | Interest.WRITABLE)
                    poll.registry.register(other, "u", Interest.WRITABLE, PollOpt.LEVEL)
                    waker.wake()
                    poll.poll(events, 0)
                    kept = list(events)
                    client.write(bytearray(10))
                    client.writev([b"x"] * 20)
                    client.read(100)
                    client.read(100_000)
                    client.readv([bytearray(3)] * 20)
                    client.try_clone().close()
                    poll.registry.reregister(client, "v", Interest.READABLE)
                    poll.registry.deregister(other)
                    poll.registry.deregister(client)

        work()
        failures = 0
        for start in range(150):
            _testcapi.set_nomemory(start, start + 1)
            try:
                work()
            except BaseException:
                # Most often a MemoryError, but the interpreter's own code may make something else of it.
                failures += 1
            finally:
                _testcapi.remove_mem_hooks()
        assert failures, "nothing failed"
        work()
        """,
        "-W",
        "ignore",
    )
