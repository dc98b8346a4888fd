"""Channels: messages from any thread to one that polls."""

import gc
import math
import queue
import signal
import sys
import threading
import time
import weakref
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from util import (
    ALARM,
    MOMENT,
    PATIENCE,
    READABLE,
    WRITABLE,
    Worker,
    disown,
    expect_events,
    expect_no_events,
    expect_only,
    in_child,
    mine,
    run_python,
    set_alarm,
    sleeping,
)

from metalio import Events, Poll, PollOpt, Source, Waker
from metalio._sys import selector_names
from metalio.bench import alloc, case, native
from metalio.channel import (
    Disconnected,
    Full,
    Receiver,
    ReceiverCtl,
    Sender,
    SenderCtl,
    SyncSender,
    channel,
    ctl_pair,
    sync_channel,
)

EDGE, LEVEL, ONESHOT = PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT


def registered(poll, token="r", opts=EDGE, bound=None):
    """A channel whose receiver is registered."""
    sender, receiver = mine(*(channel() if bound is None else sync_channel(bound)))
    poll.registry.register(receiver, token, READABLE, opts)
    return sender, receiver


def all_of(receiver):
    return list(receiver.drain())


def link_of(end):
    """What both ends of a channel have in common, as the garbage collector sees it."""
    (link,) = (thing for thing in gc.get_referents(end) if type(thing).__name__ == "MessageQueue")
    return link


def lists_of(end):
    return [thing for thing in gc.get_referents(link_of(end)) if type(thing) is list]


def waiting(end):
    """How many threads wait to send."""
    return sum(type(entry).__name__ == "Waiter" for entries in lists_of(end) for entry in entries)


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0)


def waiting_worker(sender, message, **options):
    """A thread that waits in `send`."""
    before = waiting(sender)
    worker = Worker(lambda: sender.send(message, **options))
    until(lambda: waiting(sender) == before + 1)
    return worker


def system_calls():
    """How many calls of write(2) this process has made."""
    with open("/proc/self/io") as file:
        return int(dict(line.split(":") for line in file)["syscw"])


# -- What it is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Sender, SyncSender, Receiver, SenderCtl, ReceiverCtl])
def test_ends_are_made_by_functions_only(kind):
    with pytest.raises(TypeError, match=f"cannot make a {kind.__name__} like this"):
        kind()


def test_an_end_that_was_never_finished():
    """`__new__` alone gives no way to crash."""
    for kind in (Sender, SyncSender, SenderCtl):
        end = kind.__new__(kind)
        assert end.closed
        for use in (end.clone, end.__enter__, lambda end=end: getattr(end, "inc", lambda: end.send(1))()):
            with pytest.raises(ValueError, match=f"closed {kind.__name__}"):
                use()
        end.close()
    with pytest.raises(Disconnected):
        Receiver.__new__(Receiver).try_recv()
    with pytest.raises(ValueError, match="without an inc"):
        ReceiverCtl.__new__(ReceiverCtl).dec()


def test_types():
    sender, receiver = channel()
    assert type(sender) is Sender
    assert type(receiver) is Receiver
    assert isinstance(receiver, Source)
    assert type(sync_channel(1)[0]) is SyncSender
    assert [type(half) for half in ctl_pair()] == [SenderCtl, ReceiverCtl]
    assert Sender[int].__origin__ is Sender
    assert SyncSender[int].__origin__ is SyncSender
    assert Receiver[int].__origin__ is Receiver


def test_repr():
    for end in (*channel(), *sync_channel(1), *ctl_pair()):
        name = type(end).__name__
        assert repr(end) == f"<{name}>"
        end.close()
        assert repr(end) == f"<{name} closed>"


@pytest.mark.parametrize("bound", [0, -1, -(10**9)])
def test_bounds_begin_at_one(bound):
    with pytest.raises(ValueError, match="at least 1"):
        sync_channel(bound)


@pytest.mark.parametrize("bound", [1.0, "1", None])
def test_a_bound_is_a_whole_number(bound):
    with pytest.raises(TypeError):
        sync_channel(bound)


# -- Messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [channel, lambda: sync_channel(100)])
class TestMessages:
    def test_in_order_and_the_very_objects(self, make):
        sender, receiver = make()
        messages = [object(), 0, "", False, [], (), b"x", math.nan]
        for message in messages:
            sender.send(message)
        for message in messages:
            assert receiver.try_recv() is message
        assert receiver.try_recv() is None

    def test_interleaved(self, make):
        sender, receiver = make()
        sent = received = 0
        for step in range(300):
            for _ in range(step % 7):
                sender.try_send(sent + 1)
                sent += 1
            for _ in range(step % 5):
                if received < sent:
                    received += 1
                    assert receiver.try_recv() == received
                else:
                    assert receiver.try_recv() is None
            if sent - received > 80:
                got = all_of(receiver)
                assert got == list(range(received + 1, sent + 1))
                received = sent

    def test_none_is_no_message(self, make):
        sender, receiver = make()
        for send in (sender.send, sender.try_send):
            with pytest.raises(TypeError, match="may not be None"):
                send(None)
        assert receiver.try_recv() is None

    def test_closed_ends(self, make):
        sender, receiver = make()
        sender.send(1)
        sender.close()
        sender.close()
        assert sender.closed
        for use in (lambda: sender.send(2), lambda: sender.try_send(2), sender.clone, sender.__enter__):
            with pytest.raises(ValueError, match="closed"):
                use()
        assert receiver.try_recv() == 1
        receiver.close()
        receiver.close()
        assert receiver.closed
        for use in (receiver.try_recv, lambda: all_of(receiver), receiver.__enter__):
            with pytest.raises(ValueError, match="closed Receiver"):
                use()

    def test_context_managers(self, make):
        sender, receiver = make()
        with sender as one, receiver as other:
            assert one is sender
            assert other is receiver
        assert sender.closed
        assert receiver.closed

    def test_no_reference_is_kept_or_lost(self, make):
        sender, receiver = make()
        message = object()
        before = sys.getrefcount(message)
        for _ in range(10):
            sender.send(message)
        assert sys.getrefcount(message) == before + 10
        assert receiver.try_recv() is message
        assert sys.getrefcount(message) == before + 9
        for _ in receiver.drain():
            break
        del _
        assert sys.getrefcount(message) == before + 8
        assert len(all_of(receiver)) == 8
        assert sys.getrefcount(message) == before
        for _ in range(10):
            sender.send(message)
        receiver.close()
        assert sys.getrefcount(message) == before
        with pytest.raises(Disconnected) as caught:
            sender.send(message)
        assert caught.value.message is message
        del caught
        assert sys.getrefcount(message) == before


class TestDrain:
    def test_what_is_left_by_a_loop_is_still_there(self):
        sender, receiver = channel()
        for number in range(10):
            sender.send(number)
        for number in receiver.drain():
            if number == 3:
                break
        assert receiver.try_recv() == 4
        assert all_of(receiver) == [5, 6, 7, 8, 9]

    def test_what_comes_meanwhile(self):
        sender, receiver = channel()
        sender.send(0)
        received = []
        for number in receiver.drain():
            received.append(number)
            if number < 5:
                sender.send(number + 1)
        assert received == [0, 1, 2, 3, 4, 5]

    def test_it_ends_for_good(self):
        sender, receiver = channel()
        drain = receiver.drain()
        assert iter(drain) is drain
        assert next(drain, "over") == "over"
        sender.send(1)
        assert next(drain, "over") == "over"
        assert next(receiver.drain()) == 1

    def test_it_raises_what_try_recv_raises(self):
        sender, receiver = channel()
        sender.send(1)
        sender.close()
        received = []
        with pytest.raises(Disconnected):
            received.extend(receiver.drain())
        assert received == [1]
        drain = receiver.drain()
        receiver.close()
        with pytest.raises(ValueError, match="closed Receiver"):
            next(drain)

    def test_it_keeps_the_receiver(self):
        sender, receiver = channel()
        sender.send(1)
        drain = receiver.drain()
        del receiver
        assert next(drain) == 1
        del drain
        with pytest.raises(Disconnected):
            sender.send(2)

    def test_it_is_for_receivers(self):
        kind = type(channel()[1].drain())
        for arguments in ((), (None,), (object(),)):
            with pytest.raises(TypeError):
                kind(*arguments)


# -- The end ----------------------------------------------------------------------------------------------------------


class TestDisconnecting:
    def test_what_was_sent_is_received_first(self):
        sender, receiver = channel()
        sender.send(1)
        sender.close()
        assert receiver.try_recv() == 1
        for _ in range(3):
            with pytest.raises(Disconnected, match="senders are gone") as caught:
                receiver.try_recv()
            assert caught.value.message is None

    @pytest.mark.parametrize("make", [channel, lambda: sync_channel(5)])
    def test_by_the_last_of_the_senders(self, make):
        sender, receiver = make()
        clones = [sender.clone() for _ in range(3)]
        assert type(clones[0]) is type(sender)
        sender.close()
        clones.pop().close()
        del clones[0]
        assert receiver.try_recv() is None
        clones[0].send("last")
        clones.clear()
        assert receiver.try_recv() == "last"
        with pytest.raises(Disconnected):
            receiver.try_recv()

    @pytest.mark.parametrize("make", [channel, lambda: sync_channel(5)])
    @pytest.mark.parametrize("drop", [True, False])
    def test_by_the_receiver(self, make, drop):
        sender, receiver = make()
        clone = sender.clone()
        sender.send("lost")
        if drop:
            del receiver
        else:
            receiver.close()
        message = object()
        for send in (sender.send, clone.send, sender.try_send):
            with pytest.raises(Disconnected, match="receiver is gone") as caught:
                send(message)
            assert caught.value.message is message

    def test_it_is_an_event(self, poll, events):
        sender, receiver = registered(poll)
        clone = sender.clone()
        sender.close()
        expect_no_events(poll, events)
        clone.close()
        expect_only(poll, events, "r", "readable")
        with pytest.raises(Disconnected):
            receiver.try_recv()
        expect_no_events(poll, events)

    def test_it_is_an_event_for_who_sleeps(self, poll, events):
        sender, _ = registered(poll)
        worker = Worker(poll.poll, events, PATIENCE)
        sleeping(worker)
        sender.close()
        assert worker.finish() == 1

    def test_it_is_an_event_behind_what_was_not_drained(self, poll, events):
        sender, receiver = registered(poll)
        sender.send(1)
        expect_only(poll, events, "r", "readable")
        sender.close()
        expect_only(poll, events, "r", "readable")
        assert receiver.try_recv() == 1

    def test_level_until_it_was_heard(self, poll, events):
        sender, receiver = registered(poll, opts=LEVEL)
        sender.send(1)
        sender.close()
        for _ in range(3):
            expect_only(poll, events, "r", "readable")
        assert receiver.try_recv() == 1
        expect_only(poll, events, "r", "readable")
        with pytest.raises(Disconnected):
            receiver.try_recv()
        expect_no_events(poll, events)

    def test_before_it_was_registered(self, poll, events):
        sender, receiver = mine(*channel())
        sender.close()
        poll.registry.register(receiver, "r", READABLE)
        expect_only(poll, events, "r", "readable")

    def test_both_errors_are_exceptions_of_their_kind(self):
        assert issubclass(Full, queue.Full)
        assert not issubclass(Disconnected, queue.Full)
        assert Full().message is Disconnected().message is None


# -- Readiness --------------------------------------------------------------------------------------------------------


class TestReadiness:
    def test_an_event_a_batch(self, poll, events):
        sender, receiver = registered(poll)
        expect_no_events(poll, events)
        for batch in range(3):
            for number in range(5):
                sender.send(number)
            expect_only(poll, events, "r", "readable")
            assert all_of(receiver) == [0, 1, 2, 3, 4], batch
            expect_no_events(poll, events)

    def test_a_new_edge_after_draining(self, poll, events):
        sender, receiver = registered(poll)
        for number in range(1, 20):
            sender.send(number)
            expect_only(poll, events, "r", "readable")
            assert receiver.try_recv() == number
            # The last one was taken: whether or not None was asked for.
            if number % 2:
                assert receiver.try_recv() is None

    def test_a_message_behind_others_is_an_edge(self, poll, events):
        sender, _ = registered(poll)
        sender.send(1)
        expect_only(poll, events, "r", "readable")
        expect_no_events(poll, events)
        sender.send(2)
        expect_only(poll, events, "r", "readable")
        expect_no_events(poll, events)

    def test_drained_before_it_is_polled(self, poll, events):
        sender, receiver = registered(poll)
        sender.send(1)
        assert receiver.try_recv() == 1
        expect_no_events(poll, events)
        sender.send(2)
        expect_only(poll, events, "r", "readable")

    def test_level(self, poll, events):
        sender, receiver = registered(poll, opts=LEVEL)
        sender.send(1)
        sender.send(2)
        for number in (1, 2):
            for _ in range(2):
                expect_only(poll, events, "r", "readable")
            assert receiver.try_recv() == number
        expect_no_events(poll, events)

    def test_oneshot(self, poll, events):
        sender, receiver = registered(poll, opts=ONESHOT)
        sender.send(1)
        expect_only(poll, events, "r", "readable")
        sender.send(2)
        expect_no_events(poll, events)
        assert all_of(receiver) == [1, 2]
        poll.registry.reregister(receiver, "r", READABLE, ONESHOT)
        expect_no_events(poll, events)
        sender.send(3)
        expect_only(poll, events, "r", "readable")

    def test_reregistering_tells_of_what_is_left(self, poll, events):
        sender, receiver = registered(poll)
        for number in range(10):
            sender.send(number)
        expect_only(poll, events, "r", "readable")
        receiver.try_recv()
        expect_no_events(poll, events)
        poll.registry.reregister(receiver, "again", READABLE)
        expect_only(poll, events, "again", "readable")

    def test_what_was_sent_before_counts(self, poll, events):
        sender, receiver = mine(*channel())
        sender.send(1)
        poll.registry.register(receiver, "r", READABLE)
        expect_only(poll, events, "r", "readable")

    def test_it_is_never_writable(self, poll, events):
        sender, receiver = mine(*channel())
        poll.registry.register(receiver, "r", WRITABLE)
        sender.send(1)
        expect_no_events(poll, events)

    def test_it_moves_to_another_poll(self, poll, events, selector):
        sender, receiver = registered(poll)
        sender.send(1)
        with Poll(selector=selector) as other:
            with pytest.raises(FileExistsError):
                other.registry.register(receiver, "o", READABLE)
            poll.registry.deregister(receiver)
            other.registry.register(receiver, "o", READABLE)
            expect_only(other, events, "o", "readable")
            sender.send(2)
            expect_only(other, events, "o", "readable")
            expect_no_events(poll, events)

    def test_closing_drops_the_event_and_the_token(self, poll, events):
        class Token:
            pass

        token = Token()
        gone = weakref.ref(token)
        sender, receiver = registered(poll, token)
        del token
        sender.send(1)
        assert poll.poll(events, 0) == 1
        receiver.close()
        assert list(events) == []
        assert gone() is None
        expect_no_events(poll, events)

    @pytest.mark.parametrize("bound", [None, 5000])
    def test_one_wake_up_for_a_batch(self, poll, bound):
        """The poll is woken by one system call, and nothing else makes any."""
        sender, receiver = registered(poll, bound=bound)
        for _ in range(3):
            worker = Worker(poll.poll, Events(), PATIENCE)
            sleeping(worker)
            before = system_calls()
            for number in range(3000):
                sender.send(number)
            made = system_calls() - before
            assert worker.finish() == 1
            assert made == 1
            assert all_of(receiver) == list(range(3000))

    def test_beside_other_sources(self, poll, events):
        sender, _ = registered(poll)
        waker = mine(Waker(poll.registry, "w"))
        waker.wake()
        sender.send(1)
        expect_events(poll, events, {"r": "readable", "w": "readable"})

    def test_from_a_signal_handler(self, poll, events):
        sender, receiver = registered(poll)
        before = signal.signal(ALARM, lambda *_: sender.send("signal"))
        try:
            set_alarm(MOMENT)
            expect_only(poll, events, "r", "readable")
        finally:
            set_alarm(0)
            signal.signal(ALARM, before)
        assert receiver.try_recv() == "signal"


# -- Bounded ----------------------------------------------------------------------------------------------------------


class TestBounded:
    @pytest.mark.parametrize("bound", [1, 2, 17])
    def test_full(self, bound):
        sender, receiver = sync_channel(bound)
        for round in range(3):
            for number in range(bound):
                sender.send(number)
            message = object()
            for send in (
                lambda: sender.try_send(message),  # noqa: B023
                lambda: sender.send(message, timeout=0),  # noqa: B023
                lambda: sender.send(message, timeout=0.001),  # noqa: B023
                lambda: sender.clone().try_send(message),  # noqa: B023
            ):
                with pytest.raises(queue.Full, match="channel is full") as caught:
                    send()
                assert caught.value.message is message
            assert receiver.try_recv() == 0
            sender.try_send(round)
            assert all_of(receiver) == [*range(1, bound), round]

    def test_a_timeout_is_kept(self):
        sender, receiver = sync_channel(1)
        sender.send(1)
        begin = time.perf_counter()
        with pytest.raises(Full):
            sender.send(2, timeout=0.03)
        assert time.perf_counter() - begin >= 0.03
        assert waiting(sender) == 0
        assert all_of(receiver) == [1]

    @pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, -math.inf])
    def test_timeouts_that_are_none(self, timeout):
        sender, _receiver = sync_channel(1)
        with pytest.raises(ValueError, match="from 0 on, or None"):
            sender.send(1, timeout=timeout)

    def test_timeouts_of_other_types(self):
        sender, receiver = sync_channel(1)
        with pytest.raises(TypeError):
            sender.send(1, timeout="1")
        sender.send(1, timeout=True)
        assert receiver.try_recv() == 1

    @pytest.mark.parametrize("timeout", [None, math.inf, 1e300, PATIENCE])
    def test_it_waits_for_room(self, timeout):
        sender, receiver = mine(*sync_channel(1))
        sender.send(1)
        worker = waiting_worker(sender, 2, timeout=timeout)
        assert receiver.try_recv() == 1
        worker.finish()
        assert receiver.try_recv() == 2
        assert waiting(sender) == 0

    @pytest.mark.parametrize("bound", [1, 2, 5])
    def test_in_turn(self, bound):
        """Who waits gets the place, in order; nobody comes before, not even for a place that is free."""
        sender, receiver = mine(*sync_channel(bound))
        for number in range(bound):
            sender.send(number)
        workers = [waiting_worker(sender, bound + number) for number in range(4)]
        for received in range(bound + 4):
            while (message := receiver.try_recv()) is None:
                time.sleep(0)
            assert message == received
            if workers:
                with pytest.raises(Full):
                    sender.try_send("overtaking")
                workers.pop(0).finish()

    @pytest.mark.parametrize("drop", [True, False])
    def test_the_receiver_goes(self, drop):
        sender, receiver = sync_channel(1)
        sender.send(1)
        messages = [object(), object()]
        workers = [waiting_worker(sender, message) for message in messages]
        if drop:
            del receiver
        else:
            receiver.close()
        for worker, message in zip(workers, messages, strict=True):
            with pytest.raises(Disconnected) as caught:
                worker.finish()
            assert caught.value.message is message

    def test_the_sender_is_closed(self):
        sender, receiver = mine(*sync_channel(1))
        clone = mine(sender.clone())
        sender.send(1)
        worker = waiting_worker(sender, 2)
        other = waiting_worker(clone, 3)
        sender.close()
        with pytest.raises(ValueError, match="closed SyncSender"):
            worker.finish()
        assert waiting(clone) == 1
        assert receiver.try_recv() == 1
        other.finish()
        assert receiver.try_recv() == 3

    def test_a_sender_in_a_wait_is_not_dropped(self):
        sender, receiver = sync_channel(1)
        sender.send(1)
        worker = waiting_worker(sender, 2)
        del sender
        assert receiver.try_recv() == 1
        until(lambda: receiver.try_recv() == 2)
        worker.finish()

    def test_who_gives_up_leaves_no_gap(self):
        sender, receiver = mine(*sync_channel(1))
        sender.send(1)
        first = waiting_worker(sender, 2, timeout=0.02)
        second = waiting_worker(sender, 3)
        with pytest.raises(Full):
            first.finish()
        assert receiver.try_recv() == 1
        second.finish()
        assert receiver.try_recv() == 3
        sender.try_send(4)

    def test_a_message_that_was_waited_for_is_an_event(self, poll, events):
        sender, receiver = registered(poll, bound=1)
        sender.send(1)
        worker = waiting_worker(sender, 2)
        expect_only(poll, events, "r", "readable")
        assert receiver.try_recv() == 1
        assert poll.poll(events, PATIENCE) == 1
        assert receiver.try_recv() == 2
        worker.finish()


class Interrupted(Exception):
    pass


class TestSignals:
    """Of a `send` that waits, in the main thread."""

    @pytest.fixture
    def alarm(self):
        """Sets a handler, which is called again and again."""
        before = signal.getsignal(ALARM)

        def set_handler(handler):
            signal.signal(ALARM, lambda *_: handler())
            set_alarm(MOMENT, MOMENT)

        yield set_handler
        set_alarm(0)
        signal.signal(ALARM, before)

    def test_it_goes_on_waiting(self, alarm):
        sender, receiver = sync_channel(1)
        sender.send(1)
        calls = []

        def handler():
            calls.append(waiting(sender))
            if len(calls) == 3:
                receiver.try_recv()

        alarm(handler)
        sender.send(2, timeout=PATIENCE)
        assert calls[:3] == [1, 1, 1]
        assert receiver.try_recv() == 2

    def test_a_timeout_is_kept(self, alarm):
        sender, _receiver = sync_channel(1)
        sender.send(1)
        alarm(lambda: None)
        begin = time.perf_counter()
        with pytest.raises(Full):
            sender.send(2, timeout=MOMENT * 5)
        assert MOMENT * 5 <= time.perf_counter() - begin < PATIENCE

    def test_a_handler_that_raises(self, alarm):
        sender, receiver = sync_channel(1)
        sender.send(1)

        def handler():
            raise Interrupted

        alarm(handler)
        with pytest.raises(Interrupted):
            sender.send(2)
        set_alarm(0)
        assert waiting(sender) == 0
        assert all_of(receiver) == [1]
        sender.try_send(3)
        assert all_of(receiver) == [3]

    def test_a_handler_that_makes_room_and_raises(self, alarm):
        """The place was given already: the message is not sent all the same, and the place is not lost."""
        sender, receiver = sync_channel(1)
        sender.send(1)

        def handler():
            assert receiver.try_recv() == 1
            raise Interrupted

        alarm(handler)
        with pytest.raises(Interrupted):
            sender.send(2)
        set_alarm(0)
        assert receiver.try_recv() is None
        sender.try_send(3)
        assert all_of(receiver) == [3]

    def test_the_place_of_who_was_interrupted_goes_to_the_next(self, alarm):
        sender, receiver = mine(*sync_channel(1))
        sender.send(1)
        workers = []

        def handler():
            if not workers:
                workers.append(waiting_worker(sender, 3))
                assert receiver.try_recv() == 1
                raise Interrupted

        alarm(handler)
        with pytest.raises(Interrupted):
            sender.send(2)
        set_alarm(0)
        workers[0].finish()
        assert all_of(receiver) == [3]

    @pytest.mark.parametrize("who", ["receiver", "sender"])
    def test_a_handler_that_closes(self, alarm, who):
        sender, receiver = sync_channel(1)
        sender.send(1)
        alarm({"receiver": receiver, "sender": sender}[who].close)
        with pytest.raises(Disconnected if who == "receiver" else ValueError):
            sender.send(2)

    def test_a_handler_that_sends(self, alarm):
        """On the same channel, and in vain."""
        sender, receiver = sync_channel(1)
        sender.send(1)
        refused = []

        def handler():
            with pytest.raises(Full):
                sender.send("nested", timeout=0.001)
            refused.append(True)
            if len(refused) == 2:
                receiver.try_recv()

        alarm(handler)
        sender.send(2)
        assert receiver.try_recv() == 2


# -- Lifetime ---------------------------------------------------------------------------------------------------------


class Thing:
    pass


class TestLifetime:
    def test_a_sender_does_not_keep_the_receiver(self, poll):
        sender, receiver = registered(poll)
        weak = weakref.ref(receiver)
        disown(receiver)
        del receiver
        assert weak() is None
        with pytest.raises(Disconnected):
            sender.send(1)

    def test_messages_are_released_as_they_are_received(self):
        sender, receiver = channel()
        gone = []
        for _ in range(5):
            thing = Thing()
            gone.append(weakref.ref(thing))
            sender.send(thing)
        del thing
        for weak in gone:
            assert weak() is not None
            receiver.try_recv()
            assert weak() is None

    @pytest.mark.parametrize("drop", [True, False])
    def test_messages_are_released_with_the_receiver(self, drop):
        sender, receiver = channel()
        gone = []
        for step in range(6):
            thing = Thing()
            gone.append(weakref.ref(thing))
            sender.send(thing)
            if step == 3:
                receiver.try_recv()
        del thing
        if drop:
            del receiver
        else:
            receiver.close()
        assert [weak() for weak in gone] == [None] * 6

    def test_cycles_are_collected(self):
        """Through messages, by way of either end."""
        for make in (channel, lambda: sync_channel(10)):
            for position in (0, 1):
                ends = make()
                thing = Thing()
                thing.end = ends[position]
                weak = weakref.ref(thing)
                ends[0].send(Thing())
                ends[0].send(thing)
                if position:
                    ends[1].try_recv()  # so that it is in the other list
                del ends, thing
                gc.collect()
                assert weak() is None

    def test_a_sender_in_its_own_channel(self):
        sender, receiver = channel()
        weak = weakref.ref(sender)
        sender.send(sender)
        del sender
        assert weak() is not None
        receiver.close()
        assert weak() is None

    def test_a_million_messages(self):
        sender, receiver = channel()
        for number in range(1_000_000):
            sender.send(number)
        assert receiver.try_recv() == 0
        receiver.close()
        with pytest.raises(Disconnected):
            sender.send(1)

    def test_receivers_within_receivers(self):
        """What is released releases what it has: not by ever deeper calls."""
        run_python("""
            from metalio.channel import channel

            keep = []
            inner = object()
            for _ in range(100_000):
                sender, receiver = channel()
                sender.send(inner)
                inner = receiver
            del inner, receiver
        """)

    def test_memory_is_given_back_after_a_burst(self):
        sender, receiver = channel()
        for number in range(100_000):
            sender.send(number)
        assert sum(map(sys.getsizeof, lists_of(sender))) > 800_000
        assert len(all_of(receiver)) == 100_000
        assert sum(map(sys.getsizeof, lists_of(sender))) < 100_000

    @pytest.mark.parametrize("batch", [1, 2, 100])
    @pytest.mark.skipif(native.compiler() is None, reason="needs a C compiler")
    def test_nothing_is_allocated_once_it_is_warm(self, batch):
        sender, receiver = channel()
        messages = [object()] * batch

        def run(cycles):
            for _ in alloc.repeat(None, cycles):
                for message in messages:
                    sender.send(message)
                for _ in messages:
                    receiver.try_recv()

        def without(cycles):
            for _ in alloc.repeat(None, cycles):
                for message in messages:
                    id(message)

        try:
            with native.directory():
                counter = alloc.Counter()
                assert counter.per_cycle(run, 200)[:2] == [0, 0]
                # A loop over a list has an iterator.
                assert counter.per_cycle(run, 200)[2] - 1 <= counter.per_cycle(without, 200)[2] + 1
        except case.Unavailable as error:
            pytest.skip(str(error))

    def test_finalisers_may_do_what_they_like(self, poll):
        """A message that is released by closing, in the midst of it, uses both ends."""
        seen = []

        class Message:
            def __del__(self):
                seen.append(receiver.closed)
                for use in (receiver.try_recv, lambda: all_of(receiver), receiver.close, lambda: sender.send(Thing())):
                    try:
                        use()
                    except (ValueError, Disconnected) as error:
                        seen.append(type(error))

        sender, receiver = registered(poll)
        sender.send(Message())
        sender.send(Message())
        receiver.close()
        assert seen == [True, ValueError, ValueError, Disconnected] * 2

    def test_a_finaliser_that_sends(self):
        class Message:
            def __del__(self):
                sender.send("from the end")

        sender, receiver = channel()
        sender.send(Message())
        assert receiver.try_recv() is not None
        assert receiver.try_recv() == "from the end"

    def test_collections_at_any_moment(self):
        """Finalisers that use a channel run while lists grow, ends are made and closed, and threads wait."""
        sender, receiver = mine(*channel())
        bounded, other = mine(*sync_channel(4))
        count = 0

        class Cycle:
            def __init__(self):
                self.me = self

            def __del__(self):
                nonlocal count
                count += 1
                sender.send(count)
                with sender.clone():
                    try:
                        bounded.try_send(count)
                    except Full:
                        other.try_recv()

        before = gc.get_threshold()
        gc.set_threshold(1)
        try:
            received = 0
            for number in range(3000):
                Cycle()
                sender.clone().send(number)
                bounded.clone().close()
                if number % 3 == 0:
                    received += len(all_of(receiver))
        finally:
            gc.set_threshold(*before)
        gc.collect()
        received += len(all_of(receiver))
        assert count == 3000
        assert received == 6000

    def test_at_interpreter_exit(self, selector):
        run_python(f"""
            import sys
            from metalio import Interest, Poll
            from metalio.channel import channel, ctl_pair, sync_channel

            poll = Poll(selector={selector!r})
            for pair in (channel(), sync_channel(3), ctl_pair()):
                poll.registry.register(pair[1], pair, Interest.READABLE)
                sys.__dict__.setdefault("keep", []).append(pair)
                if hasattr(pair[0], "send"):
                    pair[0].send(pair)
            poll.close()
        """)

    def test_across_a_fork(self, poll, events):
        sender, receiver = registered(poll, bound=1)
        sender.send(1)
        worker = waiting_worker(sender, 2)

        def child():
            # Its own copy of everything, but without the other thread.
            assert receiver.try_recv() == 1
            with pytest.raises(Full):
                sender.send(3, timeout=0.01)  # the place belongs to who waited
            sender.close()
            receiver.close()

        in_child(child)
        expect_only(poll, events, "r", "readable")
        assert receiver.try_recv() == 1
        worker.finish()
        assert receiver.try_recv() == 2


# -- Against a model --------------------------------------------------------------------------------------------------


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 3), st.integers(1, 5)),
        st.tuples(st.just("receive"), st.integers(1, 4)),
        st.just(("drain",)),
        st.just(("poll",)),
        st.just(("arm",)),
        st.tuples(st.just("clone"), st.integers(0, 3)),
        st.tuples(st.just("close"), st.integers(0, 3)),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=300)
@given(
    operations=OPERATIONS,
    bound=st.none() | st.integers(1, 6),
    opts=st.sampled_from([EDGE, LEVEL, ONESHOT]),
    selector=st.sampled_from(selector_names()),
)
def test_against_a_deque_per_sender(operations, bound, opts, selector):
    """Messages, errors and events are those of the model, whatever is done in which order."""
    sender, receiver = channel() if bound is None else sync_channel(bound)
    senders = [sender]
    # The model: what each sender has sent, in one order over all; and whether the poll is to report something.
    sent = [deque()]
    order = deque()
    edge = False
    heard = False
    armed = True
    number = 0
    events = Events()

    def readable():
        return bool(order) or (not senders and not heard)

    def receive():
        nonlocal heard
        if order:
            message = receiver.try_recv()
            who = order.popleft()
            assert message == sent[who].popleft()
        elif senders:
            assert receiver.try_recv() is None
        else:
            with pytest.raises(Disconnected):
                receiver.try_recv()
            heard = True

    live = {0: sender}
    with Poll(selector=selector) as poll, receiver:
        poll.registry.register(receiver, "r", READABLE, opts)
        for operation, *arguments in operations:
            if operation == "send":
                who, count = arguments
                for _ in range(count if who in live else 0):
                    number += 1
                    if bound is not None and len(order) == bound:
                        with pytest.raises(Full) as caught:
                            live[who].try_send((who, number))
                        assert caught.value.message == (who, number)
                    else:
                        live[who].send((who, number))
                        sent[who].append((who, number))
                        order.append(who)
                        edge = True
            elif operation == "receive":
                for _ in range(arguments[0]):
                    receive()
            elif operation == "drain":
                received = []
                try:
                    received.extend(receiver.drain())
                except Disconnected:
                    assert not senders
                    heard = True
                for message in received:
                    assert message == sent[order.popleft()].popleft()
                assert not order
            elif operation == "poll":
                expected = armed and readable() and (edge or opts is LEVEL)
                assert poll.poll(events, 0) == expected
                edge = False
                if expected and opts is ONESHOT:
                    armed = False
            elif operation == "arm":
                poll.registry.reregister(receiver, "r", READABLE, opts)
                armed = edge = True
            elif operation == "clone":
                if arguments[0] in live and len(sent) < 4:
                    live[len(sent)] = live[arguments[0]].clone()
                    senders.append(live[len(sent)])
                    sent.append(deque())
            elif arguments[0] in live:
                gone = live.pop(arguments[0])
                senders.remove(gone)
                gone.close()
                if not senders:
                    edge = True
        while order:
            receive()
        receive()
    for left in live.values():
        with pytest.raises(Disconnected):
            left.try_send("late")


# -- Threads ----------------------------------------------------------------------------------------------------------


def produce(sender, who, count):
    for number in range(count):
        sender.send((who, number))
    sender.close()


def consume(poll, receiver, expected):
    """Receive until the end; every producer's messages in order, none lost and none twice."""
    events = Events()
    following = dict.fromkeys(range(expected), 0)
    while True:
        assert poll.poll(events, PATIENCE), "no event came"
        for _ in events:
            try:
                for who, number in receiver.drain():
                    assert number == following[who], f"{number} of {who} instead of {following[who]}"
                    following[who] = number + 1
            except Disconnected:
                return following


@pytest.mark.parametrize(
    ("bound", "count"), [(None, 250_000), (1000, 100_000), (7, 5_000), (1, 2_000)], ids=["unbounded", "1000", "7", "1"]
)
@pytest.mark.parametrize("opts", [EDGE, LEVEL], ids=["edge", "level"])
def test_none_lost_and_none_twice(poll, bound, count, opts):
    sender, receiver = registered(poll, bound=bound, opts=opts)
    workers = [Worker(produce, sender.clone(), who, count) for who in range(4)]
    sender.close()
    assert consume(poll, receiver, 4) == dict.fromkeys(range(4), count)
    for worker in workers:
        worker.finish()


def test_one_at_a_time(poll):
    """Nothing is sent before the one before it was received: each is an event, and a wake-up."""
    there, receiver = registered(poll)
    back, answers = mine(*channel())

    def answer():
        with Poll() as other:
            other.registry.register(answers, None, READABLE)
            events = Events()
            for number in range(2000):
                assert other.poll(events, PATIENCE) == 1
                assert answers.try_recv() == number
                there.send(number + 1)

    worker = Worker(answer)
    events = Events()
    for number in range(2000):
        back.send(number)
        assert poll.poll(events, PATIENCE) == 1
        assert receiver.try_recv() == number + 1
    worker.finish()


def test_several_receivers_on_polls_of_their_own():
    polls = [mine(Poll()) for _ in range(3)]
    pairs = [registered(poll, bound=bound) for poll, bound in zip(polls, [None, 50, None], strict=True)]
    consumers = [Worker(consume, poll, receiver, 3) for poll, (_, receiver) in zip(polls, pairs, strict=True)]

    def produce_for_all(who):
        senders = [sender.clone() for sender, _ in pairs]
        started.wait(PATIENCE)
        for number in range(5000):
            for sender in senders:
                sender.send((who, number))
        for sender in senders:
            sender.close()

    started = threading.Barrier(4)
    producers = [Worker(produce_for_all, who) for who in range(3)]
    started.wait(PATIENCE)
    for sender, _ in pairs:
        sender.close()
    for worker in producers:
        worker.finish()
    for consumer in consumers:
        assert consumer.finish() == dict.fromkeys(range(3), 5000)


def test_several_threads_receive(poll):
    """Each message goes to one of them."""
    sender, receiver = registered(poll, opts=LEVEL)
    count = 20_000

    def receive():
        events = Events()
        received = []
        while True:
            assert poll.poll(events, PATIENCE) == 1
            try:
                for _ in range(10):
                    message = receiver.try_recv()
                    if message == "stop":
                        return received
                    if message is not None:
                        received.append(message)
            except Disconnected:
                return received

    receivers = [Worker(receive) for _ in range(3)]
    producers = [Worker(lambda who=who: [sender.send((who, n)) for n in range(count)]) for who in range(2)]
    for worker in producers:
        worker.finish()
    for _ in receivers:
        sender.send("stop")
    everything = []
    for worker in receivers:
        received = worker.finish()
        for who in range(2):
            numbers = [number for sent_by, number in received if sent_by == who]
            assert numbers == sorted(numbers)
        everything += received
    assert sorted(everything) == [(who, number) for who in range(2) for number in range(count)]


@pytest.mark.parametrize("bound", [None, 3])
def test_the_receiver_goes_while_others_send(bound):
    for _ in range(5):
        sender, receiver = channel() if bound is None else sync_channel(bound)
        sent = [0, 0, 0]

        def send(who, sender=sender, sent=sent):
            with pytest.raises(Disconnected):
                while True:
                    sender.send((who, sent[who]))
                    sent[who] += 1

        workers = [Worker(send, who) for who in range(3)]
        received = []
        until(lambda received=received, receiver=receiver: received.extend(receiver.drain()) or len(received) > 100)
        receiver.close()
        for worker in workers:
            worker.finish()
        for who in range(3):
            numbers = [number for sent_by, number in received if sent_by == who]
            assert numbers == list(range(len(numbers)))
            assert len(numbers) <= sent[who]


def test_senders_come_and_go_while_others_send(poll):
    sender, receiver = registered(poll, bound=20)

    def produce_by_many(who):
        for number in range(1000):
            with sender.clone() as clone:
                clone.send((who, number))

    workers = [Worker(produce_by_many, who) for who in range(3)]
    consumer = Worker(consume, poll, receiver, 3)
    for worker in workers:
        worker.finish()
    sender.close()
    assert consumer.finish() == dict.fromkeys(range(3), 1000)


def test_timeouts_while_others_receive(poll):
    """A message was sent, or it was refused: never both."""
    sender, receiver = registered(poll, bound=2)
    accepted = [[], []]

    def send(who):
        for number in range(1500):
            try:
                sender.send((who, number), timeout=0.00005)
                accepted[who].append((who, number))
            except Full as error:
                assert error.message == (who, number)

    workers = [Worker(send, who) for who in range(2)]
    received = []
    while any(worker.is_alive() for worker in workers):
        received.extend(receiver.drain())
        time.sleep(0)
    received.extend(receiver.drain())
    for worker in workers:
        worker.finish()
    for who in range(2):
        assert [message for message in received if message[0] == who] == accepted[who]
    sender.try_send(1)
    sender.try_send(2)


# -- Readiness for a queue of one's own -------------------------------------------------------------------------------


class TestCtlPair:
    @pytest.fixture
    def pair(self, poll):
        sender, receiver = mine(*ctl_pair())
        poll.registry.register(receiver, "c", READABLE)
        return sender, receiver

    def test_counting(self, poll, events, pair):
        sender, receiver = pair
        expect_no_events(poll, events)
        sender.inc()
        sender.inc()
        expect_only(poll, events, "c", "readable")
        receiver.dec()
        expect_no_events(poll, events)
        sender.inc()
        expect_only(poll, events, "c", "readable")
        receiver.dec()
        receiver.dec()
        expect_no_events(poll, events)
        sender.inc()
        expect_only(poll, events, "c", "readable")

    def test_level(self, poll, events):
        sender, receiver = mine(*ctl_pair())
        poll.registry.register(receiver, "c", READABLE, LEVEL)
        sender.inc()
        sender.inc()
        for _ in range(2):
            expect_only(poll, events, "c", "readable")
            receiver.dec()
        expect_no_events(poll, events)

    def test_more_dec_than_inc(self, pair):
        sender, receiver = pair
        with pytest.raises(ValueError, match="without an inc"):
            receiver.dec()
        sender.inc()
        receiver.dec()
        with pytest.raises(ValueError, match="without an inc"):
            receiver.dec()

    def test_the_last_sender_goes(self, poll, events, pair):
        sender, receiver = pair
        clone = sender.clone()
        clone.inc()
        sender.close()
        expect_only(poll, events, "c", "readable")
        assert not receiver.is_disconnected()
        del clone
        expect_only(poll, events, "c", "readable")
        assert receiver.is_disconnected()
        receiver.dec()

    def test_it_stays_readable_then(self, poll, events):
        sender, receiver = mine(*ctl_pair())
        poll.registry.register(receiver, "c", READABLE, LEVEL)
        sender.inc()
        sender.close()
        receiver.dec()
        for _ in range(2):
            expect_only(poll, events, "c", "readable")
        receiver.close()
        expect_no_events(poll, events)

    @pytest.mark.parametrize("drop", [True, False])
    def test_the_receiver_goes(self, drop):
        sender, receiver = ctl_pair()
        if drop:
            del receiver
        else:
            receiver.close()
            with pytest.raises(ValueError, match="closed ReceiverCtl"):
                receiver.dec()
        with pytest.raises(Disconnected):
            sender.inc()
        sender.close()
        with pytest.raises(ValueError, match="closed SenderCtl"):
            sender.inc()

    def test_with_a_queue(self, poll, events, pair):
        sender, receiver = pair
        items = queue.SimpleQueue()

        def put(who):
            for number in range(5000):
                items.put((who, number))
                sender.inc()

        workers = [Worker(put, who) for who in range(3)]
        received = []
        while len(received) < 15_000:
            assert poll.poll(events, PATIENCE) == 1
            try:
                while True:
                    received.append(items.get_nowait())
                    # A sender may be between the two.
                    until(lambda: announced(receiver))
            except queue.Empty:
                pass
        for worker in workers:
            worker.finish()
        for who in range(3):
            assert [number for sent_by, number in received if sent_by == who] == list(range(5000))
        expect_no_events(poll, events)


def announced(receiver):
    try:
        receiver.dec()
    except ValueError:
        return False
    return True
