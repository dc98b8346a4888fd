"""Events: the storage of a batch."""

import copy
import gc
import os
import socket
import sys
import weakref

import pytest
from util import PATIENCE, READABLE, WRITABLE, Worker, expect_no_events, seen, sleeping, socket_pair, tcp_pair

from metalio import Event, Events, Poll, PollOpt
from metalio.net import TcpStream

LEVEL = PollOpt.LEVEL


def ready_sockets(poll, count):
    """So many registered sockets that are writable; their tokens are their numbers."""
    sockets = [socket_pair()[0] for _ in range(count)]
    for number, sock in enumerate(sockets):
        poll.registry.register(sock, number, WRITABLE, LEVEL)
    return sockets


# -- Making one -------------------------------------------------------------------------------------------------------


def test_new():
    events = Events()
    assert events.capacity == 1024
    assert len(events) == 0 and not events and events.is_empty()
    assert list(events) == []
    assert repr(events) == "<Events: 0 of 1024>"


@pytest.mark.parametrize("capacity", [1, 2, 7, 100_000])
def test_capacity(capacity):
    assert Events(capacity).capacity == capacity
    assert Events(capacity=capacity).capacity == capacity
    assert Events.with_capacity(capacity).capacity == capacity


@pytest.mark.parametrize("capacity", [0, -1, -(1 << 40), 1 << 40, sys.maxsize, 1 << 62])
def test_capacity_that_cannot_be(capacity):
    with pytest.raises(ValueError, match="capacity"):
        Events(capacity)
    with pytest.raises(ValueError, match="capacity"):
        Events.with_capacity(capacity)


@pytest.mark.parametrize("capacity", [1 << 64, -(1 << 64)])
def test_capacity_beyond_all_numbers(capacity):
    with pytest.raises((ValueError, OverflowError)):
        Events(capacity)


@pytest.mark.parametrize("capacity", [None, "8", 8.0, [], object()])
def test_capacity_of_a_wrong_type(capacity):
    with pytest.raises(TypeError):
        Events(capacity)


def test_a_huge_one_can_be_used(poll):
    events = Events(1 << 22)
    ready_sockets(poll, 3)
    assert poll.poll(events, 0) == 3


def test_capacity_cannot_be_changed():
    events = Events(4)
    with pytest.raises(AttributeError):
        events.capacity = 5
    with pytest.raises(AttributeError):
        events.anything = 1
    with pytest.raises(TypeError):
        type("Mine", (Events,), {})


def test_it_cannot_be_copied():
    for how in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            how(Events())


# -- Using one --------------------------------------------------------------------------------------------------------


def test_length_truth_and_clear(poll):
    events = Events(8)
    ready_sockets(poll, 3)
    assert poll.poll(events, 0) == 3
    assert len(events) == 3 and events and not events.is_empty()
    assert repr(events) == "<Events: 3 of 8>"
    events.clear()
    assert len(events) == 0 and not events and events.is_empty() and list(events) == []
    with pytest.raises(IndexError):
        events[0]


def test_each_poll_replaces_what_was_there(poll):
    events = Events(8)
    sockets = ready_sockets(poll, 3)
    assert poll.poll(events, 0) == 3
    for sock in sockets:
        poll.registry.deregister(sock)
    assert poll.poll(events, 0) == 0
    assert len(events) == 0 and list(events) == []


def test_indexing(poll):
    events = Events(8)
    ready_sockets(poll, 3)
    poll.poll(events, 0)
    assert isinstance(events[0], Event)
    assert [events[index].token for index in range(3)] == [event.token for event in events]
    assert [events[index].token for index in (-3, -2, -1)] == [event.token for event in events]
    for index in (3, -4, 100, sys.maxsize, -sys.maxsize):
        with pytest.raises(IndexError):
            events[index]
    for index in (None, "0", 0.0, slice(0, 2)):
        with pytest.raises(TypeError):
            events[index]


def test_several_iterators_at_once(poll):
    events = Events(8)
    ready_sockets(poll, 3)
    poll.poll(events, 0)
    tokens = [event.token for event in events]
    assert [(one.token, other.token) for one, other in zip(events, events, strict=True)] == [
        (token, token) for token in tokens
    ]
    iterator = iter(events)
    assert iter(iterator) is iterator
    next(iterator)
    assert [event.token for event in iterator] == tokens[1:]
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(iterator)


def test_an_iterator_of_nothing():
    with pytest.raises(StopIteration):
        next(iter(Events()))
    iterator = type(iter(Events()))
    with pytest.raises((StopIteration, TypeError)):
        next(iterator.__new__(iterator))


def test_what_does_not_fit_comes_with_the_next_poll(poll):
    ready_sockets(poll, 10)
    events = Events(3)
    found = set()
    # Every one of them has its turn, whichever come first.
    for _ in range(4):
        assert poll.poll(events, 0) == 3
        found.update(event.token for event in events)
    assert found == set(range(10))


def test_edges_that_do_not_fit_are_not_lost(poll):
    for number in range(5):
        poll.registry.register(tcp_pair()[0], number, WRITABLE)
    events = Events(2)
    tokens = []
    while poll.poll(events, 0):
        tokens += [event.token for event in events]
    assert sorted(tokens) == list(range(5))


def test_one_that_is_filled_by_several_polls_in_turn(selector):
    events = Events(8)
    with Poll(selector=selector) as first, Poll(selector=selector) as second:
        ready_sockets(first, 2)
        ready_sockets(second, 3)
        assert first.poll(events, 0) == 2
        assert second.poll(events, 0) == 3
        assert len(seen(events)) == 3
        assert first.poll(events, 0) == 2
        assert len(seen(events)) == 2


# -- Stale events -----------------------------------------------------------------------------------------------------


def test_deregistering_drops_later_events(poll, events):
    sockets = ready_sockets(poll, 6)
    assert poll.poll(events, 0) == 6
    delivered = []
    for event in events:
        delivered.append(event.token)
        for sock in sockets:
            if sock is not sockets[event.token]:
                poll.registry.deregister(sock)
        sockets = [sockets[event.token]]
    assert len(delivered) == 1
    assert len(events) == 6


def test_reregistering_drops_later_events(poll, events):
    sockets = ready_sockets(poll, 2)
    assert poll.poll(events, 0) == 2
    iterator = iter(events)
    other = 1 - next(iterator).token
    poll.registry.reregister(sockets[other], "new", WRITABLE, LEVEL)
    assert list(iterator) == []
    assert poll.poll(events, 0) == 2
    assert {event.token for event in events} == {1 - other, "new"}


def test_deregistering_and_registering_again_drops_later_events(poll, events):
    sockets = ready_sockets(poll, 2)
    assert poll.poll(events, 0) == 2
    iterator = iter(events)
    other = 1 - next(iterator).token
    poll.registry.deregister(sockets[other])
    poll.registry.register(sockets[other], "new", WRITABLE, LEVEL)
    assert list(iterator) == []


def test_indexing_what_is_stale(poll, events):
    sockets = ready_sockets(poll, 2)
    poll.poll(events, 0)
    gone = events[0].token
    poll.registry.deregister(sockets[gone])
    with pytest.raises(IndexError, match="stale"):
        events[0]
    assert events[1].token == 1 - gone
    assert len(events) == 2 and events
    assert len(seen(events)) == 1


def test_a_descriptor_that_is_used_again_within_a_batch(poll, events):
    """The classic: an event of the old file must not be taken for one of the new."""
    first, second = tcp_pair()
    poll.registry.register(first, "first", WRITABLE, LEVEL)
    poll.registry.register(second, "second", WRITABLE, LEVEL)
    assert poll.poll(events, 0) == 2
    iterator = iter(events)
    survivor, victim = (first, second) if next(iterator).token == "first" else (second, first)
    with survivor.try_clone() as clone:
        number = victim.fileno()
        victim.close()
        os.dup2(clone.fileno(), number, inheritable=False)
    with TcpStream.from_socket(socket.socket(fileno=number)) as clone:
        assert clone.fileno() == number
        poll.registry.register(clone, "impostor", WRITABLE, LEVEL)
        assert list(iterator) == []


def test_closing_the_poll_during_iteration(poll, events):
    ready_sockets(poll, 5)
    assert poll.poll(events, 0) == 5
    delivered = 0
    for event in events:
        delivered += 1
        assert event.token in range(5)
        poll.close()
    assert delivered == 1
    assert len(events) == 5
    with pytest.raises(IndexError):
        events[3]
    events.clear()
    assert len(events) == 0


def test_clearing_during_iteration(poll, events):
    ready_sockets(poll, 5)
    poll.poll(events, 0)
    delivered = 0
    for _ in events:
        delivered += 1
        events.clear()
    assert delivered == 1


def test_polling_during_iteration_with_the_same_events(poll, events):
    ready_sockets(poll, 5)
    poll.poll(events, 0)
    delivered = 0
    for event in events:
        delivered += 1
        assert event.token in range(5)
        assert poll.poll(events, 0) == 5
    assert delivered == 5


def test_polling_during_iteration_until_nothing_is_there(poll, events):
    sockets = ready_sockets(poll, 5)
    poll.poll(events, 0)
    for event in events:
        poll.registry.deregister(sockets[event.token])
        poll.poll(events, 0)
    assert len(events) in (0, 1, 2)


def test_other_events_while_iterating(poll, events):
    ready_sockets(poll, 5)
    poll.poll(events, 0)
    other = Events()
    assert [poll.poll(other, 0) for _ in events] == [5] * 5


# -- Threads ----------------------------------------------------------------------------------------------------------


def test_two_threads_cannot_fill_the_same(poll, events):
    left, right = socket_pair()
    poll.registry.register(left, "t", READABLE, LEVEL)
    worker = Worker(poll.poll, events, PATIENCE)
    sleeping(worker)
    with pytest.raises(RuntimeError, match="each thread"):
        poll.poll(events, 0)
    with pytest.raises(RuntimeError, match="each thread"):
        poll.poll_interruptible(events, 0)
    with pytest.raises(RuntimeError, match="each thread"):
        events.clear()
    assert len(events) == 0 and list(events) == []
    assert poll.poll(Events(), 0) == 0
    right.send(b"x")
    assert worker.finish() == 1
    assert seen(events) == [("t", {"readable"})]
    left.recv(10)
    expect_no_events(poll, events)


def test_another_poll_cannot_fill_it_meanwhile(poll, events, selector):
    worker = Worker(poll.poll, events, PATIENCE)
    sleeping(worker)
    with Poll(selector=selector) as other, pytest.raises(RuntimeError):
        other.poll(events, 0)
    poll.close()
    with pytest.raises(ValueError):
        worker.finish()
    events.clear()


# -- References -------------------------------------------------------------------------------------------------------


class Thing:
    pass


def test_it_keeps_neither_poll_nor_sources_nor_tokens(selector, events):
    poll = Poll(selector=selector)
    left, right = socket_pair()
    token = Thing()
    alive = [weakref.ref(token), weakref.ref(poll)]
    poll.registry.register(left, token, READABLE, LEVEL)
    right.send(b"x")
    assert poll.poll(events, PATIENCE) == 1
    for event in events:
        assert event.token is token
        break
    del event
    poll.close()
    del poll, token
    assert [reference() for reference in alive] == [None, None]
    assert len(events) == 1 and list(events) == []


def test_breaking_out_of_an_iteration_keeps_nothing_alive(poll, events):
    tokens = [Thing() for _ in range(3)]
    alive = [weakref.ref(token) for token in tokens]
    sockets = [socket_pair()[0] for _ in tokens]
    for sock, token in zip(sockets, tokens, strict=True):
        poll.registry.register(sock, token, WRITABLE, LEVEL)
    del tokens, token
    poll.poll(events, 0)
    for event in events:
        assert event.is_writable()
        break
    del event
    for sock in sockets:
        poll.registry.deregister(sock)
    assert [reference() for reference in alive] == [None] * 3


def test_an_exhausted_iterator_keeps_nothing_alive(poll, events):
    tokens = [Thing() for _ in range(3)]
    alive = [weakref.ref(token) for token in tokens]
    sockets = [socket_pair()[0] for _ in tokens]
    for sock, token in zip(sockets, tokens, strict=True):
        poll.registry.register(sock, token, WRITABLE, LEVEL)
    del tokens, token
    poll.poll(events, 0)
    iterator = iter(events)
    assert sum(event.is_writable() for event in iterator) == 3
    for sock in sockets:
        poll.registry.deregister(sock)
    assert [reference() for reference in alive] == [None] * 3
    assert list(iterator) == []


def test_an_event_that_nobody_keeps_is_the_next_one(poll, events):
    """Iterating allocates nothing as long as no event is kept: the same memory serves for each."""
    ready_sockets(poll, 20)
    poll.poll(events, 0)
    places = set()
    for event in events:
        places.add(id(event))
    # The loop variable holds one while the next is made.
    assert len(places) <= 2
    kept = list(events)
    assert len({id(event) for event in kept}) == 20
    assert sorted(event.token for event in kept) == list(range(20))


def test_an_abandoned_iterator_keeps_the_events_only():
    events = Events()
    iterator = iter(events)
    assert [thing for thing in gc.get_referents(iterator) if thing is not None] == [events]
    before = sys.getrefcount(events)
    del iterator
    assert sys.getrefcount(events) == before - 1


def exhausted(poll, events):
    """An iterator that has come to its end, after three events."""
    ready_sockets(poll, 3)
    poll.poll(events, 0)
    iterator = iter(events)
    assert len(list(iterator)) == 3
    return iterator


def test_an_iterator_is_used_again(poll, events):
    """By the next loop, unless somebody keeps it; one that is kept stays at its end."""
    kept = exhausted(poll, events)
    place = id(kept)
    other = iter(events)
    assert other is not kept
    assert list(kept) == []
    assert len(list(other)) == 3
    assert list(kept) == []
    del other
    assert id(iter(events)) != place


def test_an_iterator_that_nobody_keeps_is_used_again(poll, events):
    iterator = exhausted(poll, events)
    place = id(iterator)
    # Something else would be put in its place if that were free.
    del iterator
    others = [iter(Events()) for _ in range(20)]
    assert place not in map(id, others)
    assert id(iter(events)) == place


def test_an_iterator_at_its_end_does_not_keep_the_events():
    """Nor do the events and the iterator that they will use again keep each other."""
    before = len([thing for thing in gc.get_objects() if type(thing) is Events])
    gc.disable()
    try:
        for _ in range(10):
            events = Events()
            assert list(events) == []
            assert list(events) == []
        del events
        assert len([thing for thing in gc.get_objects() if type(thing) is Events]) == before
    finally:
        gc.enable()
