"""`python -m metalio`: info, and the echo server."""

import errno
import json
import os
import platform
import re
import select
import signal
import socket
import time

import pytest
from example import reset
from program import (
    PATIENCE,
    WINDOWS,
    Program,
    connect,
    eventually,
    receive_all,
    receive_exactly,
    send_until_blocked,
)

import metalio
from metalio._sys import selector_names
from metalio.cli import echo, info
from metalio.process import ChildExit

if not WINDOWS:
    import fcntl
    import pty
    import resource
    import termios

BLOCK = os.urandom(1 << 20)

# Sends and receives as fast as it can.
FIREHOSE = """
import select, socket, sys
hose = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
hose.sendall(b"x")
hose.recv(1)
hose.setblocking(False)
print("flowing", flush=True)
while True:
    readable, writable, _ = select.select([hose], [hose], [])
    if readable and not hose.recv(1 << 20):
        break
    if writable:
        hose.send(bytes(1 << 20))
"""


def run(*arguments):
    """Run a command to its end: exit code, output, and errors."""
    with Program("-m", "metalio", *arguments) as program:
        output = program.rest()
        return program.process.returncode, output, program.stderr()


class TestMain:
    def test_version(self):
        assert run("--version") == (0, f"metalio {metalio.__version__}\n", "")

    def test_help_names_the_commands(self):
        code, output, errors = run("--help")
        assert (code, errors) == (0, "")
        for command in ("info", "echo", "bench"):
            assert command in output

    @pytest.mark.parametrize("arguments", [(), ("nonsense",), ("echo", "--nonsense"), ("echo", "--selector", "x")])
    def test_usage(self, arguments):
        code, output, errors = run(*arguments)
        assert (code, output) == (2, "")
        assert errors.startswith("usage: ")
        assert "Traceback" not in errors


class TestInfo:
    def test_says_what_is_here(self):
        code, output, errors = run("info")
        assert (code, errors) == (0, "")
        titles = [line for line in output.splitlines() if line and not line.startswith(" ")]
        assert titles == [f"metalio {metalio.__version__}", "In use", "Features"]
        rows = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in output.splitlines() if line[:1] == " ")
        with metalio.Poll() as poll:
            assert rows["selector"].startswith(f"{poll.selector_name} (")
        for name in selector_names():
            assert name in rows["selector"]
        assert re.match(r"(eventfd|EVFILT_USER|posted completion|pipe) \(", rows["waker"])
        for name, _ in info.FEATURES.values():
            assert re.fullmatch(r"yes|no: .+", rows[name])

    def test_says_the_same_to_programs(self, monkeypatch):
        monkeypatch.delenv("METALIO_SELECTOR", raising=False)
        monkeypatch.delenv("METALIO_WAKER", raising=False)
        code, output, errors = run("info", "--json")
        assert (code, errors) == (0, "")
        found = json.loads(output)
        assert found["metalio"] == metalio.__version__
        assert found["python"]["version"] == platform.python_version()
        assert found["selector"] == {
            "used": selector_names()[0],
            "here": list(selector_names()),
            "variable": "METALIO_SELECTOR",
            "chosen": False,
        }
        assert found["waker"]["used"] == found["waker"]["here"][0]
        assert found["features"].keys() == info.FEATURES.keys()
        for feature in found["features"].values():
            assert feature["missing"] is None or feature["missing"]

    def test_by_what_a_child_exit_hears(self):
        found = info.look()
        if found["child_exit"] is None:
            with pytest.raises((NotImplementedError, OSError)):
                ChildExit(os.getpid())
        else:
            assert found["child_exit"] in ("pidfd", "EVFILT_PROC", "wait handle")
            ChildExit(os.getpid()).close()

    def test_says_who_has_chosen(self, monkeypatch):
        name = selector_names()[-1]
        monkeypatch.setenv("METALIO_SELECTOR", name)
        waker = info.look()["waker"]["here"][-1]
        monkeypatch.setenv("METALIO_WAKER", waker)
        _, output, _ = run("info")
        assert re.search(rf"^  selector +{name} \(chosen by METALIO_SELECTOR", output, re.MULTILINE)
        assert re.search(rf"^  waker +{waker} \(chosen by METALIO_WAKER", output, re.MULTILINE)
        found = info.look()
        assert (found["selector"]["used"], found["selector"]["chosen"]) == (name, True)
        assert (found["waker"]["used"], found["waker"]["chosen"]) == (waker, True)

    @pytest.mark.parametrize("variable", ["METALIO_SELECTOR", "METALIO_WAKER"])
    def test_a_choice_that_is_not_here(self, monkeypatch, variable):
        monkeypatch.setenv(variable, "nonsense")
        code, output, errors = run("info")
        assert (code, output) == (1, "")
        assert errors.startswith(f"metalio info: {variable} is 'nonsense': there is ")

    def test_what_fails_is_not_there(self):
        def refused():
            raise OSError(errno.EPERM, "no")

        def unwritten():
            raise NotImplementedError("never")

        assert info.why_not(refused) == "no"
        assert info.why_not(unwritten) == "never"
        assert info.why_not(lambda: os.nothing) == "not on this platform"
        assert info.why_not(lambda: None) is None


class Echo(Program):
    """The echo server on TCP, with the selector, or what the arguments say."""

    def __init__(self, selector, *arguments, **options):
        super().__init__(
            "-m", "metalio", "echo", "--selector", selector, *(arguments or ("--tcp", "127.0.0.1:0")), **options
        )

    def address(self):
        """The next address that it announces."""
        kind, text = self.line().split(" ", 1)
        if kind == "unix":
            return text
        host, port = text.rsplit(":", 1)
        return host.strip("[]"), int(port)


@pytest.fixture
def server(selector):
    with Echo(selector) as program:
        program.tcp = program.address()
        yield program


class TestEcho:
    def test_serves_all_three_at_once(self, selector, tmp_path):
        path = str(tmp_path / "echo")
        with Echo(selector, "--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--unix", path) as program:
            tcp, udp = program.address(), program.address()
            assert program.address() == path
            with (
                connect(tcp) as tcp_client,
                connect(path, socket.AF_UNIX) as unix_client,
                socket.socket(type=socket.SOCK_DGRAM) as udp_client,
            ):
                udp_client.settimeout(PATIENCE)
                for size in (1, 1000, 60000):
                    for client in (tcp_client, unix_client):
                        client.sendall(BLOCK[:size])
                        assert receive_exactly(client, size) == BLOCK[:size]
                    udp_client.sendto(BLOCK[:size], udp)
                    assert udp_client.recvfrom(65536) == (BLOCK[:size], udp)
                # An empty datagram is one too.
                udp_client.sendto(b"", udp)
                assert udp_client.recvfrom(65536) == (b"", udp)
            summary = program.stop()
        assert re.fullmatch(
            r"served 2 connections, 4 datagrams, 183.0 kB in, 183.0 kB out, \d+ events in \d+\.\d s\n", summary
        )
        assert not os.path.lexists(path)

    def test_default_is_tcp_on_loopback(self, selector):
        with Echo(selector, "--quiet") as program:
            try:
                assert program.line() == "tcp 127.0.0.1:7777"
            except AssertionError:
                assert "tcp on 127.0.0.1:7777: Address already in use" in program.stderr()
                pytest.skip("port 7777 is taken")

    def test_ipv6(self, selector):
        if info.why_not(info.try_ipv6):
            pytest.skip("no IPv6 on this machine")
        with Echo(selector, "--tcp", "[::1]:0") as program:
            with connect(program.address(), socket.AF_INET6) as client:
                client.sendall(b"six")
                assert receive_exactly(client, 3) == b"six"
            program.stop()

    def test_abstract_address(self, selector):
        name = f"metalio-test-{os.getpid()}-{selector}"
        with Echo(selector, "--unix", f"@{name}") as program:
            assert program.address() == f"@{name}"
            with connect(f"\0{name}", socket.AF_UNIX) as client:
                client.sendall(b"abstract")
                assert receive_exactly(client, 8) == b"abstract"
            program.stop()

    def test_quiet(self, selector):
        with Echo(selector, "--tcp", "127.0.0.1:0", "--quiet") as program:
            program.address()
            assert program.stop() == ""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_stops_on_signals(self, server, number):
        with connect(server.tcp) as client:
            client.sendall(b"here")
            assert receive_exactly(client, 4) == b"here"
            server.stop(number)
            assert client.recv(1) == b""

    def test_half_close(self, server):
        with connect(server.tcp) as client:
            client.sendall(BLOCK[:300_000])
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == BLOCK[:300_000]

    def test_half_close_without_anything(self, server):
        with connect(server.tcp) as client:
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""

    def test_reset(self, server):
        before = server.descriptors()
        with connect(server.tcp) as client:
            client.sendall(b"x")
            receive_exactly(client, 1)
            reset(client)
        eventually(lambda: server.descriptors() == before)
        with connect(server.tcp) as client:
            client.sendall(b"still there")
            receive_exactly(client, 11)
        server.stop()

    def test_a_reset_is_counted(self, server):
        before = server.descriptors()
        with connect(server.tcp) as client:
            client.sendall(b"x")
            receive_exactly(client, 1)
            reset(client)
        eventually(lambda: server.descriptors() == before)
        assert "1 failed" in server.stop()

    @pytest.mark.parametrize("family", ["tcp", "unix"])
    def test_a_client_that_does_not_read(self, selector, tmp_path, family):
        """It is not read from either, and gets every byte once it reads."""
        path = str(tmp_path / "echo")
        arguments = ("--unix", path) if family == "unix" else ("--tcp", "127.0.0.1:0")
        data = BLOCK * 64
        with Echo(selector, *arguments) as program:
            address = program.address()
            with connect(address, socket.AF_UNIX if family == "unix" else socket.AF_INET) as client:
                client.sendall(b"x")
                receive_exactly(client, 1)
                memory = program.memory()
                sent = send_until_blocked(client, data)
                assert sent < len(data)
                assert program.memory() - memory < 4 << 20
                received = []
                view = memoryview(data)
                client.setblocking(False)
                total = 0
                while total < len(data):
                    readable, writable, _ = select.select([client], [client] if sent < len(data) else [], [], PATIENCE)
                    assert readable or writable
                    if readable:
                        received.append(client.recv(30_000))
                        assert received[-1]
                        total += len(received[-1])
                    if writable:
                        sent += client.send(view[sent : sent + 100_000])
                assert b"".join(received) == data
                # Whoever else is there is served meanwhile, and afterwards.
            program.stop()

    def test_a_slow_client_holds_nobody_up(self, server):
        with connect(server.tcp) as slow, connect(server.tcp) as other:
            send_until_blocked(slow, BLOCK * 32, quiet=0.1)
            for _ in range(100):
                other.sendall(b"ping")
                assert receive_exactly(other, 4) == b"ping"

    def test_a_firehose_starves_nobody(self, server):
        with Program("-c", FIREHOSE, server.tcp[1]) as hose, connect(server.tcp) as other:
            assert hose.line() == "flowing"
            for _ in range(200):
                other.sendall(b"ping")
                assert receive_exactly(other, 4) == b"ping"
            assert hose.process.poll() is None
            server.stop()

    def test_many_connections_leave_nothing_behind(self, server):
        before = server.descriptors()
        for _ in range(5):
            clients = [connect(server.tcp) for _ in range(100)]
            for number, client in enumerate(clients):
                client.sendall(b"%d" % number)
            for number, client in enumerate(clients):
                assert receive_exactly(client, len(str(number))) == b"%d" % number
                client.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b""
                client.close()
        assert server.descriptors() == before
        assert "served 500 connections" in server.stop()

    def test_out_of_descriptors(self, selector):
        """Those who find no descriptor wait until there is one; nobody is turned away, and nothing spins."""
        with Echo(selector) as program:
            address = program.address()
            hard = resource.prlimit(program.pid, resource.RLIMIT_NOFILE)[1]
            resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (program.descriptors() + 5, hard))
            clients = [connect(address) for _ in range(30)]
            try:
                for client in clients:
                    client.sendall(b"hello")
                eventually(program.stderr)
                assert program.stderr() == "metalio echo: not accepting: Too many open files\n"
                before = program.processor_time()
                time.sleep(0.5)
                assert program.processor_time() - before < 0.25
                # The queue is in the order of arrival.
                for client in clients:
                    assert receive_exactly(client, 5) == b"hello"
                    client.close()
            finally:
                for client in clients:
                    client.close()
            program.process.send_signal(signal.SIGTERM)
            assert "served 30 connections" in program.rest()
            assert program.process.returncode == 0


class TestEchoRefuses:
    def test_port_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = echo.format_address(taken.getsockname())
            assert run("echo", "--tcp", address) == (
                1,
                "",
                f"metalio echo: cannot serve tcp on {address}: Address already in use\n",
            )

    @pytest.mark.parametrize("kind", ["tcp", "udp"])
    @pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "127.0.0.1:99999", "localhost:80", "", "[::1:80"])
    def test_bad_address(self, kind, address):
        code, output, errors = run("echo", f"--{kind}", address)
        assert (code, output) == (1, "")
        assert errors.startswith(f"metalio echo: cannot serve {kind} on {address}: ")
        assert errors.count("\n") == 1

    def test_address_of_another_machine(self):
        code, _, errors = run("echo", "--tcp", "192.0.2.1:0")
        assert (code, errors) == (
            1,
            "metalio echo: cannot serve tcp on 192.0.2.1:0: Cannot assign requested address\n",
        )

    @pytest.mark.parametrize("path", ["", "/no/such/directory/echo", "/" + "x" * 200])
    def test_bad_path(self, path):
        code, output, errors = run("echo", "--unix", path)
        assert (code, output) == (1, "")
        assert errors.startswith(f"metalio echo: cannot serve unix on {path}: ")
        assert errors.count("\n") == 1

    def test_path_of_a_server(self, tmp_path):
        path = str(tmp_path / "taken")
        with socket.socket(socket.AF_UNIX) as taken:
            taken.bind(path)
            taken.listen()
            assert run("echo", "--unix", path)[::2] == (
                1,
                f"metalio echo: cannot serve unix on {path}: Address already in use\n",
            )
            assert os.path.exists(path)

    @pytest.mark.parametrize("make", [os.mkdir, lambda path: open(path, "x").close(), getattr(os, "mkfifo", None)])
    def test_path_of_something_else(self, tmp_path, make):
        path = str(tmp_path / "taken")
        make(path)
        before = os.stat(path)
        assert run("echo", "--unix", path)[::2] == (
            1,
            f"metalio echo: cannot serve unix on {path}: Address already in use\n",
        )
        assert os.stat(path).st_ino == before.st_ino

    def test_path_of_a_dead_server(self, selector, tmp_path):
        path = str(tmp_path / "stale")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
            dead.listen()
        with Echo(selector, "--unix", path) as program:
            with connect(program.address(), socket.AF_UNIX) as client:
                client.sendall(b"alive")
                assert receive_exactly(client, 5) == b"alive"
            program.stop()
        assert not os.path.exists(path)

    def test_a_path_that_became_another_servers_is_left_alone(self, selector, tmp_path):
        path = str(tmp_path / "echo")
        with Echo(selector, "--unix", path) as program:
            program.address()
            os.unlink(path)
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(path)
                program.stop()
        assert os.path.exists(path)


class TestCounters:
    """What a terminal shows."""

    @pytest.fixture
    def terminal(self):
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, 120))

        def controlling():
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        options = {"stdout": slave, "preexec_fn": controlling}
        with Program("-m", "metalio", "echo", "--tcp", "127.0.0.1:0", **options) as program:
            program.master = master
            program.shown = ""
            try:
                yield program
            finally:
                os.close(master)
                os.close(slave)

    @staticmethod
    def show(terminal, pattern):
        """Wait until it shows this."""
        while not (found := re.search(pattern, terminal.shown)):
            assert select.select([terminal.master], [], [], PATIENCE)[0], terminal.shown
            terminal.shown += os.read(terminal.master, 65536).decode()
        terminal.shown = terminal.shown[found.end() :]
        return found

    def test_counters(self, terminal):
        port = int(self.show(terminal, r"tcp 127\.0\.0\.1:(\d+)\r\n")[1])
        self.show(terminal, r"\rconnections 0 now, 0 in all  in 0 B/s  out 0 B/s  0 events/s  0 B in all\x1b\[K")
        with connect(("127.0.0.1", port)) as client:
            client.sendall(BLOCK[:12_345])
            receive_exactly(client, 12_345)
            self.show(terminal, r"\rconnections 1 now, 1 in all  in [\d.]+ kB/s .* 12\.3 kB in all\x1b\[K")
        self.show(terminal, r"\rconnections 0 now, 1 in all ")
        # One line, and never another.
        assert "\n" not in terminal.shown
        os.write(terminal.master, b"\x03")
        self.show(terminal, r"\r\x1b\[Kserved 1 connections, 12\.3 kB in, 12\.3 kB out, .* s\r\n")
        assert terminal.process.wait(PATIENCE) == 0
        assert terminal.stderr() == ""

    def test_narrow_terminal(self, terminal):
        termios.tcsetwinsize(terminal.master, (24, 20))
        self.show(terminal, r"\rconnections 0 now, \x1b\[K")
        os.write(terminal.master, b"\x03")
        assert terminal.process.wait(PATIENCE) == 0


def test_sizes():
    assert [echo.size(n) for n in (0, 999, 1000, 1_500_000, 2 * 10**9, 3 * 10**13)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.5 MB",
        "2.0 GB",
        "30.0 TB",
    ]


def test_addresses():
    assert echo.format_address(("127.0.0.1", 80)) == "127.0.0.1:80"
    assert echo.format_address(("::1", 80, 0, 0)) == "[::1]:80"
    assert echo.format_address("/run/echo") == "/run/echo"
    assert echo.format_address(b"\0echo") == "@echo"
