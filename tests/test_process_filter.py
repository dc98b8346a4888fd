"""metalio.process.ChildExit where it is made of EVFILT_PROC."""

import os
import select
import signal
import subprocess
import sys
import threading

import pytest
from test_process import child, end, ended
from util import (
    PATIENCE,
    READABLE,
    Worker,
    count_fds,
    expect_events,
    expect_no_events,
    expect_only,
    in_child,
    mine,
    wait_readable,
)

from metalio import Poll, PollOpt
from metalio._sys import selector_names
from metalio.process import ChildExit

if "kqueue" not in selector_names():
    pytest.skip("no kqueue on this system; see tools/test-kqueue", allow_module_level=True)

EDGE, LEVEL, ONESHOT = PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(params=["told", "refused"])
def zombies(request, monkeypatch):
    """What the stand-in does with a process that has ended already: FreeBSD reports it, the others refuse it."""
    monkeypatch.setenv("KQUEUE_ZOMBIES", request.param)


@pytest.mark.parametrize("opts", [EDGE, LEVEL, ONESHOT], ids=repr)
@pytest.mark.parametrize("status", [0, 3, -signal.SIGTERM])
def test_a_zombie(zombies, poll, events, opts, status):
    with child(status) as process:
        ended(process)
        with ChildExit(process) as exit:
            poll.registry.register(exit, "e", READABLE, opts)
            expect_only(poll, events, "e", "readable")
            assert exit.status() == status
            # It is a zombie still.
            exit.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == status
            assert exit.status() == status
            with pytest.raises(ProcessLookupError):
                exit.send_signal(0)
            if opts == LEVEL:
                expect_only(poll, events, "e", "readable")
            else:
                expect_no_events(poll, events)


def test_who_is_gone(zombies):
    with child() as process:
        end(process)
        process.wait(PATIENCE)
        before = count_fds()
        with pytest.raises(ProcessLookupError):
            ChildExit(process.pid)
        assert count_fds() == before


def test_a_zombie_of_somebody_elses(zombies, poll, events):
    """Its parent does not wait for it, and so nobody does."""
    code = """if True:
        import os, sys
        pid = os.fork()
        if pid == 0:
            os._exit(1)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        print(pid, flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen([sys.executable, "-Ic", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        with ChildExit(int(process.stdout.readline())) as exit:
            poll.registry.register(exit, "e", READABLE)
            expect_only(poll, events, "e", "readable")
            with pytest.raises(ChildProcessError):
                exit.status()
            with pytest.raises(ProcessLookupError):
                exit.send_signal(signal.SIGTERM)
        process.stdin.close()


@pytest.mark.parametrize("status", [0, 1, 255, -signal.SIGKILL])
def test_the_status_of_who_was_waited_for(status):
    with child(status) as process, ChildExit(process) as exit:
        end(process)
        assert process.wait(PATIENCE) == status
        for _ in range(3):
            assert exit.status() == status
            wait_readable(exit)


def test_asking_takes_nothing_away(poll, events):
    """The event is taken when the status is asked for, and the descriptor stays readable all the same."""
    with child(3) as process, ChildExit(process) as exit:
        poll.registry.register(exit, "e", READABLE, LEVEL)
        end(process)
        wait_readable(exit)
        watcher = select.poll()
        watcher.register(exit, select.POLLIN)
        stop = threading.Event()

        def ask():
            while not stop.is_set():
                assert exit.status() == 3

        workers = [Worker(ask) for _ in range(2)]
        for _ in range(200):
            assert watcher.poll(0)
            expect_only(poll, events, "e", "readable")
        stop.set()
        for worker in workers:
            worker.finish()


def test_asking_before_the_event_is_seen(poll, events):
    with child(3) as process, ChildExit(process) as exit:
        poll.registry.register(exit, "e", READABLE)
        end(process)
        wait_readable(exit)
        assert exit.status() == 3
        expect_only(poll, events, "e", "readable")
        expect_no_events(poll, events)


def test_two_polls_hear_of_it(events):
    """One by a source of its own for the same process."""
    first, second = mine(Poll(selector="kqueue"), Poll(selector="kqueue"))
    with child() as process, ChildExit(process) as one, ChildExit(process) as other:
        first.registry.register(one, 1, READABLE)
        second.registry.register(other, 2, READABLE)
        end(process)
        expect_only(first, events, 1, "readable")
        assert one.status() == 0
        expect_only(second, events, 2, "readable")
        assert other.status() == 0


def test_it_is_closed_in_the_child_of_a_fork(poll, events, monkeypatch):
    """As every kqueue is: whatever has its number there is left alone."""
    with child() as process, ChildExit(process) as exit:
        poll.registry.register(exit, "e", READABLE)
        number = exit.fileno()
        # What fails right after a fork is only told to this hook.
        failures = []
        monkeypatch.setattr(sys, "unraisablehook", failures.append)

        def check():
            assert not failures
            assert exit.closed
            for use in (exit.fileno, exit.status, lambda: exit.send_signal(signal.SIGKILL)):
                with pytest.raises(ValueError, match="closed"):
                    use()
            others = [os.open("/dev/null", os.O_RDONLY) for _ in range(number + 1)]
            assert number in others
            exit.close()
            poll.close()
            for other in others:
                os.fstat(other)
            with Poll() as own, ChildExit(exit.pid) as again:
                own.registry.register(again, "mine", READABLE)
                with pytest.raises(ChildProcessError):
                    again.status()
                again.send_signal(signal.SIGTERM)
                expect_events(own, events, {"mine": "readable"})

        in_child(check)
        expect_only(poll, events, "e", "readable")
        assert exit.status() == -signal.SIGTERM


def test_without_user_filters(monkeypatch, poll, events):
    """NetBSD before 10 and OpenBSD have none: a timer keeps the descriptor readable."""
    monkeypatch.setenv("KQUEUE_WITHOUT_USER", "1")
    with child(3) as process, ChildExit(process) as exit:
        poll.registry.register(exit, "e", READABLE, LEVEL)
        end(process)
        for _ in range(3):
            expect_only(poll, events, "e", "readable")
            assert exit.status() == 3
            wait_readable(exit)
