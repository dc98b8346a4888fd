"""Who keeps what alive: nobody keeps a source, and a token lives as long as its registration."""

import gc
import socket
import sys
import weakref

import pytest
from util import (
    BOTH,
    PATIENCE,
    READABLE,
    WRITABLE,
    accept,
    count_fds,
    expect_no_events,
    expect_only,
    is_open,
    run_python,
    socket_pair,
    tcp_listener,
    tcp_pair,
)

from metalio import Events, Poll, PollOpt, Waker
from metalio.net import TcpStream

LEVEL, ONESHOT = PollOpt.LEVEL, PollOpt.ONESHOT


class Thing:
    """A token that can be watched."""


def watched():
    token = Thing()
    return token, weakref.ref(token)


@pytest.fixture(autouse=True)
def collected():
    """Reference counts alone have to do it, except where a test asks for the collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# -- Tokens -----------------------------------------------------------------------------------------------------------


def test_closing_a_source_releases_its_token_at_once(poll, events):
    stream, _ = tcp_pair()
    token, alive = watched()
    poll.registry.register(stream, token, WRITABLE)
    poll.poll(events, PATIENCE)
    del token
    assert alive() is not None
    stream.close()
    assert alive() is None
    assert list(events) == []


def test_deregistering_releases_the_token_at_once(poll, events):
    for source in (tcp_pair()[0], socket_pair()[0]):
        token, alive = watched()
        poll.registry.register(source, token, WRITABLE, LEVEL)
        poll.poll(events, PATIENCE)
        del token
        poll.registry.deregister(source)
        assert alive() is None


def test_reregistering_releases_the_old_token_at_once(poll, events):
    for source in (tcp_pair()[0], socket_pair()[0]):
        token, alive = watched()
        poll.registry.register(source, token, WRITABLE, LEVEL)
        poll.poll(events, PATIENCE)
        del token
        poll.registry.reregister(source, "other", WRITABLE, LEVEL)
        assert alive() is None


def test_reregistering_with_the_same_token(poll, events):
    for source in (tcp_pair()[0], socket_pair()[0]):
        token, alive = watched()
        poll.registry.register(source, token, WRITABLE, LEVEL)
        before = sys.getrefcount(token)
        for _ in range(5):
            poll.registry.reregister(source, token, WRITABLE, LEVEL)
        assert sys.getrefcount(token) == before
        del token
        assert alive() is not None
        poll.registry.deregister(source)
        assert alive() is None


def test_closing_the_poll_releases_all_tokens_at_once(selector, events):
    poll = Poll(selector=selector)
    kept = []
    for source in (tcp_pair()[0], socket_pair()[0], tcp_listener()):
        token, alive = watched()
        poll.registry.register(source, token, READABLE, LEVEL)
        kept.append(alive)
        del token
    poll.close()
    assert [alive() for alive in kept] == [None] * 3


def test_a_foreign_token_stays_until_it_is_replaced(poll):
    """Nobody is told when a foreign source is closed or dropped."""
    left, right = socket.socketpair()
    number = left.fileno()
    token, alive = watched()
    poll.registry.register(left, token, READABLE, LEVEL)
    del token
    left.close()
    right.close()
    assert alive() is not None
    left, right = socket_pair()
    assert number in (left.fileno(), right.fileno())
    poll.registry.register(left if left.fileno() == number else right, "new", READABLE, LEVEL)
    assert alive() is None


def test_a_failed_registration_keeps_no_token(poll):
    stream, _ = tcp_pair()
    poll.registry.register(stream, "t", READABLE)
    for source in (stream, tcp_pair()[0], object()):
        token, alive = watched()
        with pytest.raises((FileExistsError, ValueError, TypeError)):
            poll.registry.register(source, token, READABLE, PollOpt.EDGE | LEVEL)
        with pytest.raises((FileExistsError, FileNotFoundError, ValueError, TypeError)):
            poll.registry.reregister(source, token, READABLE, PollOpt.EDGE | LEVEL)
        del token
        assert alive() is None


def test_into_socket_releases_the_token(poll):
    stream, _ = tcp_pair()
    token, alive = watched()
    poll.registry.register(stream, token, READABLE)
    del token
    with stream.into_socket():
        assert alive() is None


# -- Sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opts", [PollOpt.EDGE, LEVEL, ONESHOT], ids=repr)
def test_dropping_a_registered_source(poll, events, opts):
    """It deregisters it, drops its pending event and releases the token."""
    stream, peer = tcp_pair()
    clone = stream.try_clone()
    number, alive_source = clone.fileno(), weakref.ref(clone)
    token, alive_token = watched()
    poll.registry.register(clone, token, BOTH, opts)
    del token
    assert poll.poll(events, PATIENCE) == 1
    with pytest.warns(ResourceWarning):
        del clone
    assert alive_source() is None and alive_token() is None
    assert not is_open(number)
    assert list(events) == []
    # The file is still open, and so would be heard of.
    peer.write(b"x")
    expect_no_events(poll, events)
    poll.registry.register(stream, "t", WRITABLE)
    expect_only(poll, events, "t", "writable")


def test_the_poll_keeps_no_source_alive(poll, events):
    stream, _ = tcp_pair()
    before = sys.getrefcount(stream)
    poll.registry.register(stream, "t", WRITABLE)
    poll.poll(events, PATIENCE)
    list(events)
    assert sys.getrefcount(stream) == before
    poll.registry.reregister(stream, "t", WRITABLE)
    poll.registry.deregister(stream)
    assert sys.getrefcount(stream) == before


def test_a_source_that_is_its_own_token(poll, events):
    """Then the poll keeps it alive: as a token, until it is closed or deregistered."""
    stream, _ = tcp_pair()
    clone = stream.try_clone()
    alive = weakref.ref(clone)
    poll.registry.register(clone, clone, WRITABLE)
    del clone
    assert alive() is not None
    assert poll.poll(events, PATIENCE) == 1
    for event in events:
        event.token.close()
    del event
    assert alive() is None
    clone = stream.try_clone()
    alive = weakref.ref(clone)
    poll.registry.register(clone, clone, WRITABLE)
    del clone
    with pytest.warns(ResourceWarning):
        poll.close()
    assert alive() is None


class Connection:
    """What a server makes of an accepted stream: its own token."""

    def __init__(self, poll, stream):
        self.poll = poll
        self.registry = poll.registry
        self.stream = stream
        self.events = []
        poll.registry.register(stream, self, BOTH)


def test_a_server_that_forgets_a_connection(poll, events):
    listener = tcp_listener()
    before = count_fds()
    poll.registry.register(listener, listener, READABLE)
    clients = [TcpStream.connect(listener.local_addr) for _ in range(5)]
    connections = {Connection(poll, accept(listener)[0]) for _ in clients}
    alive = [weakref.ref(connection) for connection in connections]
    for client in clients:
        client.close()
    while connections:
        poll.poll(events, PATIENCE)
        for event in events:
            connection = event.token
            if isinstance(connection, Connection) and connection.stream.read(10) == b"":
                connections.discard(connection)
                connection.stream.close()
        del event, connection
    assert [reference() for reference in alive] == [None] * 5
    assert count_fds() == before


def test_cyclic_garbage_is_collected(selector):
    """A connection that is the token, and holds stream, registry, poll, waker, events and kept events."""
    before = count_fds()
    listener = tcp_listener()
    client = TcpStream.connect(listener.local_addr)
    stream = listener.accept()
    while stream is None:
        stream = listener.accept()
    poll = Poll(selector=selector)
    connection = Connection(poll, stream[0])
    connection.batch = Events()
    connection.waker = Waker(poll.registry, connection)
    connection.waker.wake()
    assert poll.poll(connection.batch, PATIENCE) == 2
    connection.events = list(connection.batch)
    connection.iterator = iter(connection.batch)
    next(connection.iterator)
    connection.me = connection
    numbers = [stream[0].fileno()]
    alive = [weakref.ref(thing) for thing in (connection, poll, stream[0], connection.waker)]
    del connection, poll, stream
    assert all(reference() is not None for reference in alive)
    with pytest.warns(ResourceWarning):
        gc.collect()
    assert [reference() for reference in alive] == [None] * 4
    assert not any(is_open(number) for number in numbers)
    client.close()
    listener.close()
    assert count_fds() == before


def test_a_foreign_source_in_a_cycle(selector):
    left, right = socket_pair()

    class Holder:
        pass

    holder = Holder()
    holder.poll = Poll(selector=selector)
    holder.sock = left
    holder.poll.registry.register(left, holder, READABLE, LEVEL)
    holder.events = Events()
    right.send(b"x")
    holder.poll.poll(holder.events, PATIENCE)
    holder.event = holder.events[0]
    alive, alive_poll = weakref.ref(holder), weakref.ref(holder.poll)
    with pytest.warns(ResourceWarning, match="unclosed <Poll"):
        # Not before: a collection may begin by itself.
        del holder
        gc.collect()
    assert alive() is None and alive_poll() is None


def test_the_collector_sees_every_reference():
    """Each of metalio's objects that can be part of a cycle says what it refers to."""
    with Poll() as poll, Waker(poll.registry, "w") as waker:
        stream, _ = tcp_pair()
        events = Events()
        poll.registry.register(stream, "t", WRITABLE)
        poll.poll(events, PATIENCE)
        for thing in (poll, poll.registry, waker, stream, events, iter(events), events[0]):
            assert gc.is_tracked(thing), thing
            assert gc.get_referents(thing)


# -- Finalisers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", ["reregister", "deregister", "close", "close poll", "into socket", "foreign"])
@pytest.mark.parametrize("action", ["poll", "close poll", "register", "close source", "deregister", "iterate", "raise"])
def test_a_token_whose_finaliser_uses_everything(selector, release, action):
    """Whatever runs when a token goes, runs when nothing is half done."""
    ran = []
    stream, peer = tcp_pair()
    other, _ = tcp_pair()
    foreign, _ = socket_pair()
    poll = Poll(selector=selector)
    events = Events()
    source = foreign if release == "foreign" else stream

    class Token:
        def __del__(self):
            ran.append(action)
            if action == "poll":
                poll.poll(Events(), 0)
            elif action == "close poll":
                poll.close()
            elif action == "register":
                poll.registry.register(other, "late", WRITABLE)
            elif action == "close source":
                source.close()
            elif action == "deregister":
                poll.registry.deregister(source)
            elif action == "iterate":
                for event in events:
                    _ = event.token
                events.clear()

    if action == "raise":

        class Token:
            def __del__(self):
                ran.append(action)
                raise LookupError("mine")

    poll.registry.register(source, Token(), BOTH, LEVEL)
    poll.poll(events, PATIENCE)
    # What a finaliser raises goes to this.
    unraised = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda info: unraised.append(info.exc_type)
    try:
        if release == "reregister":
            poll.registry.reregister(stream, "other", READABLE)
        elif release == "deregister":
            poll.registry.deregister(stream)
        elif release == "close":
            stream.close()
        elif release == "close poll":
            poll.close()
        elif release == "into socket":
            stream.into_socket().close()
        else:
            poll.registry.reregister(foreign, "other", READABLE, LEVEL)
    finally:
        sys.unraisablehook = hook
    assert ran == [action]
    assert set(unraised) <= {LookupError, FileNotFoundError, ValueError}
    peer.write(b"x")
    if not poll.closed:
        poll.poll(events, 0)
        list(events)
        poll.close()
    stream.close()


def test_a_chain_of_tokens(poll):
    """Each one's finaliser releases the next."""
    streams = [tcp_pair()[0] for _ in range(50)]
    order = []

    class Token:
        def __init__(self, number):
            self.number = number

        def __del__(self):
            order.append(self.number)
            if self.number + 1 < len(streams):
                streams[self.number + 1].close()

    for number, stream in enumerate(streams):
        poll.registry.register(stream, Token(number), READABLE)
    streams[0].close()
    assert order == list(range(50))


def test_a_token_that_comes_back_to_life(poll, events):
    saved = []

    class Token:
        def __del__(self):
            saved.append(self)
            poll.registry.register(stream, self, WRITABLE)

    stream, _ = tcp_pair()
    poll.registry.register(stream, Token(), READABLE)
    poll.registry.deregister(stream)
    assert poll.poll(events, PATIENCE) == 1
    assert events[0].token is saved[0]


def test_a_source_that_comes_back_to_life(poll, events):
    saved = []

    class Stubborn(TcpStream):
        def __del__(self):
            saved.append(self)

    stream, peer = tcp_pair()
    stubborn = Stubborn.from_socket(stream.into_socket())
    poll.registry.register(stubborn, "t", READABLE)
    del stubborn
    assert len(saved) == 1
    peer.write(b"x")
    expect_only(poll, events, "t", "readable")
    assert saved[0].read(5) == b"x"
    saved[0].close()


# -- The end of the interpreter ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("place", ["sys", "builtins", "_thread", "cycle", "module", "thread"])
def test_interpreter_exit(selector, closed, place):
    """What lives until the very end ends without a word, but for the warnings about what was not closed."""
    errors = run_python(
        f"""
        import _thread, builtins, sys, threading
        from metalio import Events, Interest, Poll, Waker
        from metalio.net import TcpListener, TcpStream

        class Keep:
            pass

        keep = Keep()
        keep.poll = Poll(selector={selector!r})
        keep.waker = Waker(keep.poll.registry, keep)
        keep.listener = TcpListener.bind("127.0.0.1:0")
        keep.stream = TcpStream.connect(keep.listener.local_addr)
        keep.events = Events()
        keep.poll.registry.register(keep.listener, keep, Interest.READABLE)
        keep.poll.registry.register(keep.stream, keep.stream, Interest.WRITABLE)
        keep.poll.poll(keep.events, 5)
        keep.kept = list(keep.events)
        if {closed}:
            keep.stream.close()
            keep.listener.close()
            keep.poll.close()
        if {place!r} == "cycle":
            keep.me = keep
            del keep
        elif {place!r} == "thread":
            if not {closed}:
                threading.Thread(target=keep.poll.poll, args=(Events(),), daemon=True).start()
        elif {place!r} != "module":
            setattr({place if place in ("sys", "builtins", "_thread") else "sys"}, "metalio_keep", keep)
            del keep
        """,
        "-W",
        "ignore",
    )
    assert errors == ""


def test_no_reference_is_lost_or_kept_over_many_rounds(poll):
    """Counts of references stay as they are, whatever is done a hundred times."""
    events = Events()
    token = Thing()
    stream, peer = tcp_pair()
    foreign, _ = socket_pair()
    things = [token, stream, foreign, poll, poll.registry, events, READABLE, LEVEL, Thing]

    def work():
        for _ in range(100):
            poll.registry.register(stream, token, BOTH)
            poll.registry.register(foreign, token, WRITABLE, LEVEL)
            poll.poll(events, 0)
            for event in events:
                _ = event.token
            del event, _
            list(events)
            poll.registry.reregister(stream, token, READABLE, LEVEL)
            for wrong in (stream, foreign):
                with pytest.raises(FileExistsError):
                    poll.registry.register(wrong, token, READABLE, LEVEL)
            poll.registry.deregister(stream)
            poll.registry.deregister(foreign)
            with pytest.raises(FileNotFoundError):
                poll.registry.deregister(stream)
            with Waker(poll.registry, token) as waker:
                waker.wake()
                poll.poll(events, 0)
            stream.try_clone().close()
            peer.write(b"x")
            stream.readall()

    work()
    before = [sys.getrefcount(thing) for thing in things]
    work()
    gc.collect()
    assert [sys.getrefcount(thing) for thing in things] == before


def test_memory_does_not_grow(poll):
    """Neither objects nor what is allocated below them."""
    events = Events()
    listener = tcp_listener()
    poll.registry.register(listener, listener, READABLE)

    def work():
        for _ in range(200):
            with TcpStream.connect(listener.local_addr) as client:
                poll.registry.register(client, client, BOTH)
                poll.poll(events, PATIENCE)
                server = None
                while server is None:
                    server = listener.accept()
                with server[0] as stream:
                    poll.registry.register(stream, stream, READABLE)
                    client.write(b"x" * 100)
                    stream.read(10)
                    stream.readv([bytearray(10)] * 20)

    work()
    gc.collect()
    before, blocks = len(gc.get_objects()), sys.getallocatedblocks()
    work()
    gc.collect()
    assert len(gc.get_objects()) <= before + 20
    assert sys.getallocatedblocks() <= blocks + 200
