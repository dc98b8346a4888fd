"""A supervisor: keeps programs running, and takes them along when it is stopped.

    python examples/supervisor.py "python worker.py" "sleep 10"

Each argument is the command line of a program.  One that ends is started again, after a delay that doubles each time,
until it has run for a while.  SIGINT and SIGTERM end it all: the programs get SIGTERM, and those that are still there
after the grace SIGKILL; a second signal cuts that short.  SIGHUP has all programs end and start again.

On Windows Ctrl-C ends it all, and Ctrl-Break is what SIGHUP is elsewhere.  There SIGTERM ends a program at once.
"""

import shlex
import signal
import subprocess
import sys
import time
from functools import partial

from metalio import Events, Interest, Poll
from metalio.process import ChildExit
from metalio.signal import Signals

FIRST_DELAY = 0.1  # seconds before a program is started again
LONGEST_DELAY = 30.0
STABLE = 10.0  # who ran for so long begins with the first delay again
GRACE = 5.0  # what a program is given to end by itself

if sys.platform == "win32":
    KILL, HANG_UP = signal.SIGTERM, signal.SIGBREAK
else:
    KILL, HANG_UP = signal.SIGKILL, signal.SIGHUP


class Program:
    """One program: running, or waiting to be started at `due`."""

    def __init__(self, supervisor, command):
        self.supervisor = supervisor
        self.command = command
        self.delay = FIRST_DELAY
        self.due: float | None = time.monotonic()
        self.exit: ChildExit | None = None

    def start(self):
        self.due = None
        self.started = time.monotonic()
        try:
            # Windows has command lines, and each program takes its own apart.
            process = subprocess.Popen(self.command if sys.platform == "win32" else shlex.split(self.command))
        except OSError as error:
            self.wait(f"cannot start: {error.strerror}")
            return
        # Its end cannot be missed: it is a zombie, and its number no other's, until wait() is called.
        self.exit = ChildExit(process)
        self.supervisor.registry.register(self.exit, partial(self.ended, process, self.exit), Interest.READABLE)
        print("started", process.pid, self.command, flush=True)

    def ended(self, process, exit, event):
        exit.close()
        self.exit = None
        status = process.wait()  # which returns at once
        if self.supervisor.stopping:
            print("ended", self.command, flush=True)
        else:
            self.wait(f"exit status {status}" if status >= 0 else signal.Signals(-status).name)

    def wait(self, why):
        now = time.monotonic()
        if now - self.started >= STABLE:
            self.delay = FIRST_DELAY
        print(f"again in {self.delay:g} s ({why}):", self.command, flush=True)
        self.due = now + self.delay
        self.delay = min(self.delay * 2, LONGEST_DELAY)

    def send(self, number):
        # Through the ChildExit it cannot hit another process.
        if self.exit is not None:
            self.exit.send_signal(number)


class Supervisor:
    def __init__(self, commands):
        self.programs = [Program(self, command) for command in commands]
        self.stopping = False
        self.deadline = None

    def run(self):
        events = Events()
        with Poll() as poll, Signals({signal.SIGINT, signal.SIGTERM, HANG_UP}) as signals:
            self.registry = poll.registry
            self.registry.register(signals, partial(self.signalled, signals), Interest.READABLE)
            while not self.stopping or self.running():
                poll.poll(events, self.attend())
                for event in events:
                    event.token(event)

    def running(self):
        return [program for program in self.programs if program.exit is not None]

    def attend(self):
        """Do what is due; how many seconds there are until something else is, or `None`."""
        now = time.monotonic()
        if self.stopping:
            if self.deadline is not None and now >= self.deadline:
                self.deadline = None
                self.send(KILL)
            return None if self.deadline is None else self.deadline - now
        for program in self.programs:
            if program.due is not None and program.due <= now:
                program.start()
        due = [program.due for program in self.programs if program.due is not None]
        return max(min(due) - time.monotonic(), 0) if due else None

    def send(self, number):
        for program in self.running():
            program.send(number)

    def signalled(self, signals, event):
        for number in signals.pending():
            if number == HANG_UP:
                self.send(signal.SIGTERM)
            elif self.stopping:
                self.deadline = time.monotonic()
            else:
                print(f"stopping ({number.name})", flush=True)
                self.stopping = True
                self.deadline = time.monotonic() + GRACE
                self.send(signal.SIGTERM)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    Supervisor(sys.argv[1:]).run()
