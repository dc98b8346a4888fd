"""metalio.process.ChildExit."""

import asyncio
import contextlib
import errno
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import warnings
import weakref

import pytest
from util import (
    PATIENCE,
    READABLE,
    WINDOWS,
    Worker,
    count_fds,
    expect_events,
    expect_no_events,
    expect_only,
    in_child,
    is_inheritable,
    mine,
    no_free_descriptors,
    not_on_windows,
    sleeping,
    wait_readable,
)

from metalio import Poll, PollOpt, Source
from metalio._sys import selector_names
from metalio.process import ChildExit

EDGE, LEVEL, ONESHOT = PollOpt.EDGE, PollOpt.LEVEL, PollOpt.ONESHOT
KQUEUE = "kqueue" in selector_names()
# Both tell the status of any process, and as long as one likes.
KNOWN = KQUEUE or WINDOWS
STATUSES = [0, 1, 77, 255]
if not WINDOWS:
    STATUSES += [-signal.SIGTERM, -signal.SIGKILL, -signal.SIGABRT]

if WINDOWS:
    import _winapi

    import windows

    def count_fds():
        """How many handles of processes this one has open, but for those that a Popen in a dead cycle has."""
        gc.collect()
        with contextlib.closing(ChildExit(os.getpid())) as own:
            found = windows.handles(os.getpid())
            return list(found.values()).count(found[own.fileno()]) - 1


pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@contextlib.contextmanager
def child(status=0):
    """A child that ends with this status, or by this negative signal, once its standard input is closed."""
    code = (
        f"import os, sys; sys.stdin.read(); "
        f"{f'os._exit({status})' if status >= 0 else f'os.kill(os.getpid(), {-status}); os.pause()'}"
    )
    with subprocess.Popen([sys.executable, "-Ic", code], stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def end(process):
    process.stdin.close()


def ended(process):
    """Have it end, and wait until it has, without waiting for it."""
    end(process)
    if WINDOWS:
        assert _winapi.WaitForSingleObject(process._handle, int(PATIENCE) * 1000) == _winapi.WAIT_OBJECT_0
    else:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.parametrize("opts", [EDGE, LEVEL, ONESHOT])
def test_the_end_is_an_event(poll, events, opts):
    with child() as process, ChildExit(process) as exit:
        poll.registry.register(exit, "e", READABLE, opts)
        expect_no_events(poll, events)
        assert exit.status() is None
        end(process)
        assert "readable" in expect_events(poll, events, {"e": "readable"})["e"]
        assert exit.status() == 0
        assert process.poll() == 0


@pytest.mark.parametrize("opts", [EDGE, EDGE | ONESHOT, ONESHOT])
def test_it_is_one_event(poll, events, opts):
    with child() as process, ChildExit(process) as exit:
        poll.registry.register(exit, "e", READABLE, opts)
        end(process)
        expect_only(poll, events, "e", "readable")
        expect_no_events(poll, events)
        # The kernel has something to say of this as well.
        assert process.wait(PATIENCE) == 0
        expect_no_events(poll, events)


def test_level(poll, events):
    with child() as process, ChildExit(process) as exit:
        poll.registry.register(exit, "e", READABLE, LEVEL)
        end(process)
        for _ in range(3):
            expect_only(poll, events, "e", "readable")
        process.wait(PATIENCE)
        expect_events(poll, events, {"e": "readable"})


def test_one_that_has_ended_before(poll, events):
    with child(3) as process:
        ended(process)
        with ChildExit(process) as exit:
            poll.registry.register(exit, "e", READABLE)
            expect_only(poll, events, "e", "readable")
            expect_no_events(poll, events)
            assert exit.status() == 3


def test_one_that_has_ended_before_it_is_registered(poll, events):
    with child() as process, ChildExit(process) as exit:
        ended(process)
        assert process.wait(PATIENCE) == 0
        poll.registry.register(exit, "e", READABLE)
        expect_events(poll, events, {"e": "readable"})
        expect_no_events(poll, events)


def test_reregistering_reports_it_again(poll, events):
    with child() as process, ChildExit(process) as exit:
        poll.registry.register(exit, "e", READABLE)
        end(process)
        expect_only(poll, events, "e", "readable")
        for opts in (EDGE, ONESHOT, LEVEL, EDGE):
            poll.registry.reregister(exit, "f", READABLE, opts)
            expect_only(poll, events, "f", "readable")
        expect_no_events(poll, events)
        poll.registry.deregister(exit)
        expect_no_events(poll, events)


def test_reregistering_before_it_ends(poll, events):
    with child() as process, ChildExit(process) as exit:
        poll.registry.register(exit, "e", READABLE)
        poll.registry.reregister(exit, "f", READABLE)
        expect_no_events(poll, events)
        end(process)
        expect_only(poll, events, "f", "readable")


def test_exclusive(events):
    with Poll() as poll, child() as process, ChildExit(process) as exit:
        if poll.selector_name != "epoll":
            pytest.skip("only epoll has it")
        poll.registry.register(exit, "e", READABLE, EDGE | PollOpt.EXCLUSIVE)
        end(process)
        expect_only(poll, events, "e", "readable")


def test_it_wakes_a_thread_that_waits(poll, events):
    with child() as process, ChildExit(process) as exit:
        poll.registry.register(exit, "e", READABLE)
        worker = Worker(poll.poll, events, PATIENCE)
        sleeping(worker)
        end(process)
        assert worker.finish() == 1


def test_many(poll, events):
    with contextlib.ExitStack() as stack:
        exits = {}
        for status in range(10):
            process = stack.enter_context(child(status))
            exit = exits[status] = stack.enter_context(ChildExit(process))
            poll.registry.register(exit, (process, status), READABLE)
            end(process)
        left = set(exits)
        while left:
            assert poll.poll(events, PATIENCE)
            for event in events:
                process, status = event.token
                left.remove(status)
                assert exits[status].status() == process.wait(PATIENCE) == status


# -- What became of it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
def test_status_is_that_of_popen(status):
    with child(status) as process, ChildExit(process) as exit:
        ended(process)
        for _ in range(3):
            assert exit.status() == status
        assert process.wait(PATIENCE) == status
        # It has seen it, and the process is gone.
        assert exit.status() == status


def test_status_after_it_was_waited_for():
    with child(3) as process, ChildExit(process) as exit:
        end(process)
        process.wait(PATIENCE)
        if KNOWN:
            # The kernel told the status with the event; or keeps it with the handle.
            assert exit.status() == 3
        else:
            with pytest.raises(ChildProcessError):
                exit.status()


@not_on_windows("no signal stops a process on Windows")
def test_stopping_is_not_ending(poll, events):
    with child() as process, ChildExit(process) as exit:
        poll.registry.register(exit, "e", READABLE)
        exit.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert exit.status() is None
        expect_no_events(poll, events)
        exit.send_signal(signal.SIGCONT)
        end(process)
        expect_only(poll, events, "e", "readable")
        assert exit.status() == 0


def test_no_child_of_this_process(poll, events):
    """It may be watched all the same."""
    sleep = "import time; time.sleep(60)"
    code = (
        "import subprocess, sys; "
        f"p = subprocess.Popen([sys.executable, '-Ic', {sleep!r}]); print(p.pid, flush=True); p.wait(); input()"
    )
    command = [sys.executable, "-Ic", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        with ChildExit(int(process.stdout.readline())) as exit:
            poll.registry.register(exit, "e", READABLE)
            if WINDOWS:
                assert exit.status() is None
            else:
                with pytest.raises(ChildProcessError):
                    exit.status()
            exit.send_signal(signal.SIGTERM)
            expect_events(poll, events, {"e": "readable"})
            if WINDOWS:
                assert exit.status() == 1
            else:
                with pytest.raises(ChildProcessError):
                    exit.status()
        process.stdin.close()


def test_its_own_process(poll, events):
    with ChildExit(os.getpid()) as exit:
        poll.registry.register(exit, "e", READABLE)
        expect_no_events(poll, events)
        exit.send_signal(0)


# -- Signals ----------------------------------------------------------------------------------------------------------


def test_send_signal(poll, events):
    with child() as process, ChildExit(process) as exit:
        poll.registry.register(exit, "e", READABLE)
        exit.send_signal(0)
        exit.send_signal(signal.SIGTERM)
        expect_only(poll, events, "e", "readable")
        status = 1 if WINDOWS else -signal.SIGTERM
        assert exit.status() == status
        if not WINDOWS:
            # To a zombie that goes nowhere.
            exit.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == status
        with pytest.raises(ProcessLookupError):
            exit.send_signal(signal.SIGTERM)
        with pytest.raises(ProcessLookupError):
            exit.send_signal(0)


@pytest.mark.parametrize(("number", "error"), [(1000, OSError), (-1, OSError), ("TERM", TypeError), (None, TypeError)])
def test_what_is_no_signal(number, error):
    with ChildExit(os.getpid()) as exit, pytest.raises(error):
        exit.send_signal(number)


@pytest.mark.skipif(not WINDOWS, reason="for Windows")
def test_events_of_the_console_are_no_numbers():
    """CTRL_C_EVENT is 0, which asks whether there is a process."""
    with child() as process, ChildExit(process) as exit:
        exit.send_signal(0)
        assert exit.status() is None
        with pytest.raises(OSError, match="no more"):
            exit.send_signal(1)
        end(process)
        process.wait(PATIENCE)
        for number in (signal.CTRL_C_EVENT, signal.CTRL_BREAK_EVENT, signal.SIGTERM, 0):
            with pytest.raises(ProcessLookupError):
                exit.send_signal(number)


@pytest.mark.skipif(not WINDOWS, reason="for Windows")
def test_numbers_are_not_rounded():
    for number in range(os.getpid() + 1, os.getpid() + 4):
        with pytest.raises(ProcessLookupError):
            ChildExit(number)


@pytest.mark.parametrize("registered", [False, True])
def test_no_descriptor_stays_open(poll, registered):
    before = count_fds()
    for number in range(300):
        with ChildExit(os.getpid()) as exit:
            if registered:
                poll.registry.register(exit, number, READABLE)
    assert count_fds() == before


# -- Whose ------------------------------------------------------------------------------------------------------------


def test_a_number_or_an_object_that_has_it(poll, events):
    with child() as process:
        first, second = mine(ChildExit(process.pid), ChildExit(process))
        assert first.pid == second.pid == process.pid
        poll.registry.register(first, 1, READABLE)
        poll.registry.register(second, 2, READABLE)
        end(process)
        expect_events(poll, events, {1: "readable", 2: "readable"})
        assert first.status() == second.status() == 0


def test_multiprocessing(poll, events):
    process = multiprocessing.get_context("spawn" if WINDOWS else "fork").Process(target=sys.exit, args=(5,))
    with pytest.raises(TypeError, match="pid"):
        # Not started.
        ChildExit(process)
    process.start()
    with ChildExit(process) as exit:
        poll.registry.register(exit, "e", READABLE)
        expect_events(poll, events, {"e": "readable"})
        assert exit.status() == 5
    process.join()
    assert process.exitcode == 5
    process.close()


def test_asyncio(poll, events):
    async def main():
        process = await asyncio.create_subprocess_exec(sys.executable, "-Ic", "input()", stdin=subprocess.PIPE)
        with ChildExit(process) as exit:
            poll.registry.register(exit, "e", READABLE)
            process.stdin.write_eof()
            assert await asyncio.wait_for(process.wait(), PATIENCE) == 1
            expect_events(poll, events, {"e": "readable"})
        with pytest.raises(ProcessLookupError):
            ChildExit(process)

    asyncio.run(main())


@not_on_windows("there is no fork on Windows")
def test_a_child_of_fork(poll, events):
    pid = os.fork()
    if pid == 0:
        os._exit(9)
    with ChildExit(pid) as exit:
        poll.registry.register(exit, "e", READABLE)
        expect_only(poll, events, "e", "readable")
        assert exit.status() == 9
        assert os.waitpid(pid, 0)[0] == pid


def test_a_process_that_is_gone():
    with child() as process:
        end(process)
        process.wait(PATIENCE)
        before = count_fds()
        # On Windows a number stays a process's as long as anybody has a handle of it, as Popen has.
        for gone in (process,) if WINDOWS else (process, process.pid):
            with pytest.raises(ProcessLookupError):
                ChildExit(gone)
        assert count_fds() == before


def test_a_popen_that_was_waited_for_while_it_was_opened():
    """By then the number may be another process's."""

    class Waiting:
        pid = os.getpid()
        asked = 0

        @property
        def returncode(self):
            self.asked += 1
            return None if self.asked == 1 else 0

    gc.collect()
    before = count_fds()
    with pytest.raises(ProcessLookupError, match="was waited for"):
        ChildExit(Waiting())
    gc.collect()
    assert count_fds() == before


@pytest.mark.parametrize(
    ("process", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (1 << 40, ValueError),
        (None, TypeError),
        ("1", TypeError),
        (1.0, TypeError),
        (object(), TypeError),
    ],
)
def test_what_is_no_process(process, error):
    with pytest.raises(error):
        ChildExit(process)


def test_arguments():
    for wrong in ((), (1, 2)):
        with pytest.raises(TypeError):
            ChildExit(*wrong)


@pytest.mark.skipif(KNOWN, reason="every kqueue has EVFILT_PROC, and every Windows handles of processes")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_a_kernel_without_it(monkeypatch, number):
    def refuse(pid, flags=0):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(NotImplementedError, match="pidfd_open"):
        ChildExit(os.getpid())


@pytest.mark.skipif(KNOWN, reason="every kqueue has EVFILT_PROC, and every Windows handles of processes")
def test_a_platform_without_it(monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")
    with pytest.raises(NotImplementedError, match="platform"):
        ChildExit(os.getpid())


# -- The end ----------------------------------------------------------------------------------------------------------


def test_closing():
    before = count_fds()
    exit = ChildExit(os.getpid())
    assert repr(exit) == f"<ChildExit pid={os.getpid()} fd={exit.fileno()}>"
    assert isinstance(exit, Source)
    assert not is_inheritable(exit.fileno())
    exit.close()
    exit.close()
    assert exit.closed
    assert repr(exit) == f"<ChildExit pid={os.getpid()} closed>"
    for use in (exit.status, exit.fileno, exit.__enter__, lambda: exit.send_signal(0)):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert exit.pid == os.getpid()
    assert count_fds() == before


def test_in_one_poll_after_another(poll, events, selector):
    with child() as process, ChildExit(process) as exit:
        for number in range(20):
            with Poll(selector=selector) as other:
                other.registry.register(exit, number, READABLE)
                expect_no_events(other, events, 0)
                if number % 2:
                    other.registry.deregister(exit)
        poll.registry.register(exit, "last", READABLE)
        end(process)
        expect_only(poll, events, "last", "readable")
        poll.registry.deregister(exit)
        with Poll(selector=selector) as other:
            other.registry.register(exit, "again", READABLE)
            expect_only(other, events, "again", "readable")


def test_what_ends_while_nobody_watches(poll, events):
    with child() as process, ChildExit(process) as exit:
        poll.registry.register(exit, "e", READABLE)
        poll.registry.deregister(exit)
        ended(process)
        expect_no_events(poll, events)
        poll.registry.register(exit, "f", READABLE)
        expect_only(poll, events, "f", "readable")


def test_several_watch_one_process(poll, events, selector):
    with child() as process, Poll(selector=selector) as other:
        watchers = [mine(ChildExit(process)) for _ in range(4)]
        for number, exit in enumerate(watchers):
            (poll if number % 2 else other).registry.register(exit, number, READABLE)
        watchers[0].close()
        end(process)
        expect_events(poll, events, {1: "readable", 3: "readable"})
        expect_events(other, events, {2: "readable"})


def test_registering_while_it_ends(poll, events):
    """Whenever that is, there is an event; and nothing that was deregistered is touched."""
    for number in range(30):
        with child() as process, ChildExit(process) as exit:
            end(process)
            while exit.status() is None:
                poll.registry.register(exit, "early", READABLE)
                poll.registry.deregister(exit)
            poll.registry.register(exit, number, READABLE)
            expect_only(poll, events, number, "readable")


def test_the_poll_is_closed_first(selector):
    with child() as process, ChildExit(process) as exit:
        with Poll(selector=selector) as poll:
            poll.registry.register(exit, "e", READABLE)
        ended(process)
        assert exit.status() == 0


def test_closing_ends_the_registration(poll, events):
    with child() as process:
        exit = ChildExit(process)
        poll.registry.register(exit, "e", READABLE)
        end(process)
        assert poll.poll(events, PATIENCE) == 1
        exit.close()
        assert list(events) == []
        expect_no_events(poll, events)


def test_registering_twice(poll, selector):
    with ChildExit(os.getpid()) as exit, Poll(selector=selector) as other:
        with pytest.raises(FileNotFoundError):
            poll.registry.reregister(exit, "e", READABLE)
        with pytest.raises(FileNotFoundError):
            poll.registry.deregister(exit)
        poll.registry.register(exit, "e", READABLE)
        for registry in (poll.registry, other.registry):
            with pytest.raises(FileExistsError):
                registry.register(exit, "e", READABLE)
        with pytest.raises(ValueError, match="exclude"):
            other.registry.register(mine(ChildExit(os.getpid())), "e", READABLE, EDGE | LEVEL)


def test_dropping_an_open_one():
    before = count_fds()
    exit = ChildExit(os.getpid())
    with pytest.warns(ResourceWarning, match=r"unclosed <ChildExit pid=\d+ fd=\d+>"):
        del exit
    assert count_fds() == before


def test_a_subclass_and_its_token(poll):
    class Mine(ChildExit):
        pass

    exit = Mine(os.getpid())
    exit.itself = exit
    poll.registry.register(exit, exit, READABLE)
    alive = weakref.ref(exit)
    exit.close()
    del exit
    gc.collect()
    assert alive() is None


def test_no_descriptors_left():
    with warnings.catch_warnings(), no_free_descriptors():
        warnings.simplefilter("error")
        with pytest.raises(OSError, match="Too many"):
            ChildExit(os.getpid())
    gc.collect()


def test_closing_while_another_thread_asks():
    """It is never another file's descriptor that is asked."""
    stop = threading.Event()

    def ask(exit):
        while True:
            try:
                assert exit.status() is None
                exit.send_signal(0)
            except ValueError:
                return

    with child() as process:
        for _ in range(20):
            exit = ChildExit(process)
            workers = [Worker(ask, exit) for _ in range(2)]
            for _ in range(20):
                stop.wait(0)
                exit.status()
            exit.close()
            for worker in workers:
                worker.finish()


@pytest.mark.skipif(KQUEUE, reason="a kqueue is not inherited: see test_process_filter.py")
def test_in_the_child_of_a_fork(poll, events, selector):
    """It stays open there, but stands for no child of that one's."""
    with child() as process, ChildExit(process) as exit:
        poll.registry.register(exit, "e", READABLE)

        def check():
            assert not exit.closed
            with pytest.raises(ChildProcessError):
                exit.status()
            with Poll(selector=selector) as own:
                own.registry.register(exit, "mine", READABLE)
                exit.send_signal(signal.SIGTERM)
                expect_events(own, events, {"mine": "readable"})
            exit.close()

        in_child(check)
        expect_only(poll, events, "e", "readable")
        assert exit.status() == -signal.SIGTERM


@not_on_windows("it is a handle, which select() does not take")
def test_it_waits_like_any_descriptor():
    with child() as process, ChildExit(process) as exit:
        end(process)
        wait_readable(exit)
        assert exit.status() == 0
