"""Event: the predicates, on both selectors, and what can be done with one."""

import copy
import gc
import os
import pickle
import socket
import sys

import pytest
from util import (
    BOTH,
    PATIENCE,
    READABLE,
    WRITABLE,
    expect_events,
    expect_only,
    fill,
    seen,
    socket_pair,
    tcp_listener,
    tcp_pair,
    wait_readable,
    what,
)

from metalio import Event, Interest, Poll, PollOpt
from metalio.net import TcpStream

TRIGGERS = [PollOpt.EDGE, PollOpt.LEVEL, PollOpt.EDGE | PollOpt.ONESHOT, PollOpt.LEVEL | PollOpt.ONESHOT]


@pytest.fixture(params=TRIGGERS, ids=repr)
def opts(request):
    return request.param


def test_idle(poll, events, opts):
    stream, _ = tcp_pair()
    poll.registry.register(stream, "t", BOTH, opts)
    expect_only(poll, events, "t", "writable")


def test_data(poll, events, opts):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE, opts)
    peer.write(b"x")
    expect_only(poll, events, "t", "readable")


def test_data_and_room(poll, events, opts):
    stream, peer = tcp_pair()
    peer.write(b"x")
    wait_readable(stream)
    poll.registry.register(stream, "t", BOTH, opts)
    expect_only(poll, events, "t", {"readable", "writable"})


def test_only_what_was_asked_for(poll, events, opts):
    stream, peer = tcp_pair()
    peer.write(b"x")
    wait_readable(stream)
    poll.registry.register(stream, "t", WRITABLE, opts)
    expect_only(poll, events, "t", "writable")


def test_a_connection_to_accept(poll, events, opts):
    listener = tcp_listener()
    poll.registry.register(listener, "t", READABLE, opts)
    with TcpStream.connect(listener.local_addr):
        expect_only(poll, events, "t", "readable")
        listener.accept()[0].close()


def test_peer_shut_down_its_writing_side(poll, events, opts):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE, opts)
    peer.shutdown("write")
    expect_only(poll, events, "t", {"readable", "read_closed"})
    assert stream.read(10) == b""


def test_peer_closed(poll, events, opts):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE, opts)
    peer.close()
    expect_only(poll, events, "t", {"readable", "read_closed"})


def test_own_reading_side_shut_down(poll, events):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE)
    stream.shutdown("read")
    expect_only(poll, events, "t", {"readable", "read_closed"})
    assert peer.write(b"x") == 1


@pytest.mark.parametrize("interest", [READABLE, WRITABLE, BOTH], ids=repr)
def test_both_sides_shut_down(poll, events, opts, interest):
    stream, peer = tcp_pair()
    stream.shutdown("write")
    peer.shutdown("write")
    wait_readable(stream)
    poll.registry.register(stream, "t", interest, opts)
    assert poll.poll(events, PATIENCE) == 1
    expected = {"read_closed", "write_closed"}
    if poll.selector_name == "kqueue" and interest != BOTH:
        # It tells of one direction what was asked for that direction.
        expected = {"read_closed"} if interest == READABLE else {"write_closed"}
    assert expected <= what(events[0])
    assert not events[0].is_error()


@pytest.mark.parametrize("interest", [READABLE, WRITABLE, BOTH], ids=repr)
def test_reset_by_the_peer(poll, events, opts, interest):
    stream, peer = tcp_pair()
    peer.linger = 0
    peer.close()
    wait_readable(stream)
    poll.registry.register(stream, "t", interest, opts)
    assert poll.poll(events, PATIENCE) == 1
    assert {"error", "read_closed", "write_closed"} <= what(events[0])
    assert isinstance(stream.take_error(), ConnectionResetError)
    assert stream.take_error() is None


@pytest.mark.parametrize("interest", [WRITABLE, BOTH], ids=repr)
def test_refused_connection(poll, events, opts, interest):
    listener = tcp_listener()
    addr = listener.local_addr
    listener.close()
    with TcpStream.connect(addr) as stream:
        poll.registry.register(stream, "t", interest, opts)
        assert poll.poll(events, PATIENCE) == 1
        assert {"error", "writable", "write_closed"} <= what(events[0])
        assert isinstance(stream.take_error(), ConnectionRefusedError)


def test_priority(poll, events, opts):
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", Interest.PRIORITY, opts)
    with socket.socket(fileno=peer.try_clone().into_socket().detach()) as sock:
        sock.send(b"!", socket.MSG_OOB)
        expect_only(poll, events, "t", "priority")


def test_a_pipe_whose_reader_is_gone(poll, events):
    # A hang-up of the other side of a pipe that is written to comes as an error alone; but for kqueue it is no error.
    reading, writing = os.pipe()
    with open(reading, "rb", 0) as reader, open(writing, "wb", 0) as writer:
        poll.registry.register(writer, "t", WRITABLE, PollOpt.LEVEL)
        expect_only(poll, events, "t", "writable")
        reader.close()
        error = set() if poll.selector_name == "kqueue" else {"error"}
        found = expect_events(poll, events, {"t": {"write_closed"} | error})
        assert "read_closed" not in found["t"]


def test_a_pipe_whose_writer_is_gone(poll, events):
    reading, writing = os.pipe()
    with open(reading, "rb", 0) as reader, open(writing, "wb", 0) as writer:
        poll.registry.register(reader, "t", READABLE, PollOpt.LEVEL)
        writer.close()
        assert poll.poll(events, PATIENCE) == 1
        assert events[0].is_read_closed()
        assert not events[0].is_error() and not events[0].is_writable()


def test_never_on_linux(poll, events):
    stream, _ = tcp_pair()
    poll.registry.register(stream, "t", BOTH)
    poll.poll(events, PATIENCE)
    assert events[0].is_aio() is False and events[0].is_lio() is False


def test_a_kept_event_stays_valid_and_unchanged(selector, events):
    stream, peer = tcp_pair()
    with Poll(selector=selector) as poll:
        poll.registry.register(stream, "first", BOTH)
        expect_only(poll, events, "first", "writable")
        kept = events[0]
        also = next(iter(events))
        peer.write(b"x")
        poll.registry.reregister(stream, "second", READABLE)
        expect_only(poll, events, "second", "readable")
        fill(stream)
        stream.close()
        events.clear()
    del events, poll, stream
    gc.collect()
    for event in (kept, also):
        assert event.token == "first"
        assert what(event) == {"writable"}


def test_events_of_a_batch_are_told_apart(poll, events):
    pairs = [socket_pair() for _ in range(40)]
    for number, (left, right) in enumerate(pairs):
        poll.registry.register(left, number, READABLE, PollOpt.LEVEL)
        if number % 3 == 0:
            right.send(b"x")
    expected = set(range(0, 40, 3))
    assert poll.poll(events, PATIENCE) == len(expected)
    kept = list(events)
    assert {event.token for event in kept} == expected
    assert len({id(event) for event in kept}) == len(expected)


def test_it_is_immutable_and_cannot_be_made(poll, events):
    left, _ = socket_pair()
    poll.registry.register(left, "t", WRITABLE, PollOpt.LEVEL)
    poll.poll(events, PATIENCE)
    event = events[0]
    for name in ("token", "ready", "tag", "anything"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(event, name, 1)
    with pytest.raises((AttributeError, TypeError)):
        del event.token
    with pytest.raises(TypeError, match="iterate"):
        Event()
    with pytest.raises(TypeError):
        type("Mine", (Event,), {})


def test_an_empty_one_does_no_harm():
    event = Event.__new__(Event)
    assert event.token is None
    assert what(event) == set()
    repr(event)


def test_repr_names_the_token_and_the_readiness(poll, events):
    stream, peer = tcp_pair()
    peer.shutdown("write")
    wait_readable(stream)
    poll.registry.register(stream, ("my", "token"), BOTH)
    poll.poll(events, PATIENCE)
    text = repr(events[0])
    assert "('my', 'token')" in text
    assert "readable" in text and "writable" in text and "read closed" in text
    assert "error" not in text


def test_repr_of_a_token_that_raises(poll, events):
    class Token:
        def __repr__(self):
            raise RuntimeError("no")

    left, _ = socket_pair()
    poll.registry.register(left, Token(), WRITABLE, PollOpt.LEVEL)
    poll.poll(events, PATIENCE)
    with pytest.raises(RuntimeError, match="no"):
        repr(events[0])


def test_copying_does_no_harm(poll, events):
    left, _ = socket_pair()
    poll.registry.register(left, "t", WRITABLE, PollOpt.LEVEL)
    poll.poll(events, PATIENCE)
    for how in (copy.copy, copy.deepcopy, lambda event: pickle.loads(pickle.dumps(event))):
        try:
            made = how(events[0])
        except TypeError:
            continue
        assert (made.token, what(made)) == ("t", {"writable"})


def test_it_keeps_its_token_and_nothing_else(poll, events):
    token = object()
    left, _ = socket_pair()
    before = sys.getrefcount(token)
    poll.registry.register(left, token, WRITABLE, PollOpt.LEVEL)
    poll.poll(events, PATIENCE)
    assert sys.getrefcount(token) == before + 1
    kept = events[0]
    assert sys.getrefcount(token) == before + 2
    assert gc.get_referents(kept) == [token]
    del kept
    seen(events)
    assert sys.getrefcount(token) == before + 1
    poll.registry.deregister(left)
    assert sys.getrefcount(token) == before
