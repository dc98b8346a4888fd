"""Signals: PEP 475, and poll_interruptible."""

import contextlib
import math
import signal
import threading
import time

import pytest
from util import (
    ALARM,
    MOMENT,
    PATIENCE,
    READABLE,
    USER,
    WRITABLE,
    Worker,
    expect_only,
    fill,
    run_python,
    seen,
    send_signal,
    set_alarm,
    sleeping,
    socket_pair,
    tcp_pair,
)

from metalio import Events, PollOpt, Waker

LEVEL = PollOpt.LEVEL


class Handler:
    """Counts its calls, and does something in them."""

    def __init__(self, action=None):
        self.calls = 0
        self.action = action

    def __call__(self, number, frame):
        self.calls += 1
        if self.action is not None:
            self.action()


@contextlib.contextmanager
def alarm(action=None, first=0.02, every=0.0):
    """A signal after a while, once or over and over."""
    handler = Handler(action)
    before = signal.signal(ALARM, handler)
    set_alarm(first, every)
    try:
        yield handler
    finally:
        set_alarm(0)
        signal.signal(ALARM, before)


@pytest.fixture(params=["cold", "hot"])
def events(poll, request):
    """Events that no poll has filled yet, and some whose last batch was not empty."""
    events = Events(64)
    if request.param == "hot":
        left, _ = socket_pair()
        poll.registry.register(left, "t", WRITABLE, LEVEL)
        poll.poll(events, 0)
        poll.registry.deregister(left)
    return events


def test_waiting_goes_on_after_a_handler(poll, events):
    with alarm() as handler:
        begin = time.monotonic()
        assert poll.poll(events, 0.15) == 0
        assert time.monotonic() - begin >= 0.15
        assert handler.calls == 1


def test_many_signals_do_not_make_it_longer_or_shorter(poll, events):
    with alarm(first=0.005, every=0.005) as handler:
        begin = time.monotonic()
        assert poll.poll(events, 0.3) == 0
        elapsed = time.monotonic() - begin
    assert 0.3 <= elapsed < PATIENCE
    assert handler.calls > 5


@pytest.mark.parametrize("timeout", [None, math.inf, PATIENCE])
def test_what_comes_after_a_signal_is_reported(poll, events, timeout):
    left, right = socket_pair()
    poll.registry.register(left, "t", READABLE, LEVEL)
    with alarm(lambda: right.send(b"x")) as handler:
        assert poll.poll(events, timeout) == 1
        assert seen(events) == [("t", {"readable"})]
        assert handler.calls == 1


@pytest.mark.parametrize("method", ["poll", "poll_interruptible"])
def test_exceptions_of_a_handler_propagate(poll, events, method):
    class Interrupted(Exception):
        pass

    def action():
        raise Interrupted

    with alarm(action), pytest.raises(Interrupted):
        getattr(poll, method)(events, PATIENCE)
    # All is as before.
    left, _ = socket_pair()
    poll.registry.register(left, "t", WRITABLE, LEVEL)
    expect_only(poll, events, "t", "writable")
    events.clear()


def test_keyboard_interrupt(poll, events):
    main = threading.get_ident()

    def interrupt():
        send_signal(main, signal.SIGINT)

    timer = threading.Timer(0.02, interrupt)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            poll.poll(events)
    finally:
        timer.join()


def test_whichever_thread_the_kernel_would_wake(poll, events):
    """Others that poll the same set sleep on."""
    workers = [Worker(poll.poll, Events(), PATIENCE) for _ in range(3)]
    for worker in workers:
        sleeping(worker)
    main = threading.get_ident()
    for _ in range(10):
        timer = threading.Timer(0.005, send_signal, (main, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            poll.poll(events, PATIENCE)
        timer.join()
    assert all(worker.is_alive() for worker in workers)
    Waker(poll.registry, "w").wake()
    poll.close()
    for worker in workers:
        with contextlib.suppress(ValueError):
            assert worker.finish() == 1


def test_a_signal_that_was_handled_ends_no_later_wait(poll, events):
    handler = Handler()
    before = signal.signal(ALARM, handler)
    try:
        for _ in range(20):
            signal.raise_signal(ALARM)
            assert poll.poll_interruptible(events, 0.002) == 0
        with pytest.raises(InterruptedError):
            set_alarm(0.02)
            poll.poll_interruptible(events, PATIENCE)
        assert poll.poll_interruptible(events, 0.02) == 0
    finally:
        set_alarm(0)
        signal.signal(ALARM, before)
    assert handler.calls == 21


def test_interruptible(poll, events):
    with alarm() as handler:
        with pytest.raises(InterruptedError) as caught:
            poll.poll_interruptible(events, PATIENCE)
        assert caught.value.errno is not None
        assert handler.calls == 1
    assert len(events) == 0
    assert poll.poll_interruptible(events, 0) == 0


def test_interruptible_for_ever(poll, events):
    with alarm(), pytest.raises(InterruptedError):
        poll.poll_interruptible(events)


def test_interruptible_without_a_signal(poll, events):
    begin = time.monotonic()
    assert poll.poll_interruptible(events, 0.02) == 0
    assert time.monotonic() - begin >= 0.02
    left, _ = socket_pair()
    poll.registry.register(left, "t", WRITABLE, LEVEL)
    assert poll.poll_interruptible(events) == 1


def test_interruptible_in_another_thread_is_not(poll, events):
    """Handlers run in the main thread, whichever the kernel has chosen."""
    handler = Handler()
    before = signal.signal(USER, handler)
    try:
        worker = Worker(poll.poll_interruptible, events, PATIENCE)
        sleeping(worker)
        for _ in range(3):
            send_signal(worker.ident, USER)
            sleeping(worker)
        deadline = time.monotonic() + PATIENCE
        while not handler.calls:
            assert time.monotonic() < deadline
        assert worker.is_alive()
        waker = Waker(poll.registry, "w")
        waker.wake()
        assert worker.finish() == 1
    finally:
        signal.signal(USER, before)


def test_a_thread_that_is_hit_waits_on(poll, events):
    before = signal.signal(USER, Handler())
    try:
        worker = Worker(poll.poll, events, None)
        for _ in range(5):
            sleeping(worker)
            send_signal(worker.ident, USER)
        worker.join(MOMENT)
        assert worker.is_alive()
        poll.close()
        with pytest.raises(ValueError):
            worker.finish()
    finally:
        signal.signal(USER, before)


@pytest.mark.parametrize("method", ["poll", "poll_interruptible"])
def test_a_handler_that_closes_the_poll(poll, events, method):
    with alarm(poll.close) as handler:
        with pytest.raises((ValueError, InterruptedError)):
            getattr(poll, method)(events, PATIENCE)
        assert handler.calls == 1
    assert poll.closed
    with pytest.raises(ValueError):
        poll.poll(events, 0)


def test_a_handler_that_closes_the_poll_at_its_last_moment(poll):
    """Closed is closed, whether the time is up or not."""

    def action():
        poll.close()
        time.sleep(0.05)

    with alarm(action, first=0.02), pytest.raises(ValueError, match="closed"):
        poll.poll(Events(), 0.04)


def test_a_handler_that_polls(poll, events):
    left, right = socket_pair()
    poll.registry.register(left, "t", READABLE, PollOpt.ONESHOT)
    found = []

    def action():
        # The same events are being filled.
        with pytest.raises(RuntimeError, match="being filled"):
            poll.poll(events, 0)
        with pytest.raises(RuntimeError, match="being filled"):
            events.clear()
        other = Events()
        right.send(b"x")
        poll.poll(other, PATIENCE)
        found.extend(seen(other))

    with alarm(action) as handler:
        assert poll.poll(events, 0.1) == 0
        assert handler.calls == 1
    assert found == [("t", {"readable"})]


def test_a_handler_that_registers(poll, events):
    left, _ = socket_pair()
    with alarm(lambda: poll.registry.register(left, "t", WRITABLE, LEVEL)):
        assert poll.poll(events, PATIENCE) == 1
    assert seen(events) == [("t", {"writable"})]


def test_a_handler_that_deregisters_and_drops(poll, events):
    streams = [tcp_pair()]
    poll.registry.register(streams[0][0], "t", READABLE)

    def action():
        poll.registry.deregister(streams[0][0])
        streams[0][0].close()
        streams.clear()

    with alarm(action) as handler:
        assert poll.poll(events, 0.1) == 0
        assert handler.calls == 1


def test_a_handler_during_iteration(poll):
    """Handlers run between any two steps of a loop over a batch, and may end every registration."""
    events = Events()
    sources = [socket_pair()[0] for _ in range(10)]
    for number, source in enumerate(sources):
        poll.registry.register(source, number, WRITABLE, LEVEL)
    assert poll.poll(events, 0) == 10

    def action():
        for source in sources:
            with contextlib.suppress(FileNotFoundError):
                poll.registry.deregister(source)

    with alarm(action, first=0.001) as handler:
        begin = time.monotonic()
        while not handler.calls and time.monotonic() - begin < PATIENCE:
            # CPython 3.11 may overlook a signal as long as it runs bytecode only.
            time.sleep(0)
            for event in events:
                assert event.token in range(10)
    assert list(events) == []
    assert len(events) == 10


def test_transfers_are_not_disturbed(poll):
    """Reads and writes that do not block are not cut short by signals either."""
    stream, peer = tcp_pair()
    total = received = 0
    data = bytes(1 << 20)
    buffer = bytearray(1 << 20)
    with alarm(first=0.001, every=0.001) as handler:
        begin = time.monotonic()
        while handler.calls < 20 and time.monotonic() - begin < PATIENCE:
            total += stream.write(data) or 0
            received += peer.readinto(buffer) or 0
    total += fill(stream)
    while received < total:
        received += peer.readinto(buffer) or 0
    assert received == total


def test_the_wakeup_descriptor_of_the_signal_module(poll, events):
    """signal.set_wakeup_fd with a socket that is registered: the event comes, and the handler runs."""
    left, right = socket_pair()
    poll.registry.register(left, "signal", READABLE, LEVEL)
    before = signal.set_wakeup_fd(right.fileno())
    try:
        with alarm() as handler:
            assert poll.poll(events, PATIENCE) == 1
            assert seen(events) == [("signal", {"readable"})]
            assert left.recv(10) == bytes([ALARM])
            assert handler.calls == 1
    finally:
        signal.set_wakeup_fd(before)


def test_stopped_and_continued(selector):
    """A process that was stopped goes on waiting."""
    run_python(f"""
        import os, signal, subprocess, sys, time
        from metalio import Events, Poll

        with Poll(selector={selector!r}) as poll:
            pid = os.getpid()
            child = os.fork()
            if child == 0:
                for _ in range(3):
                    os.kill(pid, signal.SIGSTOP)
                    os.kill(pid, signal.SIGCONT)
                os._exit(0)
            begin = time.monotonic()
            assert poll.poll(Events(), 0.2) == 0
            assert time.monotonic() - begin >= 0.2
            os.waitpid(child, 0)
    """)


def test_ctrl_c_ends_a_program(selector):
    """The whole way: a signal from outside, the default handler, and an exit."""
    run_python(f"""
        import signal, threading
        from metalio import Events, Poll

        with Poll(selector={selector!r}) as poll:
            threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
            try:
                # Python sees to it that the main thread is the one that is interrupted, if the kernel picks it.
                poll.poll(Events(), 10)
            except KeyboardInterrupt:
                pass
            else:
                raise SystemExit("not interrupted")
    """)


def test_signals_that_are_ignored_or_blocked(poll, events):
    before = signal.signal(USER, signal.SIG_IGN)
    try:
        worker = Worker(poll.poll_interruptible, events, 0.1)
        signal.raise_signal(USER)
        assert worker.finish() == 0
        timer = threading.Timer(0.02, signal.raise_signal, [USER])
        timer.start()
        assert poll.poll_interruptible(Events(), 0.1) == 0
        timer.join()
    finally:
        signal.signal(USER, before)
