"""Programs under test: each in a process of its own, with every wait bounded."""

import os
import queue
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

if sys.platform == "win32":
    import windows

WINDOWS = sys.platform == "win32"
WINE = WINDOWS and windows.WINE
ROOT = Path(__file__).resolve().parent.parent
# How long to wait for what has to come; a sanitizer makes everything slow.
PATIENCE = 30.0
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")


class Program:
    """A Python program, started with these arguments.  Whoever starts it ends it: it is a context manager.

    Warnings are on, so that what it does not close shows in `stderr`.
    """

    def __init__(self, *arguments, **options):
        command = [sys.executable, "-W", "always", *map(str, arguments)]
        if WINDOWS:
            command.insert(3, str(ROOT / "tests" / "signalled.py"))
        options.setdefault("stdin", subprocess.PIPE if WINDOWS else subprocess.DEVNULL)
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        options.setdefault("stdout", subprocess.PIPE)
        self.process = subprocess.Popen(command, stderr=self.errors, cwd=ROOT, **options)
        self.pid = self.process.pid
        self.received = b""
        self.pieces = queue.SimpleQueue()
        if WINDOWS and self.process.stdout:
            # There select() knows sockets only.
            threading.Thread(target=self._read_on, args=[self.process.stdout.fileno()], daemon=True).start()

    def _read_on(self, fd):
        while piece := os.read(fd, 65536):
            self.pieces.put(piece)
        self.pieces.put(b"")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()
        self.errors.close()

    def line(self):
        """The next line of its output, without the end."""
        while b"\n" not in self.received:
            more = self._more()
            assert more, f"the program has ended: {self.received!r} {self.stderr()!r}"
            self.received += more
        line, self.received = self.received.split(b"\n", 1)
        return line.decode().removesuffix("\r")

    def rest(self):
        """What else it prints, up to its end."""
        while more := self._more():
            self.received += more
        self.process.wait(PATIENCE)
        return self.received.decode().replace("\r\n", "\n")

    def _more(self):
        output = self.process.stdout
        if WINDOWS:
            return self.pieces.get(timeout=PATIENCE)
        assert select.select([output], [], [], PATIENCE)[0], f"no output: {self.received!r} {self.stderr()!r}"
        return os.read(output.fileno(), 65536)

    def stderr(self):
        """What it has written to its standard error so far."""
        self.errors.seek(0)
        return self.errors.read().decode().replace("\r\n", "\n")

    def stop(self, number=signal.SIGINT if WINDOWS else signal.SIGTERM):
        """Have it stop, in good order; what else it printed."""
        self.send(number)
        rest = self.rest()
        assert (self.process.returncode, self.stderr()) == (0, "")
        return rest

    def send(self, number):
        """Send it a signal."""
        if WINDOWS:
            self.process.stdin.write(bytes([number]))
            self.process.stdin.flush()
        else:
            self.process.send_signal(number)

    def descriptors(self):
        """How many it has open; on Windows: sockets."""
        if WINDOWS:
            return self._sockets()
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def _sockets(self):
        # Of another process Windows does not tell which handles are sockets, so this one says it of itself.
        with tempfile.TemporaryDirectory() as folder:
            answer = Path(folder, "answer")
            self.process.stdin.write(b"\0" + os.fsencode(answer) + b"\n")
            self.process.stdin.flush()
            eventually(answer.exists)
            return int(answer.read_text())

    def libraries(self):
        """What it has loaded, in one text."""
        if WINDOWS:
            return "\n".join(windows.modules(self.process._handle)).replace("\\", "/")
        with open(f"/proc/{self.pid}/maps") as maps:
            return maps.read()

    def memory(self):
        """The bytes that it has in memory.  A sanitizer keeps what was freed; then it is always the same."""
        if SANITIZED:
            return 0
        if WINDOWS:
            return windows.working_set(self.process._handle)
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def processor_time(self):
        """The seconds that it has worked."""
        if WINDOWS:
            return windows.processor_time(self.process._handle)
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_running(number):
    """Whether there is a process with this number; a zombie is one."""
    if WINDOWS:
        return windows.is_running(number)
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def unix_sockets():
    """Whether this system has Unix sockets: not every Windows has."""
    try:
        socket.socket(1).close()
    except OSError:
        return False
    return True


def run_tool(*command):
    """Run a program of the system's to its end.  It is not what a sanitizer is to look at."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)


def system_calls(setup, code, tmp_path):
    """The names of the system calls that `code` makes after `setup`, in its own process only, one after the other."""
    if run_tool("sh", "-c", "command -v strace").returncode:
        pytest.skip("strace is not installed")
    script = tmp_path / "script.py"
    script.write_text(f"{setup}\nimport os\nos.write(2, b'begin')\n{code}\nos.write(2, b'end')\n")
    trace = tmp_path / "trace"
    done = run_tool("strace", "-o", trace, sys.executable, script)
    if not trace.exists() or "begin" not in trace.read_text():
        pytest.skip(f"strace cannot trace here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    begin, end = (next(i for i, line in enumerate(lines) if f'write(2, "{mark}"' in line) for mark in ("begin", "end"))
    return [line.partition("(")[0] for line in lines[begin + 1 : end]]


# -- Clients, on the socket module: what is tested is not to test itself ----------------------------------------------


def connect(address, family=socket.AF_INET):
    """A connected socket that waits, but not for ever."""
    sock = socket.socket(family)
    sock.settimeout(PATIENCE)
    try:
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def receive_exactly(sock, size):
    """So many bytes."""
    pieces = []
    while size:
        piece = sock.recv(min(size, 1 << 20))
        assert piece, f"the stream ended {size} bytes too soon"
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def receive_all(sock):
    """Everything up to the end of the stream."""
    pieces = []
    while piece := sock.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def send_until_blocked(sock, data, quiet=0.5):
    """Send as much as is taken, until for a while nothing more is; how many bytes."""
    sent = 0
    view = memoryview(data)
    sock.setblocking(False)
    while sent < len(data) and select.select([], [sock], [], quiet)[1]:
        sent += sock.send(view[sent : sent + 65536])
    sock.settimeout(PATIENCE)
    return sent


def eventually(condition):
    """Wait for a state of another process that nothing announces."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)
