"""metalio.signal.Signals on Windows; test_signal.py is for those of Unix."""

import contextlib
import gc
import io
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest
from util import (
    PATIENCE,
    READABLE,
    Worker,
    close_all,
    count_fds,
    expect_no_events,
    expect_only,
    mine,
    seen,
    sleeping,
)

from metalio import Events, Poll, PollOpt, Source
from metalio.signal import Signals

if sys.platform != "win32":
    pytest.skip("for Windows", allow_module_level=True)

EDGE, LEVEL, ONESHOT = PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT
INT, BREAK, TERM = signal.SIGINT, signal.SIGBREAK, signal.SIGTERM
raise_signal = signal.raise_signal


@pytest.fixture(autouse=True)
def all_is_as_before():
    before = {number: signal.getsignal(number) for number in (INT, BREAK, TERM)}
    yield
    close_all()
    assert {number: signal.getsignal(number) for number in before} == before
    # Python's own is in place again.
    with pytest.raises(KeyboardInterrupt):
        raise_signal(INT)
        time.sleep(PATIENCE)


@contextlib.contextmanager
def handling(number, handler):
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def listen(*numbers):
    return mine(Signals(numbers))


@pytest.mark.parametrize("opts", [EDGE, LEVEL, ONESHOT], ids=repr)
@pytest.mark.parametrize("number", [INT, BREAK, TERM])
def test_a_signal_is_an_event(poll, events, number, opts):
    signals = listen(number)
    poll.registry.register(signals, "s", READABLE, opts)
    expect_no_events(poll, events)
    for _ in range(3):
        raise_signal(number)
        expect_only(poll, events, "s", "readable")
        if opts is not LEVEL:
            expect_no_events(poll, events)
        assert list(signals.pending()) == [number]
        assert list(signals.pending()) == []
        expect_no_events(poll, events)
        if opts is ONESHOT:
            poll.registry.reregister(signals, "s", READABLE, opts)


def test_each_is_given_once_in_order(poll, events):
    signals = listen(TERM, INT, BREAK)
    poll.registry.register(signals, "s", READABLE)
    for number in (BREAK, TERM, INT, BREAK, BREAK, INT):
        raise_signal(number)
    expect_only(poll, events, "s", "readable")
    assert list(signals.pending()) == [INT, TERM, BREAK]
    assert all(isinstance(number, signal.Signals) for number in signals.numbers)
    assert signals.numbers == {INT, BREAK, TERM}


def test_what_came_before_it_was_registered(poll, events):
    signals = listen(INT)
    raise_signal(INT)
    poll.registry.register(signals, "s", READABLE)
    expect_only(poll, events, "s", "readable")
    poll.registry.deregister(signals)
    expect_no_events(poll, events)
    poll.registry.register(signals, "t", READABLE)
    expect_only(poll, events, "t", "readable")
    assert list(signals.pending()) == [INT]
    poll.registry.deregister(signals)
    raise_signal(INT)
    poll.registry.register(signals, "u", READABLE)
    expect_only(poll, events, "u", "readable")


def test_a_loop_that_is_left_loses_nothing(poll, events):
    signals = listen(INT, TERM, BREAK)
    poll.registry.register(signals, "s", READABLE)
    for number in (INT, TERM, BREAK):
        raise_signal(number)
    for expected in (INT, TERM, BREAK):
        expect_only(poll, events, "s", "readable")
        for number in signals.pending():
            assert number is expected
            break
    expect_no_events(poll, events)


def test_it_wakes_a_thread_that_sleeps(poll, events):
    signals = listen(INT)
    poll.registry.register(signals, "s", READABLE)
    worker = Worker(poll.poll, events, PATIENCE)
    sleeping(worker)
    raise_signal(INT)
    assert worker.finish() == 1
    assert list(signals.pending()) == [INT]


def test_it_wakes_the_main_thread(poll, events):
    signals = listen(INT)
    poll.registry.register(signals, "s", READABLE)
    worker = Worker(lambda: (time.sleep(0.05), raise_signal(INT)))
    assert poll.poll(events, PATIENCE) == 1
    worker.finish()
    assert list(signals.pending()) == [INT]


@pytest.mark.parametrize("number", [INT, TERM])
def test_a_handler_of_the_program_runs_as_well(poll, events, number):
    ran = []
    with handling(number, lambda *arguments: ran.append(arguments[0])):
        with listen(number) as signals:
            poll.registry.register(signals, "s", READABLE)
            for count in (1, 2, 3):
                raise_signal(number)
                expect_only(poll, events, "s", "readable")
                assert list(signals.pending()) == [number]
                assert ran == [number] * count
        raise_signal(number)
        raise_signal(number)
        assert ran == [number] * 5


def test_a_handler_interrupts_a_sleep():
    """As it does without this."""
    ran = []
    with handling(INT, lambda *_: ran.append(time.monotonic())), listen(INT):
        worker = Worker(lambda: (time.sleep(0.05), raise_signal(INT)))
        begin = time.monotonic()
        time.sleep(0.5)
        worker.finish()
        assert len(ran) == 1
        assert ran[0] - begin < 0.4


def test_nobody_dies_of_it_until_it_is_closed():
    code = (
        "import signal; from metalio.signal import Signals\n"
        "for number in (signal.SIGTERM, signal.SIGBREAK, signal.SIGINT):\n"
        "    with Signals([number]) as signals:\n"
        "        for _ in range(3): signal.raise_signal(number)\n"
        "        assert list(signals.pending()) == [number]\n"
        "print('alive', flush=True)\n"
        "signal.raise_signal(signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE * 3)
    assert done.stdout.split() == ["alive"], done.stderr
    assert done.returncode


def test_each_hears_it(poll, events):
    first, second = listen(INT), listen(INT, TERM)
    poll.registry.register(first, 1, READABLE)
    with Poll() as other:
        other.registry.register(second, 2, READABLE)
        raise_signal(INT)
        expect_only(poll, events, 1, "readable")
        expect_only(other, events, 2, "readable")
        assert list(first.pending()) == list(second.pending()) == [INT]
        first.close()
        raise_signal(INT)
        raise_signal(TERM)
        expect_only(other, events, 2, "readable")
        assert list(second.pending()) == [INT, TERM]


def test_what_one_has_heard_is_not_the_next_ones():
    with listen(INT):
        raise_signal(INT)
    with listen(INT) as signals:
        assert list(signals.pending()) == []


def test_a_later_handler_replaces_it(poll, events):
    ran = []
    signals = listen(TERM)
    poll.registry.register(signals, "s", READABLE)
    with handling(TERM, lambda *_: ran.append(1)):
        raise_signal(TERM)
        assert (ran, list(signals.pending())) == ([1], [])
        assert signals.reinstall() == {TERM}
        assert signals.reinstall() == frozenset()
        raise_signal(TERM)
        expect_only(poll, events, "s", "readable")
        assert (ran, list(signals.pending())) == ([1, 1], [TERM])
        signals.close()
        raise_signal(TERM)
        assert ran == [1, 1, 1]


def test_closing_leaves_a_later_handler_alone():
    ran = []
    signals = listen(TERM)
    with handling(TERM, lambda *_: ran.append(1)):
        signals.close()
        raise_signal(TERM)
        assert ran == [1]


def test_in_one_poll_after_another(events):
    signals = listen(INT)
    for number in range(20):
        with Poll() as poll:
            poll.registry.register(signals, number, READABLE)
            if number % 3:
                raise_signal(INT)
                expect_only(poll, events, number, "readable")
            if number % 2:
                assert len(list(signals.pending())) <= 1
                poll.registry.deregister(signals)
        raise_signal(INT)


def test_a_storm(poll, events):
    """However many come, the last one is heard; and nobody is touched that was closed.

    One thread sends them: of two at once the C library may send one to the default action.
    """
    signals = listen(INT)
    poll.registry.register(signals, "s", READABLE)
    stop = threading.Event()

    def storm():
        while not stop.is_set():
            raise_signal(INT)

    worker = Worker(storm)
    try:
        for number in range(200):
            assert poll.poll(events, PATIENCE)
            assert list(signals.pending()) in ([INT], [])
            with Signals([INT]) as other:
                if number % 2:
                    poll.registry.register(other, "o", READABLE)
    finally:
        stop.set()
        worker.finish()
    list(signals.pending())
    raise_signal(INT)
    while "s" not in [token for token, _ in seen(events)]:
        assert poll.poll(events, PATIENCE)
    assert list(signals.pending()) == [INT]


@pytest.mark.parametrize(
    ("numbers", "error", "message"),
    [
        ({1}, ValueError, "Windows has"),
        ({0}, ValueError, "Windows has"),
        ({-2}, ValueError, "Windows has"),
        ({1 << 70}, ValueError, "Windows has"),
        ({signal.SIGSEGV}, ValueError, "error of the program"),
        ({signal.SIGFPE, INT}, ValueError, "error of the program"),
        ({signal.SIGABRT}, ValueError, "error of the program"),
        (INT, TypeError, "iterable"),
        (None, TypeError, "iterable"),
        (["SIGINT"], TypeError, "integer"),
    ],
)
def test_what_is_no_signal(numbers, error, message):
    with pytest.raises(error, match=message):
        Signals(numbers)


def test_closing(poll, events):
    signals = Signals({INT, TERM})
    assert repr(signals) == "<Signals {SIGINT, SIGTERM}>"
    assert isinstance(signals, Source)
    with pytest.raises(io.UnsupportedOperation):
        signals.fileno()
    poll.registry.register(signals, "s", READABLE)
    iterator = signals.pending()
    raise_signal(INT)
    signals.close()
    signals.close()
    assert signals.closed
    assert repr(signals) == "<Signals closed>"
    assert list(iterator) == []
    for use in (signals.pending, signals.reinstall, signals.fileno, signals.__enter__):
        with pytest.raises(ValueError, match="closed"):
            use()
    expect_no_events(poll, events)


def test_dropping_an_open_one(poll):
    signals = Signals({INT})
    alive = weakref.ref(signals)
    poll.registry.register(signals, "s", READABLE)
    with pytest.warns(ResourceWarning, match="unclosed <Signals {SIGINT}>"):
        del signals
    assert alive() is None


def test_a_finaliser_that_forgets():
    class Forgetful(Signals):
        def __del__(self):
            pass

    signals = Forgetful({INT})
    del signals
    gc.collect()


def test_nothing_leaks():
    with Poll() as poll:
        events = Events()
        before = count_fds()
        for number in range(200):
            with Signals({INT, TERM}) as signals:
                poll.registry.register(signals, number, READABLE)
                raise_signal(INT)
                expect_only(poll, events, number, "readable")
        assert count_fds() == before


def test_at_the_end_of_the_interpreter():
    for how in ("pass", "signals.close()", "raise SystemExit(0)", "signal.raise_signal(signal.SIGINT)"):
        code = (
            "import signal; from metalio import *; from metalio.signal import Signals\n"
            "poll = Poll(); signals = Signals([signal.SIGINT])\n"
            f"poll.registry.register(signals, 's', Interest.READABLE); {how}\n"
        )
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, timeout=PATIENCE * 3)
        assert (done.returncode, done.stderr) == (0, b""), how
