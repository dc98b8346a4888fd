"""Registry: what can be registered, how often, and what the kernel says of it."""

import contextlib
import errno
import io
import os
import select
import socket
import sys
import tempfile

import pytest
from util import (
    BOTH,
    EMULATED,
    MOMENT,
    PATIENCE,
    READABLE,
    WRITABLE,
    Worker,
    apart,
    drain,
    expect_no_events,
    expect_only,
    fill,
    mine,
    open_descriptors,
    same_socket,
    seen,
    sleeping,
    socket_pair,
    tcp_listener,
    tcp_pair,
    wait_readable,
)

from metalio import Events, Interest, Poll, PollOpt, Registry, Source
from metalio.net import TcpStream

EDGE, LEVEL, ONESHOT, EXCLUSIVE = PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT, PollOpt.EXCLUSIVE


class Wrapper:
    """A source that hands everything on to the one it wraps."""

    def __init__(self, inner):
        self.inner = inner

    def register(self, registry, token, interest, opts):
        registry.register(self.inner, token, interest, opts)

    def reregister(self, registry, token, interest, opts):
        registry.reregister(self.inner, token, interest, opts)

    def deregister(self, registry):
        registry.deregister(self.inner)

    def close(self):
        self.inner.close()

    def read(self, size):
        return self.inner.read(size)


class HasFileno:
    """The least that a foreign source has."""

    def __init__(self, inner):
        self.inner = inner

    def fileno(self):
        return self.inner.fileno()

    def close(self):
        self.inner.close()

    def read(self, size):
        try:
            return self.inner.recv(size)
        except BlockingIOError:
            return None


class Subclass(TcpStream):
    """A source of metalio's own with methods of its own."""

    calls = ()

    def register(self, registry, token, interest, opts):
        self.calls += ("register",)
        super().register(registry, token, interest, opts)

    def reregister(self, registry, token, interest, opts):
        self.calls += ("reregister",)
        super().reregister(registry, token, interest, opts)

    def deregister(self, registry):
        self.calls += ("deregister",)
        super().deregister(registry)


def own():
    stream, peer = tcp_pair()
    return stream, peer.write


def plain_subclass():
    stream, send = own()
    return mine(type("Plain", (TcpStream,), {}).from_socket(stream.into_socket())), send


def subclass():
    stream, send = own()
    return mine(Subclass.from_socket(stream.into_socket())), send


def foreign():
    left, right = socket_pair()
    return HasFileno(left), right.send


def wrapped():
    stream, send = own()
    return Wrapper(stream), send


def wrapped_foreign():
    left, right = socket_pair()
    return Wrapper(HasFileno(left)), right.send


MAKERS = [own, plain_subclass, subclass, foreign, wrapped, wrapped_foreign]
OWN = {own, plain_subclass, subclass, wrapped}


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
def make(request):
    return request.param


@pytest.fixture
def source(make):
    """A source of any kind, and how to send to it."""
    return make()


# -- Normal use, with any kind of source ------------------------------------------------------------------------------


def test_register_and_deregister(poll, events, source):
    source, send = source
    poll.registry.register(source, "t", READABLE, LEVEL)
    expect_no_events(poll, events)
    send(b"x")
    for _ in range(3):
        expect_only(poll, events, "t", "readable")
    poll.registry.deregister(source)
    expect_no_events(poll, events)
    poll.registry.register(source, "again", READABLE, LEVEL)
    expect_only(poll, events, "again", "readable")


def test_level_until_it_is_read(poll, events, source):
    source, send = source
    poll.registry.register(source, "t", READABLE, LEVEL)
    send(b"xy")
    expect_only(poll, events, "t", "readable")
    assert source.read(1) == b"x"
    expect_only(poll, events, "t", "readable")


@pytest.mark.parametrize("trigger", [EDGE | ONESHOT, LEVEL | ONESHOT, ONESHOT], ids=repr)
def test_oneshot(poll, events, source, trigger):
    source, send = source
    poll.registry.register(source, "t", BOTH, trigger)
    expect_only(poll, events, "t", "writable")
    # The whole registration is disarmed, the other direction too.
    send(b"x")
    expect_no_events(poll, events)
    poll.registry.reregister(source, "u", READABLE, trigger)
    expect_only(poll, events, "u", "readable")
    send(b"x")
    expect_no_events(poll, events)
    poll.registry.reregister(source, "v", BOTH, trigger)
    expect_only(poll, events, "v", {"readable", "writable"})
    expect_no_events(poll, events)
    poll.registry.deregister(source)


def test_a_oneshot_that_fired_can_be_changed_to_level(poll, events, source):
    source, send = source
    poll.registry.register(source, "t", WRITABLE, ONESHOT)
    expect_only(poll, events, "t", "writable")
    poll.registry.reregister(source, "t", WRITABLE, LEVEL)
    for _ in range(3):
        expect_only(poll, events, "t", "writable")
    poll.registry.reregister(source, "t", READABLE, ONESHOT)
    expect_no_events(poll, events)
    send(b"x")
    expect_only(poll, events, "t", "readable")
    expect_no_events(poll, events)


def test_edge(poll, events, source, make):
    source, send = source
    if make not in OWN and poll.selector_name in EMULATED:
        with pytest.raises(ValueError, match=r"LEVEL.*ONESHOT.*from_socket"):
            poll.registry.register(source, "t", READABLE)
        # Nothing is left of the attempt.
        with pytest.raises(FileNotFoundError):
            poll.registry.deregister(source)
        poll.registry.register(source, "t", READABLE, EDGE | ONESHOT)
        return
    poll.registry.register(source, "t", READABLE)
    expect_no_events(poll, events)
    send(b"x")
    expect_only(poll, events, "t", "readable")
    expect_no_events(poll, events)
    assert source.read(10) == b"x"
    assert source.read(10) is None
    expect_no_events(poll, events)
    send(b"y")
    expect_only(poll, events, "t", "readable")


def test_reregister_reports_what_is_ready_then(poll, events, source, make):
    source, send = source
    opts = EDGE if make in OWN or poll.selector_name not in EMULATED else EDGE | ONESHOT
    poll.registry.register(source, "t", READABLE, opts)
    send(b"x")
    expect_only(poll, events, "t", "readable")
    expect_no_events(poll, events)
    for token in ("u", "v"):
        poll.registry.reregister(source, token, READABLE, opts)
        expect_only(poll, events, token, "readable")
        expect_no_events(poll, events)


def test_registering_twice(poll, events, source):
    source, send = source
    poll.registry.register(source, "t", READABLE, LEVEL)
    for interest in (READABLE, WRITABLE):
        with pytest.raises(FileExistsError, match="reregister") as caught:
            poll.registry.register(source, "other", interest, LEVEL)
        assert caught.value.errno in (errno.EEXIST, None)
    # The first is untouched.
    expect_no_events(poll, events)
    send(b"x")
    expect_only(poll, events, "t", "readable")


def test_what_is_not_registered(poll, source):
    source, _ = source
    for call in (
        lambda: poll.registry.reregister(source, "t", READABLE, LEVEL),
        lambda: poll.registry.deregister(source),
    ):
        with pytest.raises(FileNotFoundError, match="not registered"):
            call()
    poll.registry.register(source, "t", READABLE, LEVEL)
    poll.registry.deregister(source)
    with pytest.raises(FileNotFoundError, match="not registered"):
        poll.registry.deregister(source)


def test_closed_sources(poll, source):
    source, _ = source
    source.close()
    for call in (
        lambda: poll.registry.register(source, "t", READABLE, LEVEL),
        lambda: poll.registry.reregister(source, "t", READABLE, LEVEL),
        lambda: poll.registry.deregister(source),
    ):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_a_closed_poll(poll, source):
    source, _ = source
    registered, _ = socket_pair()
    poll.registry.register(registered, "t", READABLE, LEVEL)
    poll.close()
    for thing in (source, registered):
        for call in (
            lambda thing=thing: poll.registry.register(thing, "t", READABLE, LEVEL),
            lambda thing=thing: poll.registry.reregister(thing, "t", READABLE, LEVEL),
            lambda thing=thing: poll.registry.deregister(thing),
        ):
            with pytest.raises(ValueError, match="Poll is closed"):
                call()


def test_after_the_poll_is_closed_a_source_can_be_registered_with_another(selector, events, source):
    source, send = source
    with Poll(selector=selector) as first:
        first.registry.register(source, "first", READABLE, LEVEL)
    with Poll(selector=selector) as second:
        second.registry.register(source, "second", READABLE, LEVEL)
        send(b"x")
        expect_only(second, events, "second", "readable")


def test_a_poll_that_was_dropped_lets_go_of_its_sources(selector, events):
    stream, _ = tcp_pair()
    poll = Poll(selector=selector)
    poll.registry.register(stream, "first", READABLE)
    with pytest.warns(ResourceWarning, match="unclosed <Poll"):
        del poll
    with Poll(selector=selector) as second:
        second.registry.register(stream, "second", WRITABLE)
        expect_only(second, events, "second", "writable")


def test_own_source_of_another_poll(poll, selector):
    stream, _ = tcp_pair()
    poll.registry.register(stream, "t", READABLE)
    with Poll(selector=selector) as other:
        for call in (
            lambda: other.registry.register(stream, "u", READABLE),
            lambda: other.registry.reregister(stream, "u", READABLE),
            lambda: other.registry.deregister(stream),
        ):
            with pytest.raises(FileExistsError, match="another Poll"):
                call()
    poll.registry.deregister(stream)


def test_a_foreign_source_with_several_polls(poll, events, selector):
    left, right = socket_pair()
    poll.registry.register(left, "t", READABLE, LEVEL)
    with Poll(selector=selector) as other:
        other.registry.register(left, "u", READABLE, LEVEL)
        right.send(b"x")
        expect_only(poll, events, "t", "readable")
        expect_only(other, events, "u", "readable")
        other.registry.deregister(left)
        expect_no_events(other, events)
    expect_only(poll, events, "t", "readable")


# -- Changing a registration ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [own, foreign], ids=lambda kind: kind.__name__)
def test_changing_interest_and_token(poll, events, kind):
    source, send = kind()
    send(b"x")
    poll.registry.register(source, "a", READABLE, LEVEL)
    expect_only(poll, events, "a", "readable")
    poll.registry.reregister(source, "b", WRITABLE, LEVEL)
    expect_only(poll, events, "b", "writable")
    poll.registry.reregister(source, "b", BOTH, LEVEL)
    expect_only(poll, events, "b", {"readable", "writable"})
    poll.registry.reregister(source, "b", Interest.PRIORITY, LEVEL)
    expect_no_events(poll, events)


BAD_CHANGES = [
    (READABLE, EDGE | LEVEL, ValueError),
    (READABLE, EXCLUSIVE | ONESHOT, ValueError),
    (READABLE | Interest.PRIORITY, EXCLUSIVE | LEVEL, ValueError),
    (3, LEVEL, TypeError),
    (None, LEVEL, TypeError),
    (READABLE, None, TypeError),
    (READABLE, 2, TypeError),
    (LEVEL, READABLE, TypeError),
]
# FreeBSD's kqueue can do these, and so can the stand-in for it.
BAD_CHANGES_WITHOUT_KQUEUE = [
    (Interest.AIO, LEVEL, NotImplementedError),
    (READABLE | Interest.LIO, LEVEL, NotImplementedError),
]
BAD_CHANGES_OF_POLL = [
    (READABLE, EXCLUSIVE | LEVEL, NotImplementedError),
    (READABLE, EXCLUSIVE, NotImplementedError),
]


def bad_changes(poll, source):
    yield from BAD_CHANGES
    if poll.selector_name != "kqueue":
        yield from BAD_CHANGES_WITHOUT_KQUEUE
    if poll.selector_name in EMULATED:
        yield from BAD_CHANGES_OF_POLL
        if isinstance(source, (HasFileno, socket.socket)):
            yield READABLE, EDGE, ValueError


@pytest.mark.parametrize("kind", [own, foreign, wrapped], ids=lambda kind: kind.__name__)
def test_a_failed_register_leaves_nothing_behind(poll, events, kind):
    source, send = kind()
    send(b"x")
    for interest, opts, error in bad_changes(poll, source):
        token = object()
        before = sys.getrefcount(token)
        with pytest.raises(error):
            poll.registry.register(source, token, interest, opts)
        assert sys.getrefcount(token) == before
        with pytest.raises(FileNotFoundError):
            poll.registry.deregister(source)
        expect_no_events(poll, events, 0)
    poll.registry.register(source, "t", READABLE, LEVEL)
    expect_only(poll, events, "t", "readable")


@pytest.mark.parametrize("kind", [own, foreign, wrapped], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("opts", [LEVEL, LEVEL | ONESHOT], ids=repr)
def test_a_failed_reregister_changes_nothing(selector, kind, opts):
    # In a child, since what went wrong here once could not be interrupted.
    def check():
        events = Events()
        poll = Poll(selector=selector)
        source, send = kind()
        for interest, options, error in bad_changes(poll, source):
            poll.registry.register(source, "t", READABLE, opts)
            with pytest.raises(error):
                poll.registry.reregister(source, "other", interest, options)
            expect_no_events(poll, events, 0)
            send(b"x")
            expect_only(poll, events, "t", "readable")
            if opts.is_oneshot():
                with pytest.raises(error):
                    poll.registry.reregister(source, "other", interest, options)
                # Spent it was, and is.
                expect_no_events(poll, events, 0)
            else:
                expect_only(poll, events, "t", "readable")
            while source.read(100):
                pass
            poll.registry.deregister(source)

    apart(check)


def test_a_failed_reregister_keeps_an_edge_armed(selector):
    def check():
        events = Events()
        poll = Poll(selector=selector)
        stream, peer = tcp_pair()
        poll.registry.register(stream, "t", READABLE, EDGE)
        for interest, options, error in bad_changes(poll, stream):
            with pytest.raises(error):
                poll.registry.reregister(stream, "other", interest, options)
            peer.write(b"x")
            expect_only(poll, events, "t", "readable")
            assert drain(stream) == b"x"

    apart(check)


def test_wrong_types(poll):
    stream, _ = tcp_pair()
    registry = poll.registry
    for interest in (None, 1, "READABLE", LEVEL, True):
        with pytest.raises(TypeError, match="Interest"):
            registry.register(stream, "t", interest)
    for opts in (None, 1, "LEVEL", READABLE, True):
        with pytest.raises(TypeError, match="PollOpt"):
            registry.register(stream, "t", READABLE, opts)
    with pytest.raises(TypeError):
        registry.register(stream, "t")
    with pytest.raises(TypeError):
        registry.register()
    registry.register(source=stream, token="t", interest=READABLE, opts=LEVEL)
    with pytest.raises(TypeError):
        registry.deregister()
    registry.deregister(source=stream)


@pytest.mark.parametrize("source", [None, 0, 5, -1, True, "text", b"", [], object(), socket.socket, 1.5, Registry])
def test_what_is_no_source(poll, source):
    for call in (
        lambda: poll.registry.register(source, "t", READABLE, LEVEL),
        lambda: poll.registry.reregister(source, "t", READABLE, LEVEL),
        lambda: poll.registry.deregister(source),
    ):
        with pytest.raises(TypeError):
            call()


def test_a_bare_number_gets_a_hint(poll):
    with pytest.raises(TypeError, match="SourceFd"):
        poll.registry.register(0, "t", READABLE, LEVEL)


def test_a_registry_cannot_be_made(poll):
    with pytest.raises(TypeError, match="Poll"):
        Registry()
    with pytest.raises(TypeError):
        type("Mine", (Registry,), {})
    assert poll.registry is poll.registry
    assert isinstance(poll.registry, Registry)
    assert poll.selector_name in repr(poll.registry)


def test_the_registry_outlives_its_poll(selector):
    left, _ = socket_pair()
    poll = Poll(selector=selector)
    registry = poll.registry
    poll.close()
    del poll
    with pytest.raises(ValueError):
        registry.register(left, "t", READABLE, LEVEL)
    repr(registry)


# -- Foreign sources --------------------------------------------------------------------------------------------------


def test_kinds_of_foreign_sources(poll, events):
    reading, writing = os.pipe()
    with open(reading, "rb", 0) as reader, open(writing, "wb", 0) as writer:
        poll.registry.register(reader, "reader", READABLE, LEVEL)
        poll.registry.register(writer, "writer", WRITABLE, LEVEL)
        assert poll.poll(events, PATIENCE) == 1
        writer.write(b"x")
        assert poll.poll(events, PATIENCE) == 2
        poll.registry.deregister(writer)
        expect_only(poll, events, "reader", "readable")
        poll.registry.deregister(reader)


def test_a_buffered_file_and_a_text_file(poll, events):
    left, right = socket_pair()
    with left.makefile("rb") as buffered, left.makefile("r") as text:
        poll.registry.register(buffered, "t", READABLE, LEVEL)
        # The same descriptor.
        with pytest.raises(FileExistsError):
            poll.registry.register(text, "t", READABLE, LEVEL)
        right.send(b"x")
        expect_only(poll, events, "t", "readable")
        poll.registry.deregister(text)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no pidfd_open on this system")
def test_a_pidfd(poll, events):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    with open(os.pidfd_open(pid), "rb", 0) as pidfd:
        poll.registry.register(pidfd, "child", READABLE, ONESHOT)
        expect_only(poll, events, "child", "readable")
        os.waitpid(pid, 0)
        poll.registry.deregister(pidfd)


@pytest.mark.parametrize("opts", [LEVEL, ONESHOT], ids=repr)
def test_regular_files_and_directories(poll, opts):
    with tempfile.TemporaryFile() as file:
        with pytest.raises(PermissionError, match="cannot be polled") as caught:
            poll.registry.register(file, "t", READABLE, opts)
        assert caught.value.errno == errno.EPERM
        with pytest.raises(FileNotFoundError):
            poll.registry.deregister(file)
        with pytest.raises(FileNotFoundError):
            poll.registry.reregister(file, "t", READABLE, opts)
    directory = os.open("/", os.O_RDONLY)
    try:
        with pytest.raises(PermissionError, match="cannot be polled"):
            poll.registry.register(_Fd(directory), "t", READABLE, opts)
    finally:
        os.close(directory)


class _Fd:
    def __init__(self, fd):
        self.fd = fd

    def fileno(self):
        return self.fd


def test_a_descriptor_that_is_not_open(poll):
    left, _ = socket_pair()
    number = left.detach()
    os.close(number)
    for fd in (number, (1 << 31) - 1):
        with pytest.raises(OSError) as caught:
            poll.registry.register(_Fd(fd), "t", READABLE, LEVEL)
        assert caught.value.errno == errno.EBADF
        with pytest.raises(FileNotFoundError):
            poll.registry.deregister(_Fd(fd))


def test_high_descriptors(poll, events):
    left, right = socket_pair()
    high = 9999
    os.dup2(left.fileno(), high)
    try:
        poll.registry.register(_Fd(high), "high", READABLE, LEVEL)
        poll.registry.register(left, "low", READABLE, LEVEL)
        right.send(b"x")
        poll.poll(events, PATIENCE)
        assert sorted(event.token for event in events) == ["high", "low"]
        poll.registry.deregister(_Fd(high))
    finally:
        os.close(high)
    expect_only(poll, events, "low", "readable")


@pytest.mark.parametrize("number", ["3", None, 3.0, b"3", [], object()], ids=repr)
def test_fileno_of_a_wrong_type(poll, number):
    for call in (poll.registry.register, poll.registry.reregister):
        with pytest.raises(TypeError, match="fileno"):
            call(_Fd(number), "t", READABLE, LEVEL)
    with pytest.raises(TypeError, match="fileno"):
        poll.registry.deregister(_Fd(number))


@pytest.mark.parametrize("number", [-1, -2, -(1 << 40), 1 << 31, 1 << 32, (1 << 32) + 1, 1 << 80, -(1 << 80)])
def test_fileno_that_is_no_descriptor(poll, number):
    for call in (poll.registry.register, poll.registry.reregister):
        with pytest.raises(ValueError):
            call(_Fd(number), "t", READABLE, LEVEL)
    with pytest.raises(ValueError):
        poll.registry.deregister(_Fd(number))


def test_fileno_that_raises(poll):
    class Odd:
        def fileno(self):
            raise LookupError("odd")

    for call in (
        lambda: poll.registry.register(Odd(), "t", READABLE, LEVEL),
        lambda: poll.registry.reregister(Odd(), "t", READABLE, LEVEL),
        lambda: poll.registry.deregister(Odd()),
    ):
        with pytest.raises(LookupError, match="odd"):
            call()
    with pytest.raises(io.UnsupportedOperation):
        poll.registry.register(io.BytesIO(), "t", READABLE, LEVEL)


def test_fileno_that_is_somebody_elses(poll, events):
    left, right = socket_pair()
    poll.registry.register(left, "t", READABLE, LEVEL)
    liar = _Fd(left.fileno())
    with pytest.raises(FileExistsError):
        poll.registry.register(liar, "liar", READABLE, LEVEL)
    right.send(b"x")
    expect_only(poll, events, "t", "readable")
    stream, peer = tcp_pair()
    poll.registry.register(stream, "own", READABLE)
    liar = _Fd(stream.fileno())
    with pytest.raises(FileExistsError):
        poll.registry.register(liar, "liar", READABLE, LEVEL)
    # What is metalio's own is changed through itself only.
    for call in (
        lambda: poll.registry.reregister(liar, "liar", READABLE, LEVEL),
        lambda: poll.registry.deregister(liar),
    ):
        with pytest.raises(FileNotFoundError):
            call()
    peer.write(b"x")
    poll.poll(events, PATIENCE)
    assert sorted(event.token for event in events) == ["own", "t"]


def test_fileno_that_registers_the_source(poll, events):
    left, right = socket_pair()

    class Odd:
        depth = 0

        def fileno(self):
            self.depth += 1
            if self.depth == 1:
                poll.registry.register(self, "inner", READABLE, LEVEL)
            return left.fileno()

    with pytest.raises(FileExistsError):
        poll.registry.register(Odd(), "outer", READABLE, LEVEL)
    right.send(b"x")
    expect_only(poll, events, "inner", "readable")


def test_fileno_that_deregisters_the_source(poll, events):
    left, _ = socket_pair()

    class Odd:
        def fileno(self):
            with contextlib.suppress(FileNotFoundError):
                poll.registry.deregister(left)
            return left.fileno()

    for call in (
        lambda odd: poll.registry.reregister(odd, "t", READABLE, LEVEL),
        lambda odd: poll.registry.deregister(odd),
    ):
        poll.registry.register(left, "t", READABLE, LEVEL)
        with pytest.raises(FileNotFoundError):
            call(Odd())


@pytest.mark.parametrize("method", ["register", "reregister", "deregister"])
def test_fileno_that_closes_the_poll(poll, method):
    left, _ = socket_pair()
    poll.registry.register(left, "t", READABLE, LEVEL)

    class Odd:
        def fileno(self):
            poll.close()
            return left.fileno()

    arguments = () if method == "deregister" else ("t", READABLE, LEVEL)
    with pytest.raises(ValueError, match="Poll is closed"):
        getattr(poll.registry, method)(Odd(), *arguments)


def test_a_foreign_source_that_is_dropped_is_not_kept_alive(poll):
    left, right = socket_pair()
    other = socket.socket(fileno=left.detach())
    poll.registry.register(other, "t", READABLE, LEVEL)
    before = sys.getrefcount(other)
    poll.registry.reregister(other, "t", READABLE, LEVEL)
    assert sys.getrefcount(other) == before == 2
    other.close()
    assert right.recv(1) == b""


# -- Protocol objects -------------------------------------------------------------------------------------------------


def test_what_is_a_source():
    stream, _ = tcp_pair()
    assert isinstance(stream, Source)
    assert isinstance(tcp_listener(), Source)
    assert isinstance(Wrapper(None), Source)
    assert not isinstance(HasFileno(None), Source)
    assert not isinstance(object(), Source)


def test_the_methods_get_what_the_registry_was_given(poll):
    calls = []

    class Recorder:
        def register(self, *arguments):
            calls.append(("register", *arguments))

        def reregister(self, *arguments):
            calls.append(("reregister", *arguments))

        def deregister(self, *arguments):
            calls.append(("deregister", *arguments))

        def fileno(self):
            raise AssertionError("the methods come first")

    registry, token = poll.registry, object()
    assert registry.register(Recorder(), token, READABLE) is None
    assert registry.reregister(Recorder(), token, WRITABLE, LEVEL) is None
    assert registry.deregister(Recorder()) is None
    assert calls == [
        ("register", registry, token, READABLE, EDGE),
        ("reregister", registry, token, WRITABLE, LEVEL),
        ("deregister", registry),
    ]


def test_methods_that_an_instance_has(poll, events):
    """A proxy, whose methods are not its type's."""

    class Proxy:
        def __init__(self, inner):
            self._inner = inner

        def __getattr__(self, name):
            return getattr(self._inner, name)

    left, right = socket_pair()
    proxy = Proxy(Wrapper(left))
    poll.registry.register(proxy, "t", READABLE, LEVEL)
    right.send(b"x")
    expect_only(poll, events, "t", "readable")
    poll.registry.deregister(proxy)


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), OSError(5, "mine")], ids=repr)
def test_methods_that_raise(poll, events, error):
    class Odd:
        def register(self, *arguments):
            raise error

        reregister = deregister = register

    for call in (
        lambda: poll.registry.register(Odd(), "t", READABLE),
        lambda: poll.registry.reregister(Odd(), "t", READABLE),
        lambda: poll.registry.deregister(Odd()),
    ):
        with pytest.raises(type(error)) as caught:
            call()
        assert caught.value is error
    expect_no_events(poll, events, 0)


def test_methods_that_close_the_poll(poll):
    left, _ = socket_pair()

    class Odd:
        def register(self, registry, token, interest, opts):
            poll.close()
            registry.register(left, token, interest, opts)

        reregister = deregister = register

    with pytest.raises(ValueError, match="Poll is closed"):
        poll.registry.register(Odd(), "t", READABLE, LEVEL)


def test_methods_with_a_wrong_signature(poll):
    class Odd:
        def register(self):
            pass

        reregister = deregister = register

    with pytest.raises(TypeError):
        poll.registry.register(Odd(), "t", READABLE)


def test_a_source_that_wraps_itself(poll):
    class Endless:
        def register(self, registry, token, interest, opts):
            registry.register(self, token, interest, opts)

        reregister = deregister = register

    with pytest.raises(RecursionError):
        poll.registry.register(Endless(), "t", READABLE)


def test_subclasses_may_override_the_methods(poll, events):
    stream, send = subclass()
    poll.registry.register(stream, "t", READABLE)
    send(b"x")
    expect_only(poll, events, "t", "readable")
    poll.registry.reregister(stream, "u", READABLE)
    expect_only(poll, events, "u", "readable")
    poll.registry.deregister(stream)
    expect_no_events(poll, events)
    assert stream.calls == ("register", "reregister", "deregister")


def test_a_subclass_that_refuses(poll, events):
    class Shy(TcpStream):
        def register(self, registry, token, interest, opts):
            raise PermissionError("not me")

    stream, _ = tcp_pair()
    with Shy.from_socket(stream.into_socket()) as shy:
        with pytest.raises(PermissionError, match="not me"):
            poll.registry.register(shy, "t", BOTH)
        with pytest.raises(FileNotFoundError):
            poll.registry.deregister(shy)
        expect_no_events(poll, events, 0)


def test_a_subclass_that_adds_an_option(poll, events):
    class Always(TcpStream):
        def register(self, registry, token, interest, opts):
            super().register(registry, (token, self), interest | WRITABLE, LEVEL)

    stream, _ = tcp_pair()
    with Always.from_socket(stream.into_socket()) as always:
        poll.registry.register(always, "t", READABLE)
        for _ in range(2):
            assert poll.poll(events, PATIENCE) == 1
            assert seen(events) == [(("t", always), {"writable"})]
        always.close()
        assert seen(events) == []


def test_the_methods_of_a_source_cannot_be_misused():
    stream, _ = tcp_pair()
    for registry in (None, object(), stream):
        for call in (
            lambda registry=registry: stream.register(registry, "t", READABLE, LEVEL),
            lambda registry=registry: stream.reregister(registry, "t", READABLE, LEVEL),
            lambda registry=registry: stream.deregister(registry),
        ):
            with pytest.raises((TypeError, AttributeError, RecursionError)):
                call()


def test_calling_the_methods_of_a_source_directly(poll, events):
    stream, _ = tcp_pair()
    stream.register(poll.registry, "t", WRITABLE, LEVEL)
    expect_only(poll, events, "t", "writable")
    stream.deregister(poll.registry)
    expect_no_events(poll, events, 0)


# -- Exclusive --------------------------------------------------------------------------------------------------------


def needs_exclusive(poll):
    if poll.selector_name != "epoll":
        pytest.skip("only epoll has it")


def test_exclusive_where_there_is_none(selector):
    with Poll(selector=selector) as poll:
        if poll.selector_name == "epoll":
            return
        for source in (tcp_listener(), socket_pair()[0]):
            with pytest.raises(NotImplementedError, match="epoll"):
                poll.registry.register(source, "t", READABLE, EXCLUSIVE | LEVEL)


@pytest.mark.parametrize("method", ["register", "reregister"])
def test_exclusive_combinations(poll, method):
    listener = tcp_listener()
    if method == "reregister":
        poll.registry.register(listener, "t", READABLE)
    call = getattr(poll.registry, method)
    for opts in (EXCLUSIVE | ONESHOT, EXCLUSIVE | EDGE | ONESHOT, EXCLUSIVE | LEVEL | ONESHOT):
        with pytest.raises(ValueError, match="ONESHOT"):
            call(listener, "t", READABLE, opts)
    for interest in (Interest.PRIORITY, READABLE | Interest.PRIORITY):
        with pytest.raises(ValueError, match="PRIORITY"):
            call(listener, "t", interest, EXCLUSIVE | LEVEL)
    with pytest.raises(ValueError, match="EDGE and LEVEL"):
        call(listener, "t", READABLE, EDGE | LEVEL)


@pytest.mark.parametrize("kind", [own, foreign], ids=lambda kind: kind.__name__)
def test_to_and_from_exclusive(poll, events, kind):
    needs_exclusive(poll)
    source, send = kind()
    poll.registry.register(source, "plain", READABLE, LEVEL)
    poll.registry.reregister(source, "exclusive", READABLE, EXCLUSIVE | LEVEL)
    with pytest.raises(FileExistsError):
        poll.registry.register(source, "t", READABLE, EXCLUSIVE | LEVEL)
    expect_no_events(poll, events)
    send(b"x")
    expect_only(poll, events, "exclusive", "readable")
    poll.registry.reregister(source, "changed", BOTH, EXCLUSIVE | LEVEL)
    expect_only(poll, events, "changed", {"readable", "writable"})
    poll.registry.reregister(source, "plain again", READABLE, LEVEL)
    expect_only(poll, events, "plain again", "readable")
    poll.registry.reregister(source, "exclusive again", READABLE, EXCLUSIVE | EDGE)
    expect_only(poll, events, "exclusive again", "readable")
    poll.registry.deregister(source)
    expect_no_events(poll, events)
    with pytest.raises(FileNotFoundError):
        poll.registry.reregister(source, "t", READABLE, EXCLUSIVE | LEVEL)


@pytest.mark.parametrize("opts", [EXCLUSIVE, EXCLUSIVE | LEVEL], ids=repr)
def test_exclusive_level(poll, events, opts):
    needs_exclusive(poll)
    listener = tcp_listener()
    poll.registry.register(listener, "t", READABLE, opts)
    with TcpStream.connect(listener.local_addr):
        for _ in range(3):
            expect_only(poll, events, "t", "readable")
        listener.accept()[0].close()
        expect_no_events(poll, events)


def test_exclusive_edge(poll, events):
    needs_exclusive(poll)
    listener = tcp_listener()
    poll.registry.register(listener, "t", READABLE, EXCLUSIVE | EDGE)
    with TcpStream.connect(listener.local_addr):
        expect_only(poll, events, "t", "readable")
        expect_no_events(poll, events)
        listener.accept()[0].close()


def test_exclusive_wakes_no_herd(selector):
    """Of several polls that sleep on one listener, each connection wakes some and not all."""
    with contextlib.ExitStack() as stack:
        polls = [stack.enter_context(Poll(selector=selector)) for _ in range(4)]
        needs_exclusive(polls[0])
        listener = tcp_listener()
        for poll in polls:
            poll.registry.register(_Fd(listener.fileno()), "t", READABLE, EXCLUSIVE | LEVEL)
        workers = []
        for poll in polls:
            workers.append(Worker(poll.poll, Events(), PATIENCE))
            sleeping(workers[-1])
        with TcpStream.connect(listener.local_addr):
            wait_readable(listener)
            for poll in polls[1:]:
                assert poll.closed is False
            # Those who were not woken still sleep, though there is something to accept.
            finished = 0
            while not finished:
                finished = sum(not worker.is_alive() for worker in workers)
            asleep = [worker for worker in workers if worker.is_alive()]
            assert asleep
            listener.accept()[0].close()
            for poll in polls:
                poll.close()
            for worker in workers:
                with contextlib.suppress(ValueError):
                    worker.finish()


# -- Nesting ----------------------------------------------------------------------------------------------------------


def test_a_poll_can_be_registered_with_another(poll, events):
    with Poll() as inner:
        if inner.selector_name in EMULATED:
            pytest.skip("poll(2) has no descriptor")
        left, right = socket_pair()
        inner.registry.register(left, "inner", READABLE, LEVEL)
        poll.registry.register(inner, "outer", READABLE, LEVEL)
        expect_no_events(poll, events)
        right.send(b"x")
        expect_only(poll, events, "outer", "readable")
        expect_only(inner, Events(), "inner", "readable")
        left.recv(1)
        expect_no_events(poll, events)
        poll.registry.deregister(inner)


def test_a_poll_without_a_descriptor(events, poll):
    with Poll(selector="poll") as inner, pytest.raises(io.UnsupportedOperation):
        poll.registry.register(inner, "t", READABLE, LEVEL)


def test_a_poll_in_itself_and_in_a_circle(poll):
    if poll.selector_name != "epoll":
        pytest.skip("it has no descriptor")
    with pytest.raises(OSError):
        poll.registry.register(poll, "t", READABLE, LEVEL)
    with Poll(selector="epoll") as other:
        poll.registry.register(other, "t", READABLE, LEVEL)
        with pytest.raises(OSError, match="circle") as caught:
            other.registry.register(poll, "t", READABLE, LEVEL)
        assert caught.value.errno == errno.ELOOP


# -- Priority ---------------------------------------------------------------------------------------------------------


def send_urgent(stream, data):
    with same_socket(stream) as sock:
        assert sock.send(data, socket.MSG_OOB) == len(data)


@pytest.mark.parametrize("opts", [EDGE, LEVEL, ONESHOT], ids=repr)
def test_priority_is_not_readable(poll, events, opts):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE, opts)
    send_urgent(peer, b"!")
    wait_urgent(stream)
    # Nothing to read: so no event, and no spin.
    expect_no_events(poll, events)
    poll.registry.reregister(stream, "t", READABLE | Interest.PRIORITY, opts)
    expect_only(poll, events, "t", "priority")


def wait_urgent(stream):
    assert select.select([], [], [stream], PATIENCE)[2]


def test_readable_is_not_priority(poll, events):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", Interest.PRIORITY, LEVEL)
    peer.write(b"x")
    wait_readable(stream)
    expect_no_events(poll, events)
    send_urgent(peer, b"!")
    expect_only(poll, events, "t", "priority")
    poll.registry.reregister(stream, "t", READABLE | Interest.PRIORITY, LEVEL)
    expect_only(poll, events, "t", {"readable", "priority"})


# -- Descriptors ------------------------------------------------------------------------------------------------------


def test_registering_opens_no_descriptors(poll, events):
    sources = [socket_pair()[0] for _ in range(5)] + [tcp_pair()[0] for _ in range(5)]
    before = open_descriptors()
    for source in sources:
        poll.registry.register(source, "t", WRITABLE, LEVEL)
    poll.poll(events, MOMENT)
    for source in sources:
        poll.registry.reregister(source, "t", READABLE, LEVEL)
        poll.registry.deregister(source)
    assert open_descriptors() == before


def test_many_registrations_in_any_order(poll):
    events = Events(500)
    pairs = [socket_pair() for _ in range(150)]
    registered = {}
    for round in range(3):
        for number, (left, right) in enumerate(pairs):
            token = (round, number)
            if left in registered:
                poll.registry.deregister(left)
                del registered[left]
            if (number * 7 + round) % 3:
                poll.registry.register(left, token, WRITABLE, LEVEL)
                registered[left] = token
            if right in registered:
                poll.registry.reregister(right, token, WRITABLE, LEVEL)
                registered[right] = token
            elif number % 5 == round:
                poll.registry.register(right, token, WRITABLE, LEVEL)
                registered[right] = token
        assert poll.poll(events, PATIENCE) == len(registered)
        assert sorted(event.token for event in events) == sorted(registered.values())


def test_a_full_stream_becomes_writable_again(poll, events):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", WRITABLE)
    expect_only(poll, events, "t", "writable")
    sent = fill(stream)
    while poll.poll(events, 0):
        # Room that came while it was being filled.
        sent += fill(stream)
    expect_no_events(poll, events)
    assert len(drain(peer)) == sent
    expect_only(poll, events, "t", "writable")
