"""EventLoop and Handler."""

import contextlib
import ctypes
import errno
import gc
import math
import os
import queue
import random
import signal
import socket
import threading
import time
import warnings
import weakref

import pytest
from test_misuse import abuse
from util import (
    ALARM,
    BOTH,
    MOMENT,
    PATIENCE,
    READABLE,
    USER,
    WINDOWS,
    WRITABLE,
    Worker,
    apart,
    fill,
    in_child,
    mine,
    no_free_descriptors,
    run_python,
    same_socket,
    send_signal,
    set_alarm,
    sleeping,
    socket_pair,
    tcp_pair,
)

from metalio import Event, Interest, PollOpt
from metalio.channel import Disconnected, Full
from metalio.event_loop import EventLoop, EventLoopConfig, Handler, LoopSender, ReadHint
from metalio.net import UnixStream
from metalio.timer import Timer, TimerFull

if not WINDOWS:
    from metalio.unix import pipe

EDGE, LEVEL, ONESHOT = PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT
DATA, HUP, ERROR = ReadHint.DATA, ReadHint.HUP, ReadHint.ERROR
# Timeouts are due as soon as possible.
FINE = {"timer_tick": 1e-6}


@pytest.fixture
def make(selector):
    """Makes event loops of these settings, which are closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(EventLoop(EventLoopConfig(**settings), selector=selector))


@pytest.fixture
def loop(make):
    """One that waits for ever if nothing happens."""
    return make(io_poll_timeout=None, **FINE)


def pair():
    return tcp_pair() if WINDOWS else mine(*UnixStream.pair())


def ready_pair():
    """Two connected streams, of which the first has something to read."""
    stream, peer = pair()
    peer.write(b"x")
    return stream, peer


class Recorder(Handler):
    """Keeps a list of what it was called for, and does something then: `actions` has functions by what was called."""

    def __init__(self, **actions):
        self.calls = []
        self.actions = actions

    def did(self, loop, name, *arguments):
        self.calls.append((name, *arguments))
        action = self.actions.get(name)
        if action is not None:
            action(loop, *arguments)

    def readable(self, loop, token, hint):
        self.did(loop, "readable", token, hint)

    def writable(self, loop, token):
        self.did(loop, "writable", token)

    def notify(self, loop, message):
        self.did(loop, "notify", message)

    def timeout(self, loop, value):
        self.did(loop, "timeout", value)

    def interrupted(self, loop):
        self.did(loop, "interrupted")

    def take(self):
        """The calls so far, which are forgotten."""
        calls, self.calls = self.calls, []
        return calls


class Ticking(Recorder):
    def tick(self, loop):
        self.did(loop, "tick")


class Looking(Recorder):
    def ready(self, loop, token, event):
        self.did(loop, "ready", token, event)


def turn(loop, handler=None):
    """What one turn calls that does not wait."""
    handler = handler or Recorder()
    loop.run_once(handler, 0)
    return handler.take()


def shut_down(loop, *_):
    loop.shutdown()


class Failure(Exception):
    pass


def fail(*_):
    raise Failure


# -- Readiness --------------------------------------------------------------------------------------------------------


class TestReadiness:
    def test_level_by_default(self, loop):
        stream, _ = ready_pair()
        loop.register(stream, "t")
        assert turn(loop) == turn(loop) == [("readable", "t", DATA)]
        stream.read(1)
        assert turn(loop) == []

    def test_triggered_as_asked(self, loop):
        stream, _ = ready_pair()
        loop.register(stream, "edge", READABLE, EDGE)
        assert [turn(loop), turn(loop)] == [[("readable", "edge", DATA)], []]
        loop.reregister(stream, "once", BOTH, ONESHOT)
        assert [turn(loop), turn(loop)] == [[("readable", "once", DATA), ("writable", "once")], []]
        loop.reregister(stream, "level")
        assert turn(loop) == turn(loop) == [("readable", "level", DATA)]
        loop.deregister(stream)
        assert turn(loop) == []

    @pytest.mark.parametrize("token", [None, 0, "text", (1, 2), object()])
    def test_a_token_is_any_object(self, loop, token):
        stream, _ = ready_pair()
        loop.register(stream, token)
        ((_, got, _),) = turn(loop)
        assert got is token

    def test_what_is_refused(self, loop):
        stream, _ = pair()
        loop.register(stream, "t")
        with pytest.raises(FileExistsError):
            loop.register(stream, "t")
        with pytest.raises(FileNotFoundError):
            loop.deregister(pair()[0])
        with pytest.raises(TypeError):
            loop.reregister(stream, "t", "readable")
        with pytest.raises(TypeError):
            loop.register(3, "t")

    def test_foreign_sources_and_those_with_methods(self, loop):
        ours, theirs = socket_pair()

        class Wrapped:
            def register(self, registry, token, interest, opts):
                registry.register(ours, (self, token), interest, opts)

            def reregister(self, registry, token, interest, opts):
                registry.reregister(ours, (self, token), interest, opts)

            def deregister(self, registry):
                registry.deregister(ours)

        source = Wrapped()
        loop.register(source, "t")
        theirs.send(b"x")
        assert turn(loop) == [("readable", (source, "t"), DATA)]
        loop.reregister(source, "u", WRITABLE)
        assert turn(loop) == [("writable", (source, "u"))]
        loop.deregister(source)
        assert turn(loop) == []

    def test_hints(self, loop):
        stream, peer = ready_pair()
        loop.register(stream, "t")
        assert turn(loop) == [("readable", "t", DATA)]
        peer.shutdown("write")
        assert turn(loop) == [("readable", "t", DATA | HUP)]

    def test_a_hang_up_without_data(self, loop, selector):
        writer, reader = mine(*pipe.new())
        loop.register(reader, "t")
        writer.close()
        if selector == "kqueue":
            # For which the end is something to read, and says nothing of the other direction.
            assert turn(loop) == [("readable", "t", DATA | HUP)]
        else:
            assert turn(loop) == [("readable", "t", HUP), ("writable", "t")]

    def test_an_error(self, loop):
        stream, peer = tcp_pair()
        loop.register(stream, "t")
        with same_socket(peer) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        name, token, hint = turn(loop)[0]
        assert (name, token) == ("readable", "t")
        assert ERROR in hint

    def test_who_only_writes_hears_that_nobody_reads(self, loop, selector):
        writer, reader = mine(*pipe.new())
        loop.register(writer, "t", WRITABLE)
        fill(writer)
        assert turn(loop) == []
        reader.close()
        # For kqueue that is an end, and no error.
        error = [] if selector == "kqueue" else [("readable", "t", ERROR)]
        assert turn(loop) == [*error, ("writable", "t")]

    def test_reading_comes_before_writing(self, loop):
        stream, _ = ready_pair()
        loop.register(stream, "t", BOTH)
        assert turn(loop) == [("readable", "t", DATA), ("writable", "t")]

    @pytest.mark.parametrize("through_ready", [False, True])
    @pytest.mark.parametrize("how", ["close", "deregister", "reregister", "close the loop"])
    def test_no_writing_after_reading_ended_it(self, loop, how, through_ready):
        stream, _ = ready_pair()
        loop.register(stream, "t", BOTH)

        def action(loop, token, hint):
            if how == "close":
                stream.close()
            elif how == "deregister":
                loop.deregister(stream)
            elif how == "reregister":
                loop.reregister(stream, "u", WRITABLE)
            else:
                loop.close()

        class Through(Recorder):
            def ready(self, loop, token, event):
                super().ready(loop, token, event)

        handler = (Through if through_ready else Recorder)(readable=action)
        assert turn(loop, handler) == [("readable", "t", DATA)]
        if how != "close the loop":
            assert turn(loop, handler) == ([("writable", "u")] if how == "reregister" else [])

    def test_ready_instead(self, loop):
        stream, peer = ready_pair()
        peer.shutdown("write")
        loop.register(stream, "t", BOTH)
        ((name, token, event),) = turn(loop, Looking())
        assert (name, token) == ("ready", "t")
        assert isinstance(event, Event)
        assert event.token == "t"
        assert event.is_readable()
        assert event.is_writable()
        assert event.is_read_closed()

    def test_events_that_are_kept_stay_as_they_are(self, loop):
        streams = [ready_pair()[0] for _ in range(10)]
        for number, stream in enumerate(streams):
            loop.register(stream, number)
        calls = turn(loop, Looking())
        assert [event.token for _, _, event in calls] == [token for _, token, _ in calls]
        assert {token for _, token, _ in calls} == set(range(10))

    def test_ready_may_pass_it_on(self, loop):
        stream, peer = ready_pair()
        peer.shutdown("write")
        loop.register(stream, "t", BOTH)

        class Through(Recorder):
            def ready(self, loop, token, event):
                self.did(loop, "ready")
                super().ready(loop, token, event)
                super().ready(loop, "another", event)

        assert turn(loop, Through()) == [
            ("ready",),
            ("readable", "t", DATA | HUP),
            ("writable", "t"),
            ("readable", "another", DATA | HUP),
            ("writable", "another"),
        ]

    def test_ready_may_be_passed_an_event_of_before(self, loop):
        """Whose registration nobody can tell any more."""
        stream, _ = ready_pair()
        loop.register(stream, "t", BOTH)
        ((_, _, event),) = turn(loop, Looking())
        stream.close()
        handler = Recorder()
        handler.ready(loop, "t", event)
        assert handler.calls == [("readable", "t", DATA), ("writable", "t")]
        for wrong in (None, "event"):
            with pytest.raises(TypeError, match="expected an Event"):
                handler.ready(loop, "t", wrong)

    def test_priority_is_for_ready_only(self, loop):
        stream, peer = tcp_pair()
        loop.register(stream, "t", Interest.PRIORITY)
        with same_socket(peer) as sock:
            sock.send(b"!", socket.MSG_OOB)
        handler = Looking()
        loop.run_once(handler)
        ((_, _, event),) = handler.calls
        assert event.is_priority()
        assert turn(loop) == []

    def test_methods_that_are_not_there_are_not_missed(self, loop):
        streams = [ready_pair()[0] for _ in range(3)]
        for stream in streams:
            loop.register(stream, "t", BOTH)
        loop.channel().send("m")
        loop.timeout("v", 0)
        assert loop.run_once(Handler(), 0)
        # They were consumed all the same.
        assert {call[0] for call in turn(loop)} == {"readable", "writable"}

    def test_more_events_than_fit(self, loop):
        streams = [ready_pair()[0] for _ in range(400)]
        for number, stream in enumerate(streams):
            loop.register(stream, number)
        got = turn(loop) + turn(loop)
        assert {token for _, token, _ in got} == set(range(400))


class TestWithinABatch:
    @pytest.mark.parametrize("how", ["close", "deregister", "reregister"])
    def test_an_event_of_what_has_ended_is_dropped(self, loop, how):
        streams = {name: ready_pair()[0] for name in "ab"}
        for name, stream in streams.items():
            loop.register(stream, name)

        def action(loop, token, hint):
            other = streams["b" if token == "a" else "a"]
            if how == "close":
                other.close()
            elif how == "deregister":
                loop.deregister(other)
            else:
                loop.reregister(other, "again")

        handler = Recorder(readable=action)
        ((_, first, _),) = turn(loop, handler)
        handler.actions.clear()
        expected = {first, "again"} if how == "reregister" else {first}
        assert {token for _, token, _ in turn(loop, handler)} == expected

    def test_a_descriptor_that_is_used_again(self, loop):
        streams = {name: ready_pair()[0] for name in "ab"}
        for name, stream in streams.items():
            loop.register(stream, name)

        def action(loop, token, hint):
            other = streams.pop("b" if token == "a" else "a")
            number = other.fileno()
            other.close()
            stream, _ = ready_pair()
            assert stream.fileno() == number
            loop.register(stream, "new")

        handler = Recorder(readable=action)
        assert len(turn(loop, handler)) == 1
        handler.actions.clear()
        assert ("readable", "new", DATA) in turn(loop, handler)

    def test_a_callback_may_register(self, loop):
        stream, _ = ready_pair()
        other, _ = ready_pair()
        loop.register(stream, "t", READABLE, EDGE)
        handler = Recorder(readable=lambda loop, *_: loop.register(other, "o"))
        assert turn(loop, handler) == [("readable", "t", DATA)]
        assert turn(loop) == [("readable", "o", DATA)]


# -- Turns ------------------------------------------------------------------------------------------------------------


class TestTurns:
    def test_order(self, loop):
        stream, _ = ready_pair()
        loop.timeout("v", 0)
        loop.channel().send("m")
        loop.register(stream, "t", BOTH)
        time.sleep(0.001)
        assert turn(loop, Ticking()) == [
            ("readable", "t", DATA),
            ("writable", "t"),
            ("notify", "m"),
            ("timeout", "v"),
            ("tick",),
        ]

    def test_an_idle_turn_ticks(self, make):
        loop = make(io_poll_timeout=0.001)
        handler = Ticking(tick=lambda loop: loop.shutdown() if len(handler.calls) == 3 else None)
        begin = time.perf_counter()
        loop.run(handler)
        assert time.perf_counter() - begin >= 0.003
        assert handler.calls == [("tick",)] * 3

    @pytest.mark.parametrize("forever", [None, math.inf])
    def test_without_a_limit_a_turn_waits_for_something(self, make, forever):
        loop = make(io_poll_timeout=forever)
        sender = loop.channel()
        worker = Worker(loop.run, Ticking(notify=shut_down))
        sleeping(worker)
        sender.send("m")
        assert worker.finish().calls == [("notify", "m"), ("tick",)]

    def test_run_once_waits_as_it_is_told(self, make):
        loop = make(io_poll_timeout=0.02)
        for timeout, least in ((None, 0.02), (0.01, 0.01), (0.04, 0.04), (0, 0)):
            begin = time.perf_counter()
            assert loop.run_once(Handler(), timeout) is True
            assert time.perf_counter() - begin >= least
        stream, _ = ready_pair()
        loop.register(stream, "t")
        assert loop.run_once(Handler(), None)

    @pytest.mark.parametrize("timeout", [-1, math.nan])
    def test_run_once_with_a_timeout_that_makes_no_sense(self, loop, timeout):
        with pytest.raises(ValueError):
            loop.run_once(Handler(), timeout)
        with pytest.raises(TypeError):
            loop.run_once(Handler(), "soon")
        assert turn(loop) == []

    def test_run_gives_its_handler_back(self, loop):
        handler = Ticking(tick=shut_down)
        loop.channel().send("m")
        assert loop.run(handler) is handler
        assert handler.calls == [("notify", "m"), ("tick",)]

    def test_it_runs_again(self, loop):
        sender = loop.channel()
        for _ in range(3):
            sender.send("m")
            assert loop.run(Recorder(notify=shut_down)).calls == [("notify", "m")]

    def test_one_handler_after_the_other(self, loop):
        stream, _ = ready_pair()
        loop.register(stream, "t")
        assert loop.run(Recorder(readable=shut_down)).calls == [("readable", "t", DATA)]
        assert loop.run(Looking(ready=shut_down)).calls[0][:2] == ("ready", "t")

    def test_methods_are_looked_up_once_a_run(self, loop):
        handler = Recorder()

        def readable(loop, token, hint):
            calls.append(token)
            loop.shutdown()

        calls = []
        stream, _ = ready_pair()
        loop.register(stream, "t")
        handler.readable = readable
        loop.run(handler)
        assert (calls, handler.calls) == (["t"], [])


class TestHandlers:
    def test_any_object_with_the_methods(self, loop):
        class Own:
            def __init__(self):
                self.calls = []

            def ready(self, loop, token, event):
                self.calls.append(("ready", token))

            def notify(self, loop, message):
                self.calls.append(("notify", message))

            def timeout(self, loop, value):
                self.calls.append(("timeout", value))

            def interrupted(self, loop):
                raise AssertionError

            def tick(self, loop):
                self.calls.append("tick")

        stream, _ = ready_pair()
        loop.register(stream, "t")
        loop.channel().send("m")
        handler = Own()
        loop.run_once(handler)
        assert handler.calls[:2] == [("ready", "t"), ("notify", "m")]
        del Own.tick
        with pytest.raises(TypeError, match="tick is not a method"):
            loop.run_once(handler)
        Own.tick = 3
        with pytest.raises(TypeError, match="tick is not a method"):
            loop.run(handler)

    @pytest.mark.parametrize("wrong", [None, 3, "handler", Handler, Recorder, object(), lambda: None])
    def test_what_is_no_handler(self, loop, wrong):
        for call in (loop.run, loop.run_once):
            with pytest.raises(TypeError):
                call(wrong)
        assert not loop.is_running()

    def test_coroutines_and_generators_are_refused(self, loop):
        class Coroutine(Handler):
            async def notify(self, loop, message):
                pass

        class Generator(Handler):
            def readable(self, loop, token, hint):
                yield

        class AsyncGenerator(Handler):
            async def tick(self, loop):
                yield

        for kind, name in ((Coroutine, "notify"), (Generator, "readable"), (AsyncGenerator, "tick")):
            with pytest.raises(TypeError, match=f"{kind.__name__}.{name} is a coroutine or a generator"):
                loop.run(kind())

    def test_the_base_does_nothing(self, loop):
        handler = Handler()
        assert handler.readable(loop, "t", DATA) is None
        assert handler.writable(loop, "t") is None
        assert handler.notify(loop, "m") is None
        assert handler.timeout(loop, "v") is None
        assert handler.interrupted(loop) is None
        assert handler.tick(loop) is None

    def test_what_looking_a_method_up_raises(self, loop):
        class Strange(Handler):
            @property
            def notify(self):
                raise Failure

        with pytest.raises(Failure):
            loop.run(Strange())
        assert not loop.is_running()
        assert turn(loop) == []


# -- Messages ---------------------------------------------------------------------------------------------------------


class TestMessages:
    def test_in_order(self, loop):
        one, other = loop.channel(), loop.channel()
        assert isinstance(one, LoopSender)
        for number in range(10):
            (one if number % 2 else other).send(number)
        assert turn(loop) == [("notify", number) for number in range(10)]

    def test_they_wake_a_loop_that_sleeps(self, make):
        loop = make(io_poll_timeout=None)
        sender = loop.channel()
        worker = Worker(loop.run, Recorder(notify=shut_down))
        for _ in range(2):
            sleeping(worker)
            sender.send("m")
            assert worker.finish().calls == [("notify", "m")]
            worker = Worker(loop.run, Recorder(notify=shut_down))
        sender.send("m")
        worker.finish()

    def test_so_many_in_a_turn(self, make):
        loop = make(messages_per_tick=3)
        sender = loop.channel()
        for number in range(7):
            sender.send(number)
        # The rest does not wait.
        handler = Ticking(tick=lambda loop: loop.shutdown() if ("notify", 6) in handler.calls else None)
        loop.run(handler)
        calls = [call[-1] for call in handler.calls]
        assert calls == [0, 1, 2, "tick", 3, 4, 5, "tick", 6, "tick"]

    def test_one_that_is_sent_meanwhile_is_for_the_next_turn(self, loop):
        sender = loop.channel()
        sender.send(1)
        handler = Ticking(notify=lambda loop, message: sender.send(message + 1))
        assert turn(loop, handler) == [("notify", 1), ("tick",)]
        assert turn(loop, handler) == [("notify", 2), ("tick",)]

    def test_one_that_is_sent_before_its_turn_is_not(self, loop):
        stream, _ = ready_pair()
        loop.register(stream, "t")
        handler = Recorder(readable=lambda loop, *_: loop.channel().send("m"))
        assert turn(loop, handler) == [("readable", "t", DATA), ("notify", "m")]

    def test_full(self, make):
        loop = make(notify_capacity=2)
        sender = loop.channel()
        sender.send(1)
        loop.channel().send(2)
        message = object()
        with pytest.raises(queue.Full) as caught:
            sender.send(message)
        assert isinstance(caught.value, Full)
        assert caught.value.message is message
        assert turn(loop) == [("notify", 1), ("notify", 2)]
        sender.send(3)
        assert turn(loop) == [("notify", 3)]

    def test_what_an_exception_left_counts(self, make):
        """So there are never more than the capacity."""
        loop = make(notify_capacity=2)
        sender = loop.channel()
        sender.send(1)
        sender.send(2)
        with pytest.raises(Failure):
            turn(loop, Recorder(notify=fail))
        sender.send(3)
        with pytest.raises(queue.Full):
            sender.send(4)

    def test_disconnected(self, make):
        loop = make()
        sender = loop.channel()
        loop.close()
        with pytest.raises(Disconnected) as caught:
            sender.send("m")
        assert caught.value.message == "m"

    def test_senders_close_by_themselves(self, loop):
        with loop.channel() as sender:
            other = sender.clone()
        assert sender.closed
        with pytest.raises(ValueError):
            sender.send("m")
        other.send("m")
        other.close()
        # Without a sender of anybody's the loop goes on.
        assert turn(loop) == [("notify", "m")]
        assert turn(loop) == []
        loop.channel().send("again")
        assert turn(loop) == [("notify", "again")]

    def test_misuse(self, loop):
        sender = loop.channel()
        with pytest.raises(TypeError, match="may not be None"):
            sender.send(None)
        with pytest.raises(TypeError):
            LoopSender()
        assert "LoopSender" in repr(sender)

    def test_many_threads(self, make):
        loop = make(notify_capacity=64, messages_per_tick=16)
        threads, count = 4, 2_000

        def produce(name):
            sender = loop.channel() if not loop.is_running() else senders[name]
            for number in range(count):
                while True:
                    try:
                        sender.send((name, number))
                        break
                    except queue.Full:
                        time.sleep(0)

        senders = [loop.channel() for _ in range(threads)]
        received = [[] for _ in range(threads)]
        total = 0

        class Receiving(Handler):
            def notify(self, loop, message):
                nonlocal total
                received[message[0]].append(message[1])
                total += 1
                if total == threads * count:
                    loop.shutdown()

        worker = Worker(loop.run, Receiving())
        sleeping(worker)
        workers = [Worker(produce, name) for name in range(threads)]
        for one in workers:
            one.finish(PATIENCE * 3)
        worker.finish()
        assert received == [list(range(count))] * threads


# -- Timeouts ---------------------------------------------------------------------------------------------------------


class TestTimeouts:
    def test_never_early(self, make):
        loop = make(timer_tick=0.001, io_poll_timeout=None)
        begin = time.perf_counter()
        found = {}

        def action(loop, value):
            found[value] = time.perf_counter() - begin
            if len(found) == 3:
                loop.shutdown()

        for delay in (0.02, 0, 0.01):
            loop.timeout(delay, delay)
        loop.run(Recorder(timeout=action))
        assert list(found) == [0, 0.01, 0.02]
        assert all(elapsed >= delay for delay, elapsed in found.items())

    def test_they_end_the_waiting(self, make):
        loop = make(io_poll_timeout=None, **FINE)
        loop.timeout("v", 0.01)
        loop.run(Recorder(timeout=shut_down))

    def test_a_negative_delay(self, loop):
        loop.timeout("v", -5)
        time.sleep(0.001)
        assert turn(loop) == [("timeout", "v")]

    def test_called_off(self, loop):
        one, other = loop.timeout("one", 0), loop.timeout("other", 0)
        assert loop.clear_timeout(one) is True
        assert loop.clear_timeout(one) is False
        time.sleep(0.001)
        assert turn(loop) == [("timeout", "other")]
        assert loop.clear_timeout(other) is False

    def test_called_off_when_it_is_due_already(self, loop):
        timeouts = [loop.timeout(number, 0) for number in range(4)]
        time.sleep(0.001)

        def action(loop, value):
            if value == 0:
                assert loop.clear_timeout(timeouts[1]) is True
                assert loop.clear_timeout(timeouts[0]) is False

        assert turn(loop, Recorder(timeout=action)) == [("timeout", 0), ("timeout", 2), ("timeout", 3)]

    def test_one_that_is_set_meanwhile_is_for_the_next_turn(self, loop):
        """Even if it is due before the first is done."""

        def action(loop, value):
            loop.timeout(value + 1, 0)
            time.sleep(0.001)

        loop.timeout(1, 0)
        loop.timeout(11, 0)
        time.sleep(0.001)
        handler = Ticking(timeout=action)
        assert turn(loop, handler) == [("timeout", 1), ("timeout", 11), ("tick",)]
        assert turn(loop, handler) == [("timeout", 2), ("timeout", 12), ("tick",)]

    def test_one_that_is_due_at_once_is_for_the_next_turn(self, make):
        """With ticks as short as the clock's."""
        loop = make(timer_tick=1e-9)
        loop.timeout(0, 0)
        handler = Ticking(timeout=lambda loop, value: loop.timeout(value + 1, 0))
        for number in range(5):
            assert turn(loop, handler) == [("timeout", number), ("tick",)]

    def test_one_that_is_called_off_and_set_meanwhile(self, loop):
        """A place of the timer that is used again makes it no older."""
        timeouts = [loop.timeout(number, 0) for number in range(3)]
        time.sleep(0.001)

        def action(loop, value):
            if value == 0:
                loop.clear_timeout(timeouts[1])
                loop.timeout(9, 0)
                time.sleep(0.001)

        handler = Recorder(timeout=action)
        assert turn(loop, handler) == [("timeout", 0), ("timeout", 2)]
        assert turn(loop, handler) == [("timeout", 9)]

    def test_full(self, make):
        loop = make(timer_capacity=2)
        loop.timeout(1, 0)
        second = loop.timeout(2, 0)
        with pytest.raises(TimerFull):
            loop.timeout(3, 0)
        assert loop.clear_timeout(second)
        loop.timeout(3, 0)

    def test_no_limit(self, make):
        loop = make(timer_capacity=None)
        assert loop.timeout("v", math.inf)

    def test_misuse(self, loop):
        with pytest.raises(TypeError):
            loop.timeout(None, 1)
        with pytest.raises(TypeError):
            loop.timeout("v", "soon")
        with pytest.raises(ValueError):
            loop.timeout("v", math.nan)
        with pytest.raises(TypeError):
            loop.clear_timeout("v")
        with Timer() as timer, pytest.raises(ValueError):
            loop.clear_timeout(timer.set_timeout(1, "s"))


# -- Exceptions -------------------------------------------------------------------------------------------------------


class TestExceptions:
    def test_nothing_is_lost(self, loop):
        """Each call raises once; what comes after it is delivered by the next turns, in order, and nothing twice."""
        streams = [ready_pair()[0] for _ in range(3)]
        for number, stream in enumerate(streams):
            loop.register(stream, number, READABLE, EDGE)
        sender = loop.channel()
        for number in range(3):
            sender.send(number)
            loop.timeout(number, 0)
        time.sleep(0.001)
        handler = Recorder(readable=fail, notify=fail, timeout=fail)
        for count in range(1, 10):
            with pytest.raises(Failure):
                loop.run(handler)
            assert len(handler.calls) == count
        assert turn(loop) == []
        names, values = [call[0] for call in handler.calls], [call[1] for call in handler.calls]
        assert names == ["readable"] * 3 + ["notify"] * 3 + ["timeout"] * 3
        assert sorted(values[:3]) == [0, 1, 2]
        assert values[3:] == [0, 1, 2] * 2

    @pytest.mark.parametrize("kind", [Failure, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration])
    @pytest.mark.parametrize("where", ["ready", "readable", "writable", "notify", "timeout", "tick"])
    def test_of_any_kind_from_anywhere(self, loop, where, kind):
        def action(*_):
            raise kind

        base = Looking if where == "ready" else Recorder

        class Anywhere(base):
            def tick(self, loop):
                self.did(loop, "tick")

        stream, _ = ready_pair()
        loop.register(stream, "t", BOTH)
        loop.channel().send("m")
        loop.timeout("v", 0)
        time.sleep(0.001)
        handler = Anywhere(**{where: action})
        with pytest.raises(kind):
            loop.run(handler)
        assert not loop.is_running()
        loop.deregister(stream)
        handler.actions.clear()
        loop.run_once(handler, 0)
        names = [call[0] for call in handler.calls]
        assert names.count("notify") == names.count("timeout") == 1
        assert names[-1] == "tick"

    def test_the_next_turn_does_not_wait(self, make):
        loop = make(io_poll_timeout=None)
        streams = [ready_pair()[0] for _ in range(2)]
        for stream in streams:
            loop.register(stream, "t", READABLE, ONESHOT)
        with pytest.raises(Failure):
            loop.run(Recorder(readable=fail))
        assert loop.run(Recorder(readable=shut_down)).calls == [("readable", "t", DATA)]

    @pytest.mark.parametrize("how", ["close", "deregister", "reregister", "use again"])
    def test_what_has_ended_meanwhile_is_not_delivered(self, loop, how):
        streams = {name: ready_pair()[0] for name in "ab"}
        for name, stream in streams.items():
            loop.register(stream, name, READABLE, EDGE)
        handler = Recorder(readable=fail)
        with pytest.raises(Failure):
            turn(loop, handler)
        ((_, first, _),) = handler.take()
        left = streams["b" if first == "a" else "a"]
        other, _ = pair()
        if how == "close":
            left.close()
        elif how == "deregister":
            loop.deregister(left)
        elif how == "reregister":
            loop.reregister(left, "again", WRITABLE)
        else:
            number = left.fileno()
            left.close()
            other, _ = pair()
            assert other.fileno() == number
            loop.register(other, "other")
        assert turn(loop) == []
        assert turn(loop) == ([("writable", "again")] if how == "reregister" else [])

    def test_what_interrupted_raises(self, loop):
        stream, _ = ready_pair()
        handler = Recorder(interrupted=fail, readable=shut_down)
        with alarm(), pytest.raises(Failure):
            loop.run(handler)
        loop.register(stream, "t")
        assert loop.run(handler).calls == [("interrupted",), ("readable", "t", DATA)]

    def test_the_context_is_the_program_s_own(self, loop):
        """Not an exception of the loop's."""
        with alarm(), pytest.raises(Failure) as caught:
            loop.run(Recorder(interrupted=fail))
        assert caught.value.__context__ is None


# -- The end of a run -------------------------------------------------------------------------------------------------


class TestShutdown:
    @pytest.mark.parametrize("where", ["readable", "writable", "notify", "timeout", "tick"])
    def test_the_turn_is_finished(self, loop, where):
        stream, _ = ready_pair()
        loop.register(stream, "t", BOTH)
        loop.channel().send("m")
        loop.timeout("v", 0)
        time.sleep(0.001)
        handler = loop.run(Ticking(**{where: shut_down}))
        assert [call[0] for call in handler.calls] == ["readable", "writable", "notify", "timeout", "tick"]

    def test_what_is_left_over_is_for_the_next_run(self, make):
        loop = make(messages_per_tick=1)
        sender = loop.channel()
        for number in range(3):
            sender.send(number)
        for number in range(3):
            assert loop.run(Recorder(notify=shut_down)).calls == [("notify", number)]

    def test_run_once_says_whether_to_go_on(self, loop):
        assert loop.run_once(Handler(), 0) is True
        assert loop.run_once(Ticking(tick=shut_down), 0) is False
        assert loop.run_once(Handler(), 0) is True

    def test_before_a_run(self, make):
        """There is one turn, which does not wait."""
        loop = make(io_poll_timeout=None)
        loop.channel().send("m")
        loop.shutdown()
        loop.shutdown()
        assert loop.run(Ticking()).calls == [("notify", "m"), ("tick",)]
        loop.shutdown()
        assert loop.run(Ticking()).calls == [("tick",)]

    def test_it_counts_after_an_exception(self, make):
        loop = make(io_poll_timeout=None)
        sender = loop.channel()
        sender.send(1)
        sender.send(2)

        def action(loop, message):
            loop.shutdown()
            raise Failure

        with pytest.raises(Failure):
            loop.run(Recorder(notify=action))
        # The turn is finished, and that is all.
        assert loop.run(Ticking()).calls == [("notify", 2), ("tick",)]

    def test_it_counts_after_an_exception_also_from_another_thread(self, make):
        """Though the loop was woken up for it already."""
        loop = make(io_poll_timeout=None)
        worker = Worker(loop.run, Ticking(tick=fail))
        sleeping(worker)
        loop.shutdown()
        with pytest.raises(Failure):
            worker.finish()
        assert loop.run(Ticking()).calls == [("tick",)]

    def test_it_does_not_disturb_the_next_run(self, make):
        loop = make(io_poll_timeout=None)
        assert not loop.run_once(Ticking(tick=shut_down), 0)
        begin = time.perf_counter()
        assert loop.run_once(Handler(), 0.02)
        assert time.perf_counter() - begin >= 0.02

    def test_from_another_thread(self, make):
        loop = make(io_poll_timeout=None)
        for _ in range(3):
            worker = Worker(loop.run, Ticking())
            sleeping(worker)
            loop.shutdown()
            assert worker.finish().calls == [("tick",)]

    def test_from_a_signal_handler(self, make):
        loop = make(io_poll_timeout=None)
        with alarm(loop.shutdown):
            assert loop.run(Ticking()).calls == [("interrupted",), ("tick",)]

    def test_from_a_signal_handler_that_runs_just_before_the_loop_sleeps(self, make):
        """Which nothing interrupts then."""

        class Me:
            @classmethod
            def from_param(cls, loop):
                return ctypes.c_int(USER if WINDOWS else os.getpid())

        # A callback in C: after it no bytecode is run, so it is the loop that has Python run the handler.
        # On Windows that is raise(), which takes no heed of a second argument.
        kill = getattr(ctypes.CDLL("ucrtbase"), "raise") if WINDOWS else ctypes.CDLL(None).kill
        kill.argtypes = [Me, ctypes.c_int]
        loop = make(io_poll_timeout=None)
        before = signal.signal(USER, lambda *_: loop.shutdown())
        try:
            handler = Handler()
            handler.notify = kill
            loop.channel().send(USER.value)
            loop.run(handler)
        finally:
            signal.signal(USER, before)

    def test_is_running(self, loop):
        found = []

        class Asking(Handler):
            def notify(self, loop, message):
                found.append(loop.is_running())
                loop.shutdown()
                found.append(loop.is_running())

            def tick(self, loop):
                found.append(loop.is_running())

        loop.channel().send("m")
        assert not loop.is_running()
        loop.run(Asking())
        assert found == [True, False, False]
        assert not loop.is_running()
        assert "running" not in repr(loop)


class TestClose:
    @pytest.mark.parametrize("where", ["ready", "readable", "writable", "notify", "timeout", "interrupted", "tick"])
    def test_from_a_callback(self, make, where):
        """Nothing else is called, and the run is over."""
        loop = make(**FINE)

        class Closing(Looking if where == "ready" else Recorder):
            def tick(self, loop):
                self.did(loop, "tick")

        streams = [ready_pair()[0] for _ in range(2)]
        if where == "interrupted":
            streams = []
        else:
            loop.timeout("v", 0)
            loop.timeout("w", 0)
            time.sleep(0.001)
            for stream in streams:
                loop.register(stream, "t", BOTH)
            sender = loop.channel()
            sender.send("m")
            sender.send("n")
        handler = Closing(**{where: lambda loop, *_: loop.close()})
        with alarm() if where == "interrupted" else contextlib.nullcontext():
            assert loop.run(handler) is handler
        assert handler.calls[-1][0] == where
        assert [call[0] for call in handler.calls].count(where) == 1
        assert loop.closed
        with pytest.raises(ValueError, match="closed"):
            loop.run(handler)
        # What was registered is as it was.
        assert all(stream.read(1) == b"x" for stream in streams)

    def test_from_a_callback_of_run_once(self, make):
        loop = make()
        assert loop.run_once(Ticking(tick=lambda loop: loop.close()), 0) is False

    def test_and_an_exception(self, make):
        loop = make()

        def action(loop):
            loop.close()
            raise Failure

        with pytest.raises(Failure):
            loop.run(Ticking(tick=action))
        assert loop.closed

    def test_everything_raises_afterwards(self, make):
        loop = make()
        stream, _ = pair()
        timeout = loop.timeout("v", 1)
        assert not loop.closed
        loop.close()
        loop.close()
        assert loop.closed
        assert repr(loop) == "<EventLoop closed>"
        for call in (
            lambda: loop.register(stream, "t"),
            lambda: loop.reregister(stream, "t"),
            lambda: loop.deregister(stream),
            lambda: loop.channel(),
            lambda: loop.timeout("v", 0),
            lambda: loop.clear_timeout(timeout),
            lambda: loop.run(Handler()),
            lambda: loop.run_once(Handler()),
            lambda: loop.__enter__(),
        ):
            with pytest.raises(ValueError, match="closed EventLoop"):
                call()
        loop.shutdown()
        assert not loop.is_running()

    def test_it_lets_go_of_everything(self, make):
        class Thing:
            pass

        loop = make(**FINE)
        stream, _ = ready_pair()
        things = [Thing() for _ in range(3)]
        watched = [weakref.ref(thing) for thing in things]
        loop.register(stream, things[0])
        loop.channel().send(things[1])
        loop.timeout(things[2], 100)
        del things
        assert all(thing() is not None for thing in watched)
        loop.close()
        assert all(thing() is None for thing in watched)

    def test_a_finaliser_that_comes_back(self, make):
        class Thing:
            def __del__(self):
                called.append(self)
                loop.close()
                with contextlib.suppress(ValueError):
                    loop.timeout(self, 0)

        called = []
        loop = make()
        stream, _ = pair()
        loop.register(stream, Thing())
        loop.channel().send(Thing())
        loop.timeout(Thing(), 100)
        loop.close()
        assert len(called) == 3

    def test_unclosed_in_a_child(self, selector):
        """That is nobody's fault."""
        loops = [EventLoop(selector=selector)]

        def child():
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                loops.clear()
                gc.collect()

        in_child(child)
        loops[0].close()

    def test_unclosed(self, selector):
        loop = EventLoop(selector=selector)
        with pytest.warns(ResourceWarning, match="unclosed <EventLoop on"):
            del loop
            gc.collect()

    def test_cycles_are_collected(self, selector):
        class Thing(Handler):
            pass

        with pytest.warns(ResourceWarning):
            loop = EventLoop(selector=selector)
            handler = Thing()
            handler.loop = loop
            # A source of metalio's own knows its poll, and so the tokens.
            ours, _ = socket_pair()
            loop.register(ours, handler)
            loop.channel().send(handler)
            loop.timeout(handler, 100)
            loop.run_once(Ticking(tick=shut_down), 0)
            loop.channel().send(handler)
            watched = weakref.ref(handler), weakref.ref(loop)
            del loop, handler
            gc.collect()
        assert [one() for one in watched] == [None, None]


class TestLifetimes:
    def test_nothing_is_kept_by_having_been_delivered(self, loop):
        class Thing:
            pass

        def take(name, *arguments):
            watched.extend(weakref.ref(argument) for argument in arguments if isinstance(argument, Thing))

        class Watching(Looking):
            def did(self, loop, *arguments):
                take(*arguments)

        watched = []
        stream, _ = ready_pair()
        loop.register(stream, Thing())
        loop.channel().send(Thing())
        loop.timeout(Thing(), 0)
        time.sleep(0.001)
        loop.run_once(Watching(), 0)
        assert len(watched) == 3
        loop.deregister(stream)
        assert [one() for one in watched] == [None] * 3

    def test_nor_by_an_exception(self, loop):
        class Thing:
            pass

        token = Thing()
        watched = weakref.ref(token)
        stream, _ = ready_pair()
        loop.register(stream, token)
        try:
            loop.run(Looking(ready=fail))
        except Failure:
            pass
        del token
        loop.deregister(stream)
        assert watched() is None

    def test_a_handler_is_not_kept(self, loop):
        handler = Ticking(tick=shut_down)
        watched = weakref.ref(handler)
        loop.shutdown()
        loop.run(handler)
        loop.run_once(handler, 0)
        del handler
        assert watched() is None

    def test_a_token_that_is_released_in_a_turn_may_do_anything(self, loop):
        class Thing:
            def __del__(self):
                loop.timeout("released", 0)
                loop.shutdown()

        streams = [ready_pair()[0] for _ in range(4)]
        for stream in streams:
            loop.register(stream, Thing())
        released = []
        handler = Handler()
        handler.readable = lambda loop, token, hint: [stream.close() for stream in streams]
        handler.timeout = lambda loop, value: released.append(value)
        loop.run(handler)
        time.sleep(0.001)
        loop.run_once(handler, 0)
        assert released == ["released"] * 4


# -- Signals ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def alarm(action=None):
    """A signal after a while."""
    before = signal.signal(ALARM, lambda *_: action() if action else None)
    set_alarm(0.02)
    try:
        yield
    finally:
        set_alarm(0)
        signal.signal(ALARM, before)


class TestSignals:
    def test_interrupted(self, make):
        """After the signal's handler, and in a turn as any other."""
        loop = make(io_poll_timeout=None, **FINE)
        sender = loop.channel()

        def action():
            sender.send("m")

        handler = Ticking(tick=shut_down)
        with alarm(action):
            loop.run(handler)
        assert handler.calls in ([("interrupted",), ("notify", "m"), ("tick",)], [("notify", "m"), ("tick",)])
        with alarm():
            loop.run(handler)
        assert handler.calls[-2:] == [("interrupted",), ("tick",)]

    def test_keyboard_interrupt(self, make):
        loop = make(io_poll_timeout=None)
        main = threading.get_ident()
        timer = threading.Timer(0.02, send_signal, (main, signal.SIGINT))
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                loop.run(Handler())
        finally:
            timer.join()
        loop.channel().send("m")
        assert turn(loop) == [("notify", "m")]

    def test_in_another_thread_it_goes_on(self, make):
        loop = make(io_poll_timeout=None)
        before = signal.signal(USER, lambda *_: None)
        try:
            worker = Worker(loop.run, Ticking())
            for _ in range(3):
                sleeping(worker)
                send_signal(worker.ident, USER)
            sleeping(worker)
            loop.shutdown()
            assert worker.finish().calls == [("tick",)]
        finally:
            signal.signal(USER, before)


# -- Who may do what --------------------------------------------------------------------------------------------------


class TestReentrance:
    @pytest.mark.parametrize("where", ["ready", "readable", "notify", "timeout", "interrupted", "tick"])
    def test_a_callback_may_not_run_it(self, loop, where):
        def action(loop, *_):
            for call in (loop.run, loop.run_once):
                with pytest.raises(RuntimeError, match="running already"):
                    call(handler)
            assert loop.is_running()
            done.append(True)

        class Anywhere(Looking if where == "ready" else Ticking):
            pass

        done = []
        handler = Anywhere(**{where: action})
        stream, _ = ready_pair()
        if where != "interrupted":
            loop.register(stream, "t")
            loop.channel().send("m")
            loop.timeout("v", 0)
            time.sleep(0.001)
        with alarm() if where == "interrupted" else contextlib.nullcontext():
            loop.run_once(handler)
        assert done == [True]

    def test_a_callback_may_run_another_loop(self, loop, make):
        other = make()
        other.channel().send("m")
        inner = Recorder(notify=shut_down)
        loop.run_once(Ticking(tick=lambda loop: other.run(inner)), 0)
        assert inner.calls == [("notify", "m")]


class TestThreads:
    def test_while_it_runs_it_belongs_to_its_thread(self, make):
        loop = make(io_poll_timeout=None)
        stream, other = pair()
        loop.register(stream, "t")
        timeout = loop.timeout("v", 100)
        worker = Worker(loop.run, Handler())
        sleeping(worker)
        assert loop.is_running()
        assert "running" in repr(loop)
        for call in (
            lambda: loop.register(other, "t"),
            lambda: loop.reregister(stream, "t"),
            lambda: loop.deregister(stream),
            lambda: loop.channel(),
            lambda: loop.timeout("v", 0),
            lambda: loop.clear_timeout(timeout),
            lambda: loop.close(),
        ):
            with pytest.raises(RuntimeError, match="running in another thread"):
                call()
        for call in (loop.run, loop.run_once):
            with pytest.raises(RuntimeError, match="running already"):
                call(Handler())
        loop.shutdown()
        worker.finish()
        assert loop.clear_timeout(timeout)

    def test_one_thread_prepares_and_another_runs(self, make):
        loop = make()
        stream, _ = ready_pair()
        loop.register(stream, "t")
        assert Worker(loop.run, Recorder(readable=shut_down)).finish().calls == [("readable", "t", DATA)]
        assert loop.run(Recorder(readable=shut_down)).calls == [("readable", "t", DATA)]

    def test_many_threads_want_to_run_it(self, make):
        """One at a time does."""
        loop = make(io_poll_timeout=0.0001)
        running = []
        deadline = time.monotonic() + 0.2

        class Alone(Handler):
            def tick(self, loop):
                running.append(1)
                assert len(running) == 1
                time.sleep(0)
                running.pop()

        def insist():
            refused = turns = 0
            while time.monotonic() < deadline or not turns:
                try:
                    loop.run_once(Alone())
                    turns += 1
                except RuntimeError:
                    refused += 1
            return turns

        assert all(worker.finish() for worker in [Worker(insist) for _ in range(3)])


class TestFork:
    def test_a_child_cannot_use_it(self, loop):
        stream, _ = ready_pair()
        loop.register(stream, "t")

        def child():
            with pytest.raises(RuntimeError, match="parent process"):
                loop.run(Handler())
            loop.close()
            with EventLoop() as own:
                own.register(stream, "mine")
                assert turn(own) == [("readable", "mine", DATA)]

        in_child(child)
        assert turn(loop) == [("readable", "t", DATA)]

    def test_from_a_callback(self, loop):
        def child(loop):
            def inner():
                with pytest.raises(RuntimeError):
                    loop.run(Handler())

            in_child(inner)

        loop.run_once(Ticking(tick=child), 0)
        assert turn(loop) == []


# -- Settings ---------------------------------------------------------------------------------------------------------


class TestConfig:
    def test_defaults(self):
        config = EventLoopConfig()
        assert config.io_poll_timeout == 1
        assert config.notify_capacity == 4096
        assert config.messages_per_tick == 256
        assert config.timer_tick == 0.1
        assert config.timer_wheel_size == 1024
        assert config.timer_capacity == 65_536

    def test_they_are_what_a_loop_has(self, selector):
        with EventLoop(selector=selector) as loop:
            sender = loop.channel()
            for number in range(4096):
                sender.send(number)
            with pytest.raises(queue.Full):
                sender.send("m")
            assert len(turn(loop)) == 256
            for _ in range(65_536):
                timeout = loop.timeout("v", 1000)
            with pytest.raises(TimerFull):
                loop.timeout("v", 1000)
            assert loop.clear_timeout(timeout)

    def test_immutable_and_by_name(self):
        config = EventLoopConfig(timer_tick=1)
        assert config == EventLoopConfig(timer_tick=1) != EventLoopConfig()
        with pytest.raises(AttributeError):
            config.timer_tick = 2
        with pytest.raises(TypeError):
            EventLoopConfig(1.0)

    @pytest.mark.parametrize(
        "settings",
        [
            {"io_poll_timeout": -1},
            {"io_poll_timeout": math.nan},
            {"notify_capacity": 0},
            {"messages_per_tick": 0},
            {"timer_tick": 0},
            {"timer_tick": -1},
            {"timer_wheel_size": 0},
            {"timer_capacity": 0},
        ],
    )
    def test_what_makes_no_sense(self, selector, settings):
        with pytest.raises(ValueError):
            EventLoop(EventLoopConfig(**settings), selector=selector)

    def test_wrong_arguments(self):
        for wrong in (None, 3, "config", {}):
            with pytest.raises(TypeError, match="expected an EventLoopConfig"):
                EventLoop(wrong)
        with pytest.raises(ValueError):
            EventLoop(selector="no such")
        with pytest.raises(TypeError):
            EventLoop(EventLoopConfig(), "epoll")

    def test_the_selector(self, selector):
        with EventLoop(selector=selector) as loop:
            assert repr(loop) == f"<EventLoop on {selector}>"

    def test_out_of_descriptors(self, selector):
        with no_free_descriptors(), pytest.raises(OSError) as caught:
            EventLoop(selector=selector)
        assert caught.value.errno == errno.EMFILE


class TestReadHint:
    def test_flags(self):
        assert list(ReadHint) == [DATA, HUP, ERROR]
        assert DATA in DATA | HUP
        assert ERROR not in DATA | HUP


# -- Anything at all --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_random_program(make, seed):
    """Whatever callbacks do, and wherever they raise: everything is delivered once, in order, or was called off."""
    rng = random.Random(seed)
    loop = make(messages_per_tick=5, io_poll_timeout=0, notify_capacity=1000, **FINE)
    senders = [loop.channel() for _ in range(2)]
    sent, notified = [], []
    pending, timed, cleared = {}, [], []
    sources, written, read = {}, {}, {}
    steps = 600
    numbers = iter(range(1_000_000))

    def open_source():
        stream, peer = pair()
        token = next(numbers)
        sources[token] = (stream, peer)
        written[token], read[token] = 0, 0
        loop.register(stream, token, READABLE, EDGE)

    def close_source():
        for source in sources.pop(rng.choice(list(sources))):
            source.close()

    def act():
        """Something that a program may do."""
        nonlocal steps
        steps -= 1
        if steps < 0:
            return
        choice = rng.randrange(9)
        if choice == 0:
            open_source()
        elif choice == 1 and sources:
            close_source()
        elif choice == 2 and sources:
            token = rng.choice(list(sources))
            loop.reregister(sources[token][0], token, READABLE, EDGE)
        elif choice in (3, 4) and sources:
            token = rng.choice(list(sources))
            written[token] += sources[token][1].write(b"x" * rng.randrange(1, 10))
        elif choice == 5:
            number = next(numbers)
            sent.append(number)
            rng.choice(senders).send(number)
        elif choice == 6:
            number = next(numbers)
            pending[number] = loop.timeout(number, rng.choice([0, 0, 1e-5, 1e-3]))
        elif choice == 7 and pending:
            number = rng.choice(list(pending))
            assert loop.clear_timeout(pending.pop(number)) is True
            cleared.append(number)
        else:
            loop.shutdown()

    class Random(Handler):
        def then(self):
            for _ in range(rng.randrange(4)):
                act()
            if rng.random() < 0.2:
                raise Failure

        def readable(self, loop, token, hint):
            # Never for what was closed.
            stream, _ = sources[token]
            while (data := stream.read(4)) is not None:
                read[token] += len(data)
            self.then()

        def notify(self, loop, message):
            notified.append(message)
            self.then()

        def timeout(self, loop, value):
            del pending[value]
            timed.append(value)
            self.then()

        def tick(self, loop):
            self.then()
            if steps < 0:
                loop.shutdown()

    def done():
        return (
            steps < 0 and notified == sent and not pending and all(read[token] == written[token] for token in sources)
        )

    handler = Random()
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline
        with contextlib.suppress(Failure):
            loop.run(handler)
    assert len(set(timed)) == len(timed)
    assert not set(timed) & set(cleared)
    assert len(timed) + len(cleared) > 20
    while sources:
        close_source()


# -- Misuse -----------------------------------------------------------------------------------------------------------


def test_abuse(selector):
    """Whatever is called with whatever: it raises, or not, and does not crash."""

    def child():
        rng = random.Random(7)
        for _ in range(20):
            loop = EventLoop(EventLoopConfig(io_poll_timeout=0), selector=selector)
            stream, _ = ready_pair()
            loop.register(stream, "t")
            # So no turn waits, and no run lasts.
            loop.register(ready_pair()[0], "always")
            sender = loop.channel()
            for thing in (sender, loop):
                assert (
                    abuse(thing, rng, (stream, loop.timeout("v", 0), Ticking(tick=shut_down), EventLoopConfig())) > 10
                )
            sender.close()
            loop.close()

    apart(child)


def test_at_the_end_of_the_interpreter():
    errors = run_python("""
        from metalio.event_loop import EventLoop, Handler

        loop = EventLoop()
        loop.timeout("v", 1)
        loop.channel().send(loop)
        loop.run_once(Handler(), 0)
    """)
    assert errors == ""


def test_the_end_of_the_interpreter_while_it_runs():
    errors = run_python("""
        import threading, time
        from metalio.event_loop import EventLoop, EventLoopConfig, Handler

        loop = EventLoop(EventLoopConfig(io_poll_timeout=None))
        threading.Thread(target=loop.run, args=(Handler(),), daemon=True).start()
        while not loop.is_running():
            time.sleep(0)
    """)
    assert errors == ""


def test_waiting_lets_others_run(make):
    """A sleeping loop does not hold the GIL."""
    loop = make(io_poll_timeout=None)
    worker = Worker(loop.run, Handler())
    sleeping(worker)
    begin = time.perf_counter()
    while time.perf_counter() - begin < MOMENT:
        pass
    loop.shutdown()
    worker.finish()
