"""examples/supervisor.py, talked to over real sockets."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
from example import start
from program import WINDOWS, eventually, is_running

from metalio._sys import selector_names

# What it takes for a hang-up, how a program can be ended from outside, and what it says of one that ended so.
if WINDOWS:
    HANG_UP = signal.SIGBREAK
    KILL, KILLED, TERMINATED = signal.SIGTERM, f"exit status {int(signal.SIGTERM)}", "exit status 1"
else:
    HANG_UP = signal.SIGHUP
    KILL, KILLED, TERMINATED = signal.SIGKILL, "SIGKILL", "SIGTERM"


class TestSupervisor:
    """`supervisor.py`."""

    @staticmethod
    def supervise(*scripts):
        """Each a program in Python; and their command lines."""
        join = subprocess.list2cmdline if WINDOWS else shlex.join
        commands = [join([sys.executable, "-c", script]) for script in scripts]
        return start("supervisor.py", *commands), commands

    # Says when it is ready for signals, and waits for them.
    WAITING = "import os, time; os.write(1, b'ready\\n'); time.sleep(100)"
    STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAITING

    @staticmethod
    def started(program, command):
        words = program.line().split(maxsplit=2)
        assert (words[0], words[2]) == ("started", command)
        return int(words[1])

    @staticmethod
    def ready(program, *commands):
        """Once they are started and ready, whoever is quicker to say so: their numbers."""
        lines = sorted(program.line() for _ in range(2 * len(commands)))
        assert lines[: len(commands)] == ["ready"] * len(commands)
        words = [line.split(maxsplit=2) for line in lines[len(commands) :]]
        assert sorted((started, command) for started, _, command in words) == [("started", each) for each in commands]
        return [int(pid) for _, pid, _ in words]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_stops_its_programs(self, number):
        program, commands = self.supervise(self.WAITING, self.WAITING)
        with program:
            pids = self.ready(program, *commands)
            rest = program.stop(number)
        assert rest.splitlines() == [f"stopping ({number.name})", *(f"ended {command}" for command in commands)]
        assert not any(is_running(pid) for pid in pids)

    def test_starts_again_with_a_delay_that_doubles(self):
        program, (command,) = self.supervise("raise SystemExit(3)")
        with program:
            pids = set()
            begin = time.monotonic()
            for delay in ("0.1", "0.2", "0.4"):
                pids.add(self.started(program, command))
                assert program.line() == f"again in {delay} s (exit status 3): {command}"
            pids.add(self.started(program, command))
            assert time.monotonic() - begin >= 0.7
            assert len(pids) == 4
            program.stop()

    def test_one_does_not_wait_for_the_other(self):
        program, (waiting, _) = self.supervise(self.WAITING, "raise SystemExit")
        with program:
            pid = self.started(program, waiting)
            lines = [program.line() for _ in range(6)]
            assert "ready" in lines
            assert any(line.startswith("again in 0.2 s") for line in lines)
            os.kill(pid, KILL)
            while (line := program.line()) != f"again in 0.1 s ({KILLED}): {waiting}":
                assert not line.endswith(waiting)
            program.stop()

    def test_hang_up_starts_them_again(self):
        program, (command,) = self.supervise(self.WAITING)
        with program:
            first = self.ready(program, command)
            program.send(HANG_UP)
            assert program.line() == f"again in 0.1 s ({TERMINATED}): {command}"
            assert self.ready(program, command) != first
            program.stop()

    def test_a_second_signal_kills(self):
        program, (command,) = self.supervise(self.STUBBORN)
        with program:
            (pid,) = self.ready(program, command)
            program.send(signal.SIGTERM)
            assert program.line() == "stopping (SIGTERM)"
            assert is_running(pid)
            assert program.stop(signal.SIGINT) == f"ended {command}\n"

    def test_programs_that_cannot_be_started(self):
        with start("supervisor.py", "/nonexistent/program x", "/") as program:
            lines = [program.line() for _ in range(4)]
            if WINDOWS:
                # In words that are its own.
                lines = [re.sub(r"start: [^)]+", "start: …", line) for line in lines]
                missing = refused = "…"
            else:
                missing, refused = "No such file or directory", "Permission denied"
            assert lines == [
                f"again in 0.1 s (cannot start: {missing}): /nonexistent/program x",
                f"again in 0.1 s (cannot start: {refused}): /",
                f"again in 0.2 s (cannot start: {missing}): /nonexistent/program x",
                f"again in 0.2 s (cannot start: {refused}): /",
            ]
            if selector_names()[0] == "epoll":
                # The three that every program has, the poll's two, and that of the signals.
                eventually(lambda: program.descriptors() == 6)
            program.stop()

    def test_leaves_no_descriptors_and_no_zombies(self):
        program, (command,) = self.supervise("")
        with program:
            counts = set()
            for delay in ("0.1", "0.2", "0.4"):
                pid = self.started(program, command)
                assert program.line().startswith(f"again in {delay} s")
                counts.add(program.descriptors())
                assert not is_running(pid)
            assert len(counts) == 1
            program.stop()
