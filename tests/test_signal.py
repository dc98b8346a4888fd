"""metalio.signal.Signals."""

import asyncio
import collections
import contextlib
import ctypes
import faulthandler
import gc
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
import weakref

import pytest
from util import (
    MOMENT,
    PATIENCE,
    READABLE,
    Worker,
    close_all,
    count_fds,
    disown,
    expect_no_events,
    expect_only,
    in_child,
    mine,
    no_free_descriptors,
    open_descriptors,
    run_python,
    seen,
    sleeping,
    socket_pair,
    wait_readable,
)

import metalio.signal
from metalio import Poll, PollOpt, Source
from metalio.signal import Signals
from metalio.unix import pipe

EDGE, LEVEL, ONESHOT = PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT
USR1, USR2, TERM, INT, CHLD, WINCH = (
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGCHLD,
    signal.SIGWINCH,
)
REAL_TIME = int(signal.SIGRTMIN) + 3

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


# -- What the kernel knows --------------------------------------------------------------------------------------------


class Action(ctypes.Structure):
    """struct sigaction of glibc and of musl."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


LIBC = ctypes.CDLL(None, use_errno=True)
SA_NOCLDWAIT, SA_SIGINFO, SA_RESTORER, SA_ONSTACK, SA_RESTART = 0x2, 0x4, 0x04000000, 0x08000000, 0x10000000


def disposition(number):
    """The handler, the flags and the mask of a signal."""
    action = Action()
    assert LIBC.sigaction(int(number), None, ctypes.byref(action)) == 0
    # Only the first 64 signals are the kernel's.
    return action.handler, action.flags & ~(SA_RESTORER | SA_ONSTACK), bytes(action.mask)[:8]


@pytest.fixture(autouse=True)
def all_is_as_before():
    """No test leaves a disposition or a mask behind."""
    numbers = signal.valid_signals() - {signal.SIGALRM}
    before = {number: disposition(number) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    close_all()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    after = {number: disposition(number) for number in numbers}
    assert after == before


@contextlib.contextmanager
def handling(number, handler):
    """A handler of Python's, for a while."""
    before = signal.signal(number, handler)
    try:
        yield handler
    finally:
        signal.signal(number, before)


class Handler:
    def __init__(self):
        self.calls = []

    def __call__(self, number, frame):
        self.calls.append(number)


def kill(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


def listen(*numbers):
    return mine(Signals(numbers))


def heard(signals):
    return list(signals.pending())


# -- Events -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def poll(selector, waker_kind):
    """On every selector, and with every kind of bell."""
    with Poll(selector=selector) as poll:
        yield poll


@pytest.mark.parametrize("opts", [EDGE, LEVEL, ONESHOT])
def test_a_signal_is_an_event(poll, events, opts):
    signals = listen(USR1)
    poll.registry.register(signals, "s", READABLE, opts)
    expect_no_events(poll, events)
    kill(USR1)
    expect_only(poll, events, "s", "readable")
    assert heard(signals) == [USR1]
    assert heard(signals) == []
    expect_no_events(poll, events)


@pytest.mark.parametrize("opts", [EDGE, LEVEL])
def test_each_signal_after_pending_is_a_new_event(poll, events, opts):
    signals = listen(USR1, USR2)
    poll.registry.register(signals, "s", READABLE, opts)
    for number in [USR1, USR2] * 50:
        kill(number)
        expect_only(poll, events, "s", "readable")
        assert heard(signals) == [number]
        assert poll.poll(events, 0) == 0


def test_edges_and_levels_differ(poll, events):
    signals = listen(USR1)
    poll.registry.register(signals, "s", READABLE, EDGE)
    kill(USR1)
    expect_only(poll, events, "s", "readable")
    expect_no_events(poll, events)
    poll.registry.reregister(signals, "t", READABLE, LEVEL)
    for _ in range(3):
        expect_only(poll, events, "t", "readable")
    assert heard(signals) == [USR1]
    expect_no_events(poll, events)


def test_what_came_before_it_was_registered(poll, events):
    signals = listen(USR1)
    kill(USR1)
    poll.registry.register(signals, "s", READABLE)
    expect_only(poll, events, "s", "readable")
    assert heard(signals) == [USR1]


def test_oneshot(poll, events):
    signals = listen(USR1)
    poll.registry.register(signals, "s", READABLE, ONESHOT)
    kill(USR1)
    expect_only(poll, events, "s", "readable")
    assert heard(signals) == [USR1]
    kill(USR1)
    expect_no_events(poll, events)
    poll.registry.reregister(signals, "s", READABLE, ONESHOT)
    expect_only(poll, events, "s", "readable")
    assert heard(signals) == [USR1]


def test_each_is_given_once_in_order(poll, events):
    signals = listen(USR1, USR2, TERM, REAL_TIME)
    poll.registry.register(signals, "s", READABLE)
    kill(REAL_TIME, USR2, TERM, USR1, USR1, REAL_TIME, TERM)
    expect_only(poll, events, "s", "readable")
    got = heard(signals)
    assert got == sorted({USR1, USR2, TERM, REAL_TIME})
    assert [type(number) for number in got] == [signal.Signals, signal.Signals, signal.Signals, int]
    expect_no_events(poll, events)


def test_every_signal_that_can_be_caught(poll, events):
    cannot = {signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
    # These belong to who watches over the tests: pytest-timeout, and faulthandler, whose handler aborts.
    numbers = sorted(signal.valid_signals() - cannot - {signal.SIGALRM, signal.SIGABRT})
    signals = listen(*numbers)
    assert signals.numbers == frozenset(numbers)
    poll.registry.register(signals, "s", READABLE)
    for number in numbers:
        kill(number)
        expect_only(poll, events, "s", "readable")
        assert heard(signals) == [number]
    kill(*numbers)
    assert heard(signals) == numbers


def test_a_loop_that_is_left_loses_nothing(poll, events):
    signals = listen(USR1, USR2, TERM)
    poll.registry.register(signals, "s", READABLE)
    kill(USR1, USR2, TERM)
    for expected in sorted([USR1, USR2, TERM]):
        expect_only(poll, events, "s", "readable")
        for number in signals.pending():
            assert number == expected
            break
    expect_no_events(poll, events)
    assert heard(signals) == []


def test_an_iterator_that_is_kept_keeps_nothing_back(poll, events):
    """Neither what came before, for others, nor what comes after."""
    signals = listen(USR1, USR2, TERM)
    poll.registry.register(signals, "s", READABLE)
    kill(USR1, USR2)
    expect_only(poll, events, "s", "readable")
    kept = signals.pending()
    assert next(kept) == USR1
    kill(USR2)
    expect_only(poll, events, "s", "readable")
    assert heard(signals) == [USR2]
    kill(TERM)
    assert list(kept) == [TERM]


def test_a_loop_ends_however_many_come(poll, events):
    signals = listen(USR1, USR2)
    poll.registry.register(signals, "s", READABLE)
    kill(USR1)
    expect_only(poll, events, "s", "readable")
    got = []
    for number in signals.pending():
        got.append(number)
        kill(USR1, USR2)
    assert got == [USR1, USR2]
    expect_only(poll, events, "s", "readable")
    assert heard(signals) == [USR1, USR2]
    expect_no_events(poll, events)


def test_an_exception_in_the_loop(poll, events):
    signals = listen(USR1, USR2)
    poll.registry.register(signals, "s", READABLE)
    kill(USR1, USR2)
    expect_only(poll, events, "s", "readable")
    with pytest.raises(ZeroDivisionError):
        for _ in signals.pending():
            1 / 0  # noqa: B018
    gc.collect()
    expect_only(poll, events, "s", "readable")
    assert heard(signals) == [USR2]


def test_a_signal_wakes_a_thread_that_waits(poll, events):
    signals = listen(USR1)
    poll.registry.register(signals, "s", READABLE)
    for _ in range(10):
        worker = Worker(poll.poll, events, PATIENCE)
        sleeping(worker)
        kill(USR1)
        assert worker.finish() == 1
        assert heard(signals) == [USR1]


def test_a_signal_wakes_the_main_thread(poll, events):
    signals = listen(USR1)
    poll.registry.register(signals, "s", READABLE)
    main = threading.main_thread()

    def interrupt():
        sleeping(main)
        kill(USR1)

    for _ in range(10):
        worker = Worker(interrupt)
        expect_only(poll, events, "s", "readable")
        worker.finish()
        assert heard(signals) == [USR1]


def test_in_whichever_thread_it_arrives(poll, events):
    signals = listen(USR1)
    poll.registry.register(signals, "s", READABLE)
    stop = threading.Event()
    worker = Worker(stop.wait, PATIENCE)
    signal.pthread_kill(worker.ident, USR1)
    expect_only(poll, events, "s", "readable")
    assert heard(signals) == [USR1]
    stop.set()
    worker.finish()


def test_waiting_goes_on_where_nobody_waits_for_it(selector, events):
    """As for any signal: PEP 475."""
    listen(USR1)
    with Poll(selector=selector) as poll:
        timer = threading.Timer(0.02, kill, (USR1,))
        timer.start()
        begin = time.monotonic()
        assert poll.poll(events, 0.1) == 0
        assert time.monotonic() - begin >= 0.1
        timer.join()


def test_an_interruptible_poll_tells_sooner_or_later(poll, events):
    signals = listen(USR1)
    poll.registry.register(signals, "s", READABLE)
    main = threading.main_thread()

    def interrupt():
        sleeping(main)
        kill(USR1)

    worker = Worker(interrupt)
    for _ in range(2):
        try:
            poll.poll_interruptible(events, PATIENCE)
            break
        except InterruptedError:
            pass
    assert seen(events) == [("s", {"readable"})]
    assert heard(signals) == [USR1]
    worker.finish()


def test_deregistering(poll, events):
    signals = listen(USR1)
    poll.registry.register(signals, "s", READABLE)
    poll.registry.deregister(signals)
    kill(USR1)
    expect_no_events(poll, events)
    assert heard(signals) == [USR1]


def test_a_stale_event_is_dropped(poll, events):
    signals = listen(USR1)
    poll.registry.register(signals, "s", READABLE)
    kill(USR1)
    assert poll.poll(events, PATIENCE) == 1
    signals.close()
    assert list(events) == []
    expect_no_events(poll, events)


# -- Default actions, and what Python does ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [TERM, signal.SIGHUP, USR1, signal.SIGRTMAX])
def test_nobody_dies_of_it_until_it_is_closed(number):
    def check():
        with Signals([number]) as signals:
            kill(number)
            assert heard(signals) == [number]

    in_child(check)

    def die():
        Signals([number]).close()
        kill(number)

    with pytest.raises(AssertionError, match="died"):
        in_child(die)


def test_no_keyboard_interrupt(poll, events):
    assert signal.getsignal(INT) is signal.default_int_handler
    signals = listen(INT)
    poll.registry.register(signals, "s", READABLE)
    kill(INT)
    expect_only(poll, events, "s", "readable")
    assert heard(signals) == [INT]
    assert signal.getsignal(INT) is signal.default_int_handler
    signals.close()
    with pytest.raises(KeyboardInterrupt):
        kill(INT)


@pytest.mark.parametrize("number", [INT, TERM, USR1])
def test_a_handler_of_the_program_runs_as_well(poll, events, number):
    with handling(number, Handler()) as handler:
        signals = listen(number)
        poll.registry.register(signals, "s", READABLE)
        kill(number)
        expect_only(poll, events, "s", "readable")
        assert heard(signals) == handler.calls == [number]
        assert signal.getsignal(number) is handler
        signals.close()
        kill(number)
        assert handler.calls == [number] * 2


def test_a_handler_interrupts_what_the_main_thread_waits_for(selector):
    """With it a system call has to end early, or the handler would run late."""

    class Interrupted(Exception):
        pass

    def handler(number, frame):
        raise Interrupted

    main = threading.main_thread()
    reading, writing = pipe.new()
    mine(reading, writing)
    blocking, other = socket.socketpair()
    mine(blocking, other)
    with handling(USR1, handler):
        listen(USR1)

        def interrupt():
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                with open(f"/proc/self/task/{main.native_id}/stat") as file:
                    if file.read().rpartition(")")[2].split()[0] == "S":
                        break
            signal.pthread_kill(main.ident, USR1)

        worker = Worker(interrupt)
        with pytest.raises(Interrupted):
            blocking.recv(1)
        worker.finish()


def test_what_was_ignored_is_heard_and_ignored_again():
    with handling(USR1, signal.SIG_IGN):
        before = disposition(USR1)
        with Signals([USR1]) as signals:
            kill(USR1)
            assert heard(signals) == [USR1]
            assert signal.getsignal(USR1) == signal.SIG_IGN
        assert disposition(USR1) == before
        kill(USR1)


def test_children_are_not_waited_for_where_that_was_so_before():
    with handling(CHLD, signal.SIG_IGN), Signals([CHLD]) as signals:
        assert disposition(CHLD)[1] & SA_NOCLDWAIT
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, 0)
        wait_readable(signals)
        assert heard(signals) == [CHLD]


def test_the_wakeup_descriptor_is_left_alone():
    reading, writing = socket_pair()
    before = signal.set_wakeup_fd(writing.fileno())
    try:
        with handling(USR1, Handler()), Signals([USR1, INT]) as signals:
            kill(USR1, INT)
            assert heard(signals) == [INT, USR1]
            # Python has no part in the SIGINT that would have become a KeyboardInterrupt.
            assert reading.recv(100) == bytes([USR1])
    finally:
        assert signal.set_wakeup_fd(before) == writing.fileno()


def test_a_blocked_signal_is_reported_once_it_is_unblocked(poll, events):
    signals = listen(USR1)
    poll.registry.register(signals, "s", READABLE)
    signal.pthread_sigmask(signal.SIG_BLOCK, [USR1])
    try:
        signal.pthread_kill(threading.get_ident(), USR1)
        expect_no_events(poll, events)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [USR1])
    expect_only(poll, events, "s", "readable")
    assert heard(signals) == [USR1]


def test_sigpipe_comes_from_others_alone():
    signals = listen(signal.SIGPIPE)
    sender, receiver = mine(*pipe.new())
    receiver.close()
    with pytest.raises(BrokenPipeError):
        sender.write(b"x")
    assert heard(signals) == []
    kill(signal.SIGPIPE)
    assert heard(signals) == [signal.SIGPIPE]


def test_errno_is_kept(waker_kind):
    """Also where the handler's own write fails, since somebody has filled the bell."""
    before = set(open_descriptors())
    signals = listen(USR1)
    (bell,) = set(open_descriptors()) - before - {signals.fileno()} or {signals.fileno()}
    with contextlib.suppress(BlockingIOError):
        while True:
            # As a number the largest that an eventfd takes, so that there is no room for one more.
            os.write(bell, (2**64 - 2).to_bytes(8, sys.byteorder))
    ctypes.set_errno(4711)
    assert getattr(LIBC, "raise")(int(USR1)) == 0
    assert ctypes.get_errno() == 4711
    assert heard(signals) == [USR1]


# -- Several ----------------------------------------------------------------------------------------------------------


def test_each_hears_it(poll, events):
    first, second, third = listen(USR1), listen(USR1, USR2), listen(USR2)
    for token, signals in enumerate((first, second, third)):
        poll.registry.register(signals, token, READABLE)
    kill(USR1)
    assert poll.poll(events, PATIENCE) == 2
    assert {event.token for event in events} == {0, 1}
    assert [heard(signals) for signals in (first, second, third)] == [[USR1], [USR1], []]
    first.close()
    kill(USR1, USR2)
    assert [heard(signals) for signals in (second, third)] == [[USR1, USR2], [USR2]]
    second.close()
    with handling(USR1, Handler()) as handler:
        kill(USR1, USR2)
        assert handler.calls == [USR1]
    assert heard(third) == [USR2]


def test_the_order_of_closing_does_not_matter():
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        with handling(USR1, Handler()) as handler:
            before = disposition(USR1)
            opened = [Signals([USR1]) for _ in range(3)]
            for index in order:
                assert disposition(USR1) != before
                opened[index].close()
            assert disposition(USR1) == before
            kill(USR1)
            assert handler.calls == [USR1]


def test_what_one_has_heard_is_not_the_next_ones():
    for _ in range(3):
        signals = Signals([USR1, USR2])
        kill(USR1, USR2)
        signals.close()
        with Signals([USR2]) as signals:
            assert heard(signals) == []
            kill(USR2)
            assert heard(signals) == [USR2]


def test_many():
    opened = [listen(USR1) for _ in range(100)]
    kill(USR1)
    assert all(heard(signals) == [USR1] for signals in opened)


def test_opened_and_closed_in_threads():
    with handling(USR1, Handler()) as handler:

        def work():
            for _ in range(200):
                with Signals([USR1, USR2]) as signals:
                    signal.pthread_kill(threading.get_ident(), USR2)
                    assert USR2 in heard(signals)

        workers = [Worker(work) for _ in range(4)]
        for worker in workers:
            worker.finish(PATIENCE * 3)
        kill(USR1)
        assert handler.calls == [USR1]


def test_each_signal_goes_to_one_of_the_threads_that_ask():
    signals = listen(*range(REAL_TIME, REAL_TIME + 10))
    for _ in range(50):
        kill(*range(REAL_TIME, REAL_TIME + 10))
        workers = [Worker(heard, signals) for _ in range(3)]
        got = [number for worker in workers for number in worker.finish()]
        assert sorted(got) == list(range(REAL_TIME, REAL_TIME + 10))


# -- Storms -----------------------------------------------------------------------------------------------------------


def test_a_storm(poll, events):
    """100,000 signals from a thread: whatever was sent last is heard, and the loop comes to an end."""
    signals = listen(USR1, USR2, TERM)
    poll.registry.register(signals, "s", READABLE)

    def send():
        for _ in range(50_000):
            kill(USR1, USR2)
        kill(TERM)

    worker = Worker(send)
    got = {USR1: 0, USR2: 0, TERM: 0}
    while not got[TERM]:
        assert poll.poll(events, PATIENCE)
        for number in signals.pending():
            got[number] += 1
    worker.finish()
    for number in signals.pending():
        got[number] += 1
    assert got[TERM] == 1
    assert 0 < got[USR1] <= 50_000 and 0 < got[USR2] <= 50_000
    poll.poll(events, 0)
    expect_no_events(poll, events)


def test_a_storm_that_nobody_listens_to(poll, events):
    signals = listen(USR1)
    poll.registry.register(signals, "s", READABLE)
    for _ in range(100_000):
        kill(USR1)
    expect_only(poll, events, "s", "readable")
    assert heard(signals) == [USR1]
    expect_no_events(poll, events)
    kill(USR1)
    expect_only(poll, events, "s", "readable")


def test_question_and_answer(poll, events):
    """Nothing is lost between one signal and the next: who sends waits for the answer, and there is only the event."""
    signals = listen(USR1)
    poll.registry.register(signals, "s", READABLE)
    answers = threading.Semaphore(0)

    def send():
        for _ in range(5_000):
            kill(USR1)
            assert answers.acquire(timeout=PATIENCE)

    worker = Worker(send)
    count = 0
    while count < 5_000:
        assert poll.poll(events, PATIENCE), f"signal {count} was lost"
        for _ in signals.pending():
            count += 1
            answers.release()
    worker.finish(PATIENCE * 3)


ASKING = """
import os, random, signal
for _ in range(5_000):
    os.kill({pid}, signal.SIGUSR1)
    for _ in range(random.randrange(2_000)):
        pass
    os.kill({pid}, signal.SIGUSR2)
    if not os.read(0, 1):
        break
"""


def test_question_and_answer_with_another_process(poll, events):
    """The same, but they come at any moment, and in another thread: also while the one before is being taken."""
    signals = listen(USR1, USR2)
    poll.registry.register(signals, "s", READABLE)
    stop = threading.Event()
    hearing = Worker(stop.wait, PATIENCE * 5)
    signal.pthread_sigmask(signal.SIG_BLOCK, [USR1, USR2])
    command = [sys.executable, "-Ic", ASKING.format(pid=os.getpid())]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0) as child:
            try:
                answers = 0
                while answers < 5_000:
                    assert poll.poll(events, PATIENCE), f"a signal was lost after {answers} answers"
                    if USR2 in heard(signals):
                        answers += 1
                        child.stdin.write(b"x")
            finally:
                child.kill()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [USR1, USR2])
        stop.set()
        hearing.finish()


def test_a_storm_while_others_come_and_go(poll, events, waker_kind):
    """What a handler rings is never the descriptor of somebody else, nor does it tell one what another asked for.

    The signals come from another process, and in a thread that needs no GIL for that.
    """
    stop = threading.Event()
    replaced = collections.deque()

    def check(ends):
        with contextlib.suppress(BlockingIOError):
            raise AssertionError(f"somebody rang a bell that is gone: {os.read(ends[0], 8)}")
        for end in ends:
            os.close(end)

    def come_and_go():
        for _ in range(1_000):
            with Signals([USR1]):
                pass
            with Signals([USR2]) as other:
                assert heard(other) == []
            # Takes over the number of the bell, and must not be written to.
            replaced.append([os.eventfd(0, os.EFD_NONBLOCK)] if waker_kind == "eventfd" else os.pipe2(os.O_NONBLOCK))
            if len(replaced) > 8:
                check(replaced.popleft())

    signals = listen(USR1)
    poll.registry.register(signals, "s", READABLE)
    hearing = Worker(stop.wait, PATIENCE * 5)
    signal.pthread_sigmask(signal.SIG_BLOCK, [USR1])
    storm = f"import os, signal\nwhile os.getppid() == {os.getpid()}: os.kill({os.getpid()}, signal.SIGUSR1)"
    try:
        with subprocess.Popen([sys.executable, "-Ic", storm]) as child:
            try:
                worker = Worker(come_and_go)
                while worker.is_alive():
                    assert poll.poll(events, PATIENCE)
                    assert set(signals.pending()) <= {USR1}
                worker.finish()
            finally:
                child.kill()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [USR1])
        stop.set()
        hearing.finish()
        while replaced:
            check(replaced.popleft())


# -- Handlers that others install later -------------------------------------------------------------------------------


def test_a_later_handler_replaces_it():
    signals = listen(USR1)
    with handling(USR1, Handler()) as handler:
        kill(USR1)
        assert handler.calls == [USR1]
        assert heard(signals) == []
        later = disposition(USR1)
        # It is not this one's to remove.
        signals.close()
        assert disposition(USR1) == later
        kill(USR1)
        assert handler.calls == [USR1] * 2


def test_reinstall():
    signals = listen(USR1, USR2)
    assert signals.reinstall() == frozenset()
    with handling(USR1, Handler()) as handler:
        assert signals.reinstall() == {USR1}
        assert signals.reinstall() == frozenset()
        kill(USR1, USR2)
        assert handler.calls == [USR1]
        assert heard(signals) == [USR1, USR2]
        signals.close()
        kill(USR1)
        assert handler.calls == [USR1, USR1]


def test_reinstall_after_somebody_put_back_what_he_found():
    signals = listen(INT)
    with handling(INT, Handler()):
        pass
    with pytest.raises(KeyboardInterrupt):
        kill(INT)
    assert signals.reinstall() == {INT}
    kill(INT)
    assert heard(signals) == [INT]


def test_another_one_reinstalls_for_all():
    first = listen(USR1)
    with handling(USR1, Handler()) as handler:
        second = listen(USR1)
        kill(USR1)
        assert heard(first) == heard(second) == handler.calls == [USR1]
        first.close()
        kill(USR1)
        assert heard(second) == [USR1]
        assert handler.calls == [USR1] * 2
        second.close()
        kill(USR1)
        assert handler.calls == [USR1] * 3


def test_a_handler_of_another_library_runs_as_well(tmp_path):
    """faulthandler's is in C, and Python knows nothing of it."""
    with open(tmp_path / "trace", "w+") as file:
        faulthandler.register(USR1, file)
        try:
            before = disposition(USR1)
            with Signals([USR1]) as signals:
                kill(USR1)
                assert heard(signals) == [USR1]
            assert disposition(USR1) == before
        finally:
            faulthandler.unregister(USR1)
        file.seek(0)
        assert file.read().count("most recent call first") == 1


def test_a_handler_of_three_arguments_runs_as_well():
    """sigaction(2) with SA_SIGINFO."""
    calls = []

    @ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.c_void_p)
    def handler(number, info, context):
        # Called in the middle of raise_signal(), which holds the GIL.
        calls.append((number, info[0], bool(context)))

    before, action = Action(), Action()
    action.handler = ctypes.cast(handler, ctypes.c_void_p)
    action.flags = SA_SIGINFO
    assert LIBC.sigaction(int(USR1), ctypes.byref(action), ctypes.byref(before)) == 0
    try:
        with Signals([USR1]) as signals:
            signal.raise_signal(USR1)
            assert heard(signals) == [USR1]
        signal.raise_signal(USR1)
        assert calls == [(USR1, USR1, True)] * 2
    finally:
        LIBC.sigaction(int(USR1), ctypes.byref(before), None)


def test_a_later_handler_in_c_that_calls_this_one():
    """Taking back a signal from it must not go round in circles: it is left out, and what ran before still does."""
    run_python("""
        import faulthandler, os, signal, tempfile
        from metalio.signal import Signals

        NUMBER = signal.SIGUSR1
        calls = []

        def check(traced):
            size = os.fstat(file.fileno()).st_size
            calls.clear()
            os.kill(os.getpid(), NUMBER)
            assert calls == [NUMBER], calls
            assert list(signals.pending()) == [NUMBER]
            assert (os.fstat(file.fileno()).st_size > size) == traced

        with tempfile.TemporaryFile() as file:
            signal.signal(NUMBER, lambda *_: calls.append(NUMBER))
            signals = Signals([NUMBER])
            check(False)
            faulthandler.register(NUMBER, file, chain=True)
            check(True)
            assert signals.reinstall() == {NUMBER}
            check(False)
            # It is put back, and has still to be left out by the next one.
            for _ in range(3):
                signals.close()
                signals = Signals([NUMBER])
                check(False)
            signals.close()
            faulthandler.unregister(NUMBER)

            # Once nobody else's is in place, all is forgotten.
            signal.signal(NUMBER, lambda *_: calls.append(NUMBER))
            signals = Signals([NUMBER])
            check(False)
            signals.close()
            faulthandler.register(NUMBER, file, chain=False)
            signal.raise_signal(NUMBER)
            with Signals([NUMBER]) as signals:
                size = os.fstat(file.fileno()).st_size
                os.kill(os.getpid(), NUMBER)
                assert list(signals.pending()) == [NUMBER]
                assert os.fstat(file.fileno()).st_size > size
    """)


def test_a_handler_in_c_that_installs_itself_again():
    """It was there before, so it is called, and calls Python's.  By doing so it replaces the one that called it."""
    run_python("""
        import faulthandler, os, signal, tempfile
        from metalio.signal import Signals

        NUMBER = signal.SIGUSR1
        calls = []
        signal.signal(NUMBER, lambda *_: calls.append(NUMBER))
        with tempfile.TemporaryFile() as file:
            faulthandler.register(NUMBER, file, chain=True)
            with Signals([NUMBER]) as signals:
                os.kill(os.getpid(), NUMBER)
                assert list(signals.pending()) == calls == [NUMBER]
                os.kill(os.getpid(), NUMBER)
                assert list(signals.pending()) == []
                for _ in range(3):
                    signals.reinstall()
                    os.kill(os.getpid(), NUMBER)
                    assert list(signals.pending()) == [NUMBER]
    """)


def test_siginterrupt_is_not_undone():
    with handling(USR1, Handler()):
        assert not disposition(USR1)[1] & SA_RESTART
        with Signals([USR1]):
            assert not disposition(USR1)[1] & SA_RESTART
            signal.siginterrupt(USR1, False)
            assert disposition(USR1)[1] & SA_RESTART
        assert disposition(USR1)[1] & SA_RESTART
        with Signals([USR1]):
            assert disposition(USR1)[1] & SA_RESTART
        assert disposition(USR1)[1] & SA_RESTART


# -- asyncio ----------------------------------------------------------------------------------------------------------


def test_beside_an_asyncio_loop_that_handles_the_same(poll, events):
    async def main():
        came = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(USR1, came.set)
        signals = await asyncio.to_thread(listen, USR1)
        poll.registry.register(signals, "s", READABLE)
        kill(USR1)
        await asyncio.wait_for(came.wait(), PATIENCE)
        assert heard(signals) == [USR1]
        asyncio.get_running_loop().remove_signal_handler(USR1)

    asyncio.run(main())


def test_asyncio_run_in_the_main_thread():
    """It installs a handler for SIGINT, so that has to be taken back."""

    async def main():
        assert signals.reinstall() == {INT}
        kill(INT)
        assert heard(signals) == [INT]
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(PATIENCE)

    signals = listen(INT)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
    signals.reinstall()
    kill(INT)
    assert heard(signals) == [INT]


def test_asyncio_with_children_in_another_thread(poll, events):
    async def main():
        for _ in range(5):
            child = await asyncio.create_subprocess_exec(sys.executable, "-Ic", "print('x')", stdout=subprocess.PIPE)
            output, _ = await asyncio.wait_for(child.communicate(), PATIENCE)
            assert (output, child.returncode) == (b"x\n", 0)

    signals = listen(CHLD, USR1)
    poll.registry.register(signals, "s", READABLE)
    worker = Worker(lambda: asyncio.run(main()))
    expect_only(poll, events, "s", "readable")
    assert heard(signals) == [CHLD]
    worker.finish(PATIENCE * 3)


# -- Children ---------------------------------------------------------------------------------------------------------


def test_sigchld_and_subprocess(poll, events):
    signals = listen(CHLD)
    poll.registry.register(signals, "s", READABLE)
    for _ in range(5):
        child = subprocess.Popen([sys.executable, "-Ic", "raise SystemExit(3)"])
        expect_only(poll, events, "s", "readable")
        assert heard(signals) == [CHLD]
        assert child.wait(PATIENCE) == 3
    assert subprocess.run([sys.executable, "-Ic", "print(1)"], capture_output=True).stdout == b"1\n"


MASKS = "import re; print(re.findall(r'^Sig(?:Blk|Ign|Cgt):\\s*(\\w+)$', open('/proc/self/status').read(), re.M))"


@pytest.mark.parametrize("options", [{}, {"preexec_fn": os.getpid}, {"start_new_session": True}])
def test_programs_that_are_executed_know_nothing_of_it(options):
    def masks():
        return subprocess.run([sys.executable, "-Ic", MASKS], capture_output=True, check=True, **options).stdout

    before = masks()
    listen(USR1, TERM, INT, CHLD, REAL_TIME)
    assert masks() == before


@pytest.mark.parametrize("number", [TERM, INT])
def test_programs_that_are_executed_die_of_it(number):
    listen(number)
    with subprocess.Popen(["sleep", "60"]) as child:
        child.send_signal(number)
        assert child.wait(PATIENCE) == -number


def test_descriptors_are_private_and_non_blocking(waker_kind):
    before = set(open_descriptors())
    listen(USR1)
    for fd in set(open_descriptors()) - before:
        assert not os.get_inheritable(fd)
        assert not os.get_blocking(fd)


def test_it_is_closed_in_the_child_of_a_fork(poll, events):
    before = set(open_descriptors())
    with handling(USR2, Handler()) as handler:
        old = disposition(USR1), disposition(USR2), disposition(INT)
        signals = listen(USR1, USR2, INT)
        poll.registry.register(signals, "s", READABLE)
        own = set(open_descriptors()) - before
        kill(USR1)
        iterator = signals.pending()

        def check():
            assert signals.closed
            assert not own & set(open_descriptors())
            assert (disposition(USR1), disposition(USR2), disposition(INT)) == old
            with pytest.raises(ValueError, match="closed"):
                signals.pending()
            assert list(iterator) == []
            signals.close()
            kill(USR2)
            assert handler.calls == [USR2]
            with pytest.raises(KeyboardInterrupt):
                kill(INT)
            # And it can have its own.
            with Signals([USR1]) as fresh:
                assert heard(fresh) == []
                kill(USR1)
                assert heard(fresh) == [USR1]

        in_child(check)
        # Nothing of that was heard here.
        assert list(iterator) == [USR1]
        expect_no_events(poll, events)
        assert handler.calls == []
        kill(USR1, USR2)
        expect_only(poll, events, "s", "readable")
        assert heard(signals) == [USR1, USR2]


def test_children_of_a_fork_die_of_it():
    signals = listen(TERM)
    with pytest.raises(AssertionError, match="SIGTERM"):
        in_child(kill, TERM)
    assert heard(signals) == []


@pytest.mark.parametrize("handled", [False, True])
def test_a_signal_to_a_child_that_python_knows_nothing_of(poll, events, handled):
    """As one that comes before the child has got round to anything: it goes where it would have gone without this."""
    with handling(USR1, Handler() if handled else signal.SIG_DFL):
        signals = listen(USR1)
        poll.registry.register(signals, "s", READABLE)
        python = ctypes.PyDLL(None)
        pid = python.fork()
        if pid == 0:
            status = 99
            try:
                python.kill(python.getpid(), int(USR1))
                status = 7 if handled and signal.getsignal(USR1).calls == [USR1] else 98
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == (7 if handled else -USR1)
        expect_no_events(poll, events)
        assert heard(signals) == []
        kill(USR1)
        assert heard(signals) == [USR1]


def test_multiprocessing_terminates_its_children():
    listen(TERM, INT)
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    try:
        process.terminate()
        process.join(PATIENCE)
        assert process.exitcode == -TERM
    finally:
        process.kill()
        process.join()
        process.close()


def test_many_forks_in_a_storm():
    """Whatever the handler is in the middle of in another thread, the child comes through."""
    stop = threading.Event()

    def send():
        while not stop.is_set():
            signal.pthread_kill(threading.get_ident(), USR1)

    signals = listen(USR1)
    workers = [Worker(send) for _ in range(2)]
    try:
        for _ in range(20):

            def check():
                assert signals.closed
                with Signals([USR1]) as own:
                    kill(USR1)
                    assert heard(own) == [USR1]

            in_child(check)
    finally:
        stop.set()
        for worker in workers:
            worker.finish()


# -- Misuse, and the end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([signal.SIGKILL], "SIGKILL cannot be caught"),
        ([USR1, signal.SIGSTOP], "SIGSTOP cannot be caught"),
        ([signal.SIGSEGV], "SIGSEGV comes from an error"),
        ([signal.SIGBUS], "error of the program"),
        ([signal.SIGFPE], "error of the program"),
        ([signal.SIGILL], "error of the program"),
        ([0], "0 is not"),
        ([-1], "not the number of a signal"),
        ([32], "32 is not"),
        ([65], "not the number"),
        ([10**30], "not the number"),
    ],
)
def test_what_is_no_signal_or_cannot_be_caught(numbers, message):
    before = count_fds()
    with pytest.raises(ValueError, match=message):
        Signals(numbers)
    gc.collect()
    assert count_fds() == before


@pytest.mark.parametrize("numbers", [signal.SIGINT, 2, None, ["SIGINT"], [None], [2.0], "ab"])
def test_what_is_no_set_of_numbers(numbers):
    with pytest.raises(TypeError):
        Signals(numbers)


def test_arguments():
    for wrong in ((), ([USR1], [USR2])):
        with pytest.raises(TypeError):
            Signals(*wrong)
    assert heard(listen()) == []
    assert mine(Signals({USR1, int(USR1)})).numbers == {USR1}
    assert mine(Signals(iter([USR2, USR1]))).numbers == {USR1, USR2}


def test_names():
    signals = listen(USR1, REAL_TIME)
    assert repr(signals) == f"<Signals {{SIGUSR1, {REAL_TIME}}} fd={signals.fileno()}>"
    assert isinstance(signals, Source)
    signals.close()
    assert repr(signals) == "<Signals closed>"
    assert metalio.signal.__all__ == ["Signals"]


def test_closing():
    before = count_fds()
    signals = Signals([USR1])
    assert not signals.closed
    iterator = signals.pending()
    kill(USR1)
    signals.close()
    signals.close()
    assert signals.closed
    assert list(iterator) == []
    for use in (signals.pending, signals.reinstall, signals.fileno, signals.__enter__):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert signals.numbers == {USR1}
    assert count_fds() == before
    with Poll() as poll, pytest.raises(ValueError, match="closed"):
        poll.registry.register(signals, "s", READABLE)


def test_closing_in_the_loop(poll, events):
    signals = listen(USR1, USR2)
    poll.registry.register(signals, "s", READABLE)
    kill(USR1, USR2)
    expect_only(poll, events, "s", "readable")
    for number in signals.pending():
        assert number == USR1
        signals.close()
    assert signals.closed


def test_a_handler_that_closes(poll):
    """Python's handler runs between two steps of the program, of which this may be the middle."""
    opened = []

    def handler(number, frame):
        while opened:
            opened.pop().close()

    with handling(USR1, handler):
        for _ in range(20):
            opened.append(Signals([USR1, USR2]))
            signals = opened[0]
            poll.registry.register(signals, "s", READABLE)
            kill(USR1)
            assert signals.closed


def test_dropping_an_open_one(waker_kind):
    before = count_fds()
    signals = Signals([USR1])
    old = disposition(USR1)
    with pytest.warns(ResourceWarning, match=r"unclosed <Signals \{SIGUSR1\} fd=\d+>"):
        del signals
        gc.collect()
    assert count_fds() == before
    assert disposition(USR1) != old


def test_no_descriptors_left(waker_kind):
    with warnings.catch_warnings(), no_free_descriptors():
        warnings.simplefilter("error")
        with pytest.raises(OSError, match="Too many"):
            Signals([USR1])
    gc.collect()


def test_a_subclass_and_its_token(poll, events):
    class Mine(Signals):
        def __init__(self, numbers):
            super().__init__(numbers)
            self.token = self

    signals = mine(Mine([USR1]))
    poll.registry.register(signals, signals.token, READABLE)
    kill(USR1)
    assert poll.poll(events, PATIENCE) == 1
    assert events[0].token is signals
    assert heard(signals) == [USR1]
    alive = weakref.ref(signals)
    signals.close()
    disown(signals)
    events.clear()
    del signals
    gc.collect()
    assert alive() is None


def test_a_finaliser_that_forgets(waker_kind):
    class Forgetful(Signals):
        def __del__(self):
            pass

    before, old = count_fds(), disposition(USR1)
    signals = Forgetful([USR1])
    del signals
    gc.collect()
    assert count_fds() == before
    assert disposition(USR1) == old


def test_nothing_leaks():
    def round_trip():
        with Signals([USR1, USR2, TERM]) as signals:
            kill(USR1, USR2, TERM)
            for _ in signals.pending():
                break
            assert heard(signals) == [USR2, TERM]
            signals.reinstall()
        with pytest.raises(ValueError):
            Signals([USR1, signal.SIGKILL])

    for _ in range(50):
        round_trip()
    gc.collect()
    before = sys.getrefcount(USR1), sys.getrefcount(None), len(gc.get_objects())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2_000):
        round_trip()
    gc.collect()
    after = sys.getrefcount(USR1), sys.getrefcount(None), len(gc.get_objects())
    assert all(abs(now - then) < 100 for now, then in zip(after, before, strict=True))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 4096


@pytest.mark.parametrize("how", ["pass", "signals.close()", "raise SystemExit(0)"])
def test_at_the_end_of_the_interpreter(how):
    run_python(f"""
        import atexit, os, signal, threading
        from metalio import Events, Interest, Poll
        from metalio.signal import Signals

        poll = Poll()
        signals = Signals([signal.SIGTERM, signal.SIGINT])
        poll.registry.register(signals, signals, Interest.READABLE)
        atexit.register(os.kill, os.getpid(), signal.SIGTERM) if {how!r} == "pass" else None
        iterator = signals.pending()
        {how}
    """)


def test_a_moment_is_enough():
    """The bound of what must not come is not too short for what does."""
    signals = listen(USR1)
    kill(USR1)
    wait_readable(signals, MOMENT)
