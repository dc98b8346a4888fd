"""What the tests have in common.  Nothing here waits without a bound, and nothing sleeps to wait for a state."""

import contextlib
import errno
import faulthandler
import os
import platform
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback

import pytest

from metalio import Interest
from metalio.net import TcpListener, TcpStream

READABLE = Interest.READABLE
WRITABLE = Interest.WRITABLE
BOTH = READABLE | WRITABLE

WINDOWS = sys.platform == "win32"
LINUX = sys.platform in ("linux", "android")
# Whether the system tells what its processes and threads do: Linux does, macOS and most of the BSDs do not.
PROC = not WINDOWS and os.path.exists("/proc/self/fd")
if WINDOWS:
    import ctypes

    import windows
else:
    import resource
WINE = WINDOWS and windows.WINE

# The selectors that emulate edges for metalio's own sources, and have no descriptor by which they could be polled.
EMULATED = {"poll", "afd"}

# How long to wait for what has to come: reached only by a test that fails.
PATIENCE = 10.0
# How long to look for what must not come.
MOMENT = 0.01

# What set_alarm() sends, and another signal: Windows has one that ends a sleep.
ALARM = signal.SIGINT if WINDOWS else signal.SIGALRM
USER = signal.SIGINT if WINDOWS else signal.SIGUSR1

_mine = []


def not_on_windows(reason):
    """A mark for what Windows does not have; the reason says what that is."""
    return pytest.mark.skipif(WINDOWS, reason=reason)


# Others tell less, or nothing.
HAS_PEER_CRED = sys.platform.startswith(("linux", "android", "openbsd"))
needs_peer_cred = pytest.mark.skipif(not HAS_PEER_CRED, reason="no SO_PEERCRED: Linux and OpenBSD have it")


def mine(*closeables):
    """Have these closed at the end of the test."""
    _mine.extend(closeables)
    return closeables[0] if len(closeables) == 1 else closeables


def disown(*closeables):
    """Have these closed by somebody else."""
    for thing in closeables:
        _mine[:] = [one for one in _mine if one is not thing]


def close_all():
    while _mine:
        _mine.pop().close()


# -- Descriptors ------------------------------------------------------------------------------------------------------


def open_descriptors():
    """What every open descriptor of this process names.  On Windows only sockets are told from other handles."""
    if WINDOWS:
        return {handle: "socket" for handle in windows.handles(os.getpid()) if windows.is_socket(handle)}
    if not PROC:
        return descriptors_one_by_one()
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            # The one that the listing itself used.
            pass
    return found


def descriptors_one_by_one():
    """The same by fstat(2), up to a number that no test comes near."""
    found = {}
    for number in range(min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 4096)):
        try:
            status = os.fstat(number)
        except OSError:
            continue
        kind = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}.get(stat.S_IFMT(status.st_mode), "file")
        found[number] = f"{kind}:[{status.st_dev}:{status.st_ino}]"
    return found


def count_fds():
    """How many descriptors this process has open; on Windows: handles."""
    return windows.count_handles() if WINDOWS else len(open_descriptors())


def is_open(fd):
    if WINDOWS:
        return windows.is_socket(fd)
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def is_inheritable(fd):
    """Whether a descriptor, or a socket, is handed on to child processes."""
    return os.get_handle_inheritable(fd) if WINDOWS else os.get_inheritable(fd)


def is_blocking(fd):
    """Whether a descriptor is in blocking mode; on Windows one that has nothing to read, since only using it tells."""
    if not WINDOWS:
        return os.get_blocking(fd)
    winsock = ctypes.windll.ws2_32
    if winsock.recv(ctypes.c_void_p(fd), ctypes.create_string_buffer(1), 1, socket.MSG_PEEK) < 0:
        if winsock.WSAGetLastError() == errno.ENOTCONN:
            winsock.accept(ctypes.c_void_p(fd), None, None)
        return winsock.WSAGetLastError() != errno.EWOULDBLOCK
    raise AssertionError("there is something to read")


def same_socket(source):
    """A `socket.socket` for the same socket, to be closed like any other."""
    if WINDOWS:
        return source.try_clone().into_socket()
    return socket.socket(fileno=os.dup(source.fileno()))


def close_number(number):
    """Close a descriptor, or a socket, behind the back of whoever has it."""
    if WINDOWS:
        socket.close(number)
    else:
        os.close(number)


def give_number(number, other):
    """Close what has this number, if anything has, and give it to the file of the socket `other`.

    It is to be closed by its number.
    """
    if not WINDOWS:
        # Closes what had the number, as close() and an open() after it would.
        os.dup2(other.fileno(), number, inheritable=False)
        return
    with contextlib.suppress(OSError):
        socket.close(number)
    others = []
    kernel = ctypes.windll.kernel32
    kernel.CloseHandle(_low.pop())
    # The kernel alone chooses, but it does not take long to come back to one.
    while (sock := other.dup()).fileno() != number and len(others) < 4096:
        others.append(sock)
    reserve_handle()
    for one in others:
        one.close()
    if sock.fileno() != number:
        sock.close()
        pytest.skip("the kernel does not use this handle again")
    sock.detach()


# To duplicate a socket takes another handle for a moment, and that would always be the one that is to be used again.
# So there is one that is chosen before that: it is a low one, and was closed last.
_low = []


def reserve_handle():
    create = ctypes.windll.kernel32.CreateEventW
    create.restype = ctypes.c_void_p
    _low.append(ctypes.c_void_p(create(None, True, False, None)))


if WINDOWS:
    reserve_handle()


def need_loopback_addresses():
    """Skip where the loopback has one address: macOS, and Wine, which binds to another one and then forgets it."""
    with socket.socket(type=socket.SOCK_DGRAM) as first, socket.socket(type=socket.SOCK_DGRAM) as second:
        first.bind(("127.0.0.1", 0))
        try:
            second.bind(("127.0.0.2", 0))
        except OSError:
            pytest.skip("the loopback of this system has one address")
        second.sendto(b"x", first.getsockname())
        if first.recvfrom(1)[1] != second.getsockname():
            pytest.skip("the loopback of this system has one address")


@contextlib.contextmanager
def no_free_descriptors(spare=0):
    """While this lasts, the process can open so many more descriptors and no more."""
    if WINDOWS:
        pytest.skip("Windows has no limit of open sockets that a process could set for itself")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = open_descriptors()
    number = spared = 0
    while spared <= spare:
        if number not in taken:
            spared += 1
        number += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (number - 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- Sources ----------------------------------------------------------------------------------------------------------


def wait_readable(source, timeout=PATIENCE):
    """Wait, without metalio, until a descriptor is readable."""
    assert _ready(source, False, timeout), f"{source!r} did not become readable"


def _ready(source, writing, timeout):
    if WINDOWS:
        # An attempt to connect that failed is an exception there.
        return any(select.select([] if writing else [source], [source] if writing else [], [source], timeout))
    waiter = select.poll()
    waiter.register(source, select.POLLOUT if writing else select.POLLIN)
    return waiter.poll(timeout * 1000)


def tcp_listener(addr="127.0.0.1:0", **options):
    return mine(TcpListener.bind(addr, **options))


def accept(listener):
    """The next connection, which has to come: `(TcpStream, addr)`."""
    wait_readable(listener)
    accepted = listener.accept()
    assert accepted is not None
    mine(accepted[0])
    return accepted


def tcp_pair(addr="127.0.0.1:0"):
    """Two connected streams: the one that connected and the one that was accepted."""
    with TcpListener.bind(addr) as listener:
        client = mine(TcpStream.connect(listener.local_addr))
        server, _ = accept(listener)
    wait_writable(client)
    assert client.take_error() is None
    return client, server


def wait_writable(source, timeout=PATIENCE):
    assert _ready(source, True, timeout), f"{source!r} did not become writable"


def socket_pair():
    """Two connected sockets of the `socket` module, non-blocking: sources that are not metalio's own."""
    first, second = socket.socketpair()
    first.setblocking(False)
    second.setblocking(False)
    return mine(first, second)


def shrink(*streams, size=4096):
    """Make the buffers of streams small, so that they are soon full."""
    for stream in streams:
        with same_socket(stream) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def fill(stream, chunk=bytes(65536)):
    """Write until it would block and stays so; how many bytes."""
    total = 0
    while True:
        sent = stream.write(chunk)
        if sent is None:
            # The peer's kernel may still be taking over what this one has sent.
            if not _ready(stream, True, MOMENT):
                return total
        else:
            total += sent


def drain(stream):
    """Read until it would block, or to the end; the bytes."""
    pieces = []
    while piece := stream.read(65536):
        pieces.append(piece)
    return b"".join(pieces)


def read_exactly(stream, size):
    """So many bytes, which have to come."""
    pieces = []
    while size:
        piece = stream.read(size)
        if piece is None:
            wait_readable(stream)
        else:
            assert piece, "the stream ended too soon"
            pieces.append(piece)
            size -= len(piece)
    return b"".join(pieces)


# -- Polling ----------------------------------------------------------------------------------------------------------


def what(event):
    """The predicates of an event that are true, by their names without `is_`."""
    return {
        name
        for name in ("readable", "writable", "priority", "error", "read_closed", "write_closed", "aio", "lio")
        if getattr(event, f"is_{name}")()
    }


def seen(events):
    """Tokens and predicates of a batch."""
    return [(event.token, what(event)) for event in events]


def expect_events(poll, events, expected):
    """Poll until every token in `expected` has shown the predicates named there, in one event or in several.

    `expected` is a dictionary of tokens to a predicate such as `"readable"`, or a collection of them.  Other events
    are let pass, since events are hints.  Returns `{token: all predicates seen}`.
    """
    wanted = {token: {names} if isinstance(names, str) else set(names) for token, names in expected.items()}
    found = {}
    deadline = time.monotonic() + PATIENCE
    while True:
        missing = {token: names - found.get(token, set()) for token, names in wanted.items()}
        if not any(missing.values()):
            return found
        left = deadline - time.monotonic()
        assert left > 0, f"expected {wanted}, saw {found}"
        poll.poll(events, left)
        for event in events:
            found.setdefault(event.token, set()).update(what(event))


def expect_no_events(poll, events, timeout=MOMENT):
    """Nothing is reported, now or within a moment."""
    for wait in (0, timeout):
        count = poll.poll(events, wait)
        assert count == 0, f"expected nothing, saw {seen(events)}"


def expect_only(poll, events, token, names):
    """The next poll reports this one event, with exactly these predicates."""
    count = poll.poll(events, PATIENCE)
    assert seen(events) == [(token, {names} if isinstance(names, str) else set(names))]
    assert count == 1
    return events[0]


# -- Threads ----------------------------------------------------------------------------------------------------------


class Worker(threading.Thread):
    """A thread whose result or exception `finish()` hands on."""

    def __init__(self, target, *args):
        super().__init__(daemon=True)
        self.target, self.args = target, args
        self.result = self.error = None
        self.start()

    def run(self):
        try:
            self.result = self.target(*self.args)
        except BaseException as error:
            self.error = error

    def finish(self, timeout=PATIENCE):
        self.join(timeout)
        assert not self.is_alive(), "the thread does not end"
        if self.error is not None:
            raise self.error
        return self.result


def sleeping(worker, timeout=PATIENCE):
    """Wait until a thread sleeps in the kernel, as /proc tells.  Where nobody tells it has some time to do so."""
    if WINDOWS or not PROC:
        time.sleep(0.05)
        return
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/self/task/{worker.native_id}/syscall") as file:
                call = file.read().split()
        except OSError:
            break
        if call[0] != "running" and int(call[0]) in _WAITING:
            return
        time.sleep(0)
    raise AssertionError("the thread does not sleep")


# epoll_wait, epoll_pwait, epoll_pwait2, poll, ppoll on x86-64; epoll_pwait, epoll_pwait2, ppoll on AArch64.
_WAITING = {232, 281, 441, 7, 271} if platform.machine() == "x86_64" else {22, 441, 73}


class _Alarm(threading.Thread):
    """Sends signals from a thread, as Windows does for Ctrl-C."""

    def __init__(self, first, every):
        super().__init__(daemon=True)
        self.pause, self.every = first, every
        self.over = threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(self.pause):
            signal.raise_signal(ALARM)
            if not self.every:
                break
            self.pause = self.every


_alarm_thread = None


def set_alarm(first, every=0.0):
    """Have the main thread get an ALARM in so many seconds, once or over and over; with 0 no (further) one."""
    global _alarm_thread
    if not WINDOWS:
        signal.setitimer(signal.ITIMER_REAL, first, every)
        return
    if _alarm_thread is not None:
        _alarm_thread.over.set()
        if _alarm_thread is not threading.current_thread():
            _alarm_thread.join()
    _alarm_thread = _Alarm(first, every) if first else None


def send_signal(thread, number):
    """Send a signal to a thread; on Windows, which sends them to the process, the main thread gets it."""
    if WINDOWS:
        signal.raise_signal(number)
    else:
        signal.pthread_kill(thread, number)


# -- Processes --------------------------------------------------------------------------------------------------------


def in_child(function, *args):
    """Call a function in a forked child, which must return from it.  A crash or a hang there is a failure here."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork on Windows")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            # Whatever it is that hangs, even with the GIL held.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(int(PATIENCE) * 2)
            faulthandler.disable()
            function(*args)
            status = 0
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as report:
        text = report.read().decode()
    _, status = os.waitpid(pid, 0)
    assert not os.WIFSIGNALED(status), f"the child died of {signal.Signals(os.WTERMSIG(status)).name}"
    assert status == 0, f"in the child:\n{text}"


# How a process of apart() says that its function has returned.
_RETURNED = 77


def apart(function):
    """Call a function in a process of its own, since it may crash that: a forked child.

    Where there is no fork that is another run of the test that is running, which ends with this function.
    """
    if hasattr(os, "fork"):
        return in_child(function)
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
    if report := os.environ.get("METALIO_APART"):
        status = 1
        try:
            function()
            status = _RETURNED
        except BaseException:
            with open(report, "w") as file:
                file.write(traceback.format_exc())
        finally:
            os._exit(status)
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
            env={**os.environ, "METALIO_APART": report},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 5,
        )
        text = done.stdout + done.stderr
        if os.path.exists(report):
            with open(report) as file:
                text = file.read()
    assert done.returncode == _RETURNED, f"in a process of its own, status {done.returncode:#x}:\n{text}"


def run_python(code, *options):
    """Run a program in an interpreter of its own; it must succeed.  What it wrote to its standard error."""
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 3,
    )
    assert done.returncode == 0, f"status {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stderr
