"""Every example, talked to over real sockets."""

import hashlib
import http.client
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import sys
import threading
import time

import pytest
from program import (
    PATIENCE,
    ROOT,
    Program,
    connect,
    eventually,
    receive_all,
    receive_exactly,
    run_tool,
    send_until_blocked,
)

from metalio.cli import info
from metalio.cli.echo import format_address

BLOCK = os.urandom(1 << 20)
LOOPBACK = "127.0.0.1:0"


def start(name, *arguments, **options):
    """An example that listens."""
    return Program(f"examples/{name}", *arguments, **options)


def announced(program):
    """The address in its next line."""
    words = program.line().split()
    assert words[:2] == ["listening", "on"]
    return (words[2], int(words[3])) if len(words) == 4 else words[2]


def reset(sock):
    """Close a connection so that the peer finds it broken."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("tcp_server.py", [LOOPBACK]),
        ("udp_server.py", [LOOPBACK]),
        ("unix_server.py", ["{path}"]),
        ("inherited_listener.py", [LOOPBACK]),
        ("tcp_proxy.py", [LOOPBACK, "127.0.0.1:1"]),
        ("http_server.py", [LOOPBACK]),
        ("idle_reaper.py", [LOOPBACK]),
        ("chat_server.py", [LOOPBACK]),
    ],
)
def test_stops_on_signals(name, arguments, number, tmp_path):
    path = str(tmp_path / "socket")
    with start(name, *(argument.format(path=path) for argument in arguments)) as program:
        announced(program)
        assert program.stop(number) == ""
    assert not os.path.exists(path)


def test_every_example_is_tested():
    with open(__file__) as file:
        tests = file.read()
    for name in os.listdir(ROOT / "examples"):
        if name.endswith(".py"):
            assert name in tests


def test_quickstart():
    with Program("examples/quickstart.py") as program:
        lines = program.rest().splitlines()
        assert sorted(lines[:-1]) == ["client: connected", "server: dropped the connection from 127.0.0.1"]
        assert lines[-1] == "client: the server closed the connection"
        assert (program.process.returncode, program.stderr()) == (0, "")


@pytest.fixture
def shouting():
    with start("tcp_server.py", LOOPBACK) as program:
        program.address = announced(program)
        yield program


class TestTcpServer:
    def test_lines(self, shouting):
        with connect(shouting.address) as client:
            for piece in (b"hel", b"lo\nwor", b"ld\n\n", b"no end"):
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b"HELLO\nWORLD\n\nNO END\n"
        shouting.stop()

    def test_the_end_of_a_client_that_said_nothing(self, shouting):
        with connect(shouting.address) as client:
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b""

    def test_a_line_too_long(self, shouting):
        with connect(shouting.address) as client:
            try:
                client.sendall(b"x" * 1_000_000)
                assert receive_all(client) == b""
            except ConnectionError:
                pass
        with connect(shouting.address) as client:
            client.sendall(b"ok\n")
            assert receive_exactly(client, 3) == b"OK\n"

    def test_back_pressure(self, shouting):
        data = (b"y" * 9_999 + b"\n") * 4_000
        with connect(shouting.address) as client:
            memory = shouting.memory()
            sent = send_until_blocked(client, data)
            assert sent < len(data)
            assert shouting.memory() - memory < 4 << 20
            # Who does not read holds nobody up.
            with connect(shouting.address) as other:
                other.sendall(b"hello\n")
                assert receive_exactly(other, 6) == b"HELLO\n"
            sender = threading.Thread(target=lambda: (client.sendall(data[sent:]), client.shutdown(socket.SHUT_WR)))
            sender.start()
            assert receive_all(client) == data.upper()
            sender.join()
        shouting.stop()

    def test_broken_connections(self, shouting):
        before = shouting.descriptors()
        for _ in range(10):
            client = connect(shouting.address)
            client.sendall(b"x" * 100_000)
            reset(client)
        eventually(lambda: shouting.descriptors() == before)
        shouting.stop()

    def test_out_of_descriptors(self):
        command = f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16)); {RUN}"
        with Program("-c", command, "examples/tcp_server.py", LOOPBACK) as program:
            address = announced(program)
            clients = [connect(address) for _ in range(40)]
            try:
                for client in clients:
                    client.sendall(b"me\n")
                for client in clients:
                    assert receive_exactly(client, 3) == b"ME\n"
                    client.close()
            finally:
                for client in clients:
                    client.close()
            assert set(program.stderr().splitlines()) == {"not accepting: Too many open files"}


# Runs a script as if it had been started so.
RUN = "sys.argv.pop(0); sys.path[0] = 'examples'; runpy.run_path(sys.argv[0], run_name='__main__')"


class TestUdpServer:
    def test_echo(self):
        with start("udp_server.py", LOOPBACK) as program, socket.socket(type=socket.SOCK_DGRAM) as client:
            address = announced(program)
            client.settimeout(PATIENCE)
            for size in (0, 1, 1_400, 60_000):
                client.sendto(BLOCK[:size], address)
                assert client.recvfrom(65536) == (BLOCK[:size], address)
            program.stop()

    def test_several_clients(self):
        with start("udp_server.py", LOOPBACK) as program:
            address = announced(program)
            clients = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(20)]
            try:
                for number, client in enumerate(clients):
                    client.settimeout(PATIENCE)
                    client.sendto(b"%d" % number, address)
                for number, client in enumerate(clients):
                    assert client.recvfrom(100) == (b"%d" % number, address)
            finally:
                for client in clients:
                    client.close()
            program.stop()

    def test_ipv6(self):
        if not info.available(info.try_ipv6):
            pytest.skip("no IPv6 on this machine")
        with start("udp_server.py", "[::1]:0") as program:
            address = announced(program)
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
                client.settimeout(PATIENCE)
                client.sendto(b"six", address)
                assert client.recvfrom(100)[0] == b"six"


class TestUnixServer:
    def test_it_knows_who_calls(self, tmp_path):
        path = str(tmp_path / "who")
        with start("unix_server.py", path) as program:
            assert announced(program) == path
            with connect(path, socket.AF_UNIX) as client:
                client.sendall(b"is anybody there?")
                client.shutdown(socket.SHUT_WR)
                expected = f"you are user {os.geteuid()}, group {os.getegid()}, process {os.getpid()}\n"
                assert receive_all(client) == expected.encode()
            program.stop()
        assert not os.path.exists(path)


class TestInheritedListener:
    TIME = rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n"
    # What a service manager does between fork and exec: argv holds the descriptors, then the program.
    MANAGER = """
import os, sys
count = int(sys.argv[1])
for number, fd in enumerate(map(int, sys.argv[2 : 2 + count])):
    os.dup2(fd, 103 + number)
for number in range(count):
    os.dup2(103 + number, 3 + number)
os.environ["LISTEN_FDS"] = str(count)
os.environ["LISTEN_PID"] = {pid}
os.execv(sys.executable, [sys.executable, "-W", "always", *sys.argv[2 + count :]])
"""

    def manage(self, listeners, *arguments, pid="str(os.getpid())"):
        numbers = [listener.fileno() for listener in listeners]
        script = self.MANAGER.format(pid=pid)
        command = ("-c", script, len(numbers), *numbers, "examples/inherited_listener.py", *arguments)
        return Program(*command, pass_fds=numbers)

    def test_listeners_of_a_service_manager(self, tmp_path):
        path = str(tmp_path / "time")
        with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
            unix.bind(path)
            unix.listen()
            address = tcp.getsockname()
            # It may have come before the server has.
            with connect(address) as early, self.manage([tcp, unix]) as program:
                assert [announced(program), announced(program)] == [address, path]
                assert re.fullmatch(self.TIME, receive_all(early))
                for target, family in ((address, socket.AF_INET), (path, socket.AF_UNIX)):
                    with connect(target, family) as client:
                        assert re.fullmatch(self.TIME, receive_all(client))
                program.stop()

    def test_listeners_for_another_process(self):
        with socket.create_server(("127.0.0.1", 0)) as tcp, self.manage([tcp], LOOPBACK, pid="'1'") as program:
            address = announced(program)
            assert address != tcp.getsockname()
            with connect(address) as client:
                assert re.fullmatch(self.TIME, receive_all(client))
            program.stop()

    def test_without_a_service_manager(self):
        with start("inherited_listener.py", LOOPBACK) as program:
            with connect(announced(program)) as client:
                assert re.fullmatch(self.TIME, receive_all(client))
            program.stop()


@pytest.fixture
def upstream():
    """What the proxy is to connect with."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


@pytest.fixture
def proxy(upstream):
    with start("tcp_proxy.py", LOOPBACK, format_address(upstream.getsockname())) as program:
        program.address = announced(program)
        yield program


def accepted(listener):
    sock, _ = listener.accept()
    sock.settimeout(PATIENCE)
    return sock


class TestTcpProxy:
    def test_both_directions(self, proxy, upstream):
        with connect(proxy.address) as client:
            # Before the other side is there.
            client.sendall(b"to the server")
            with accepted(upstream) as server:
                assert receive_exactly(server, 13) == b"to the server"
                server.sendall(b"to the client")
                assert receive_exactly(client, 13) == b"to the client"
                client.close()
                assert server.recv(1) == b""
        proxy.stop()

    def test_the_client_ends_first(self, proxy, upstream):
        before = proxy.descriptors()
        with connect(proxy.address) as client, accepted(upstream) as server:
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            assert receive_all(server) == b"question"
            server.sendall(b"answer")
            server.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b"answer"
        eventually(lambda: proxy.descriptors() == before)
        proxy.stop()

    def test_the_server_ends_first(self, proxy, upstream):
        with connect(proxy.address) as client, accepted(upstream) as server:
            server.sendall(b"greeting")
            server.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b"greeting"
            client.sendall(b"thanks")
            client.close()
            assert receive_all(server) == b"thanks"
        proxy.stop()

    def test_large_transfers_both_ways_at_once(self, proxy, upstream):
        data = BLOCK * 16

        def exchange(sock, mine):
            sender = threading.Thread(target=lambda: (sock.sendall(mine), sock.shutdown(socket.SHUT_WR)))
            sender.start()
            received.append((mine, receive_all(sock)))
            sender.join()

        received = []
        with connect(proxy.address) as client, accepted(upstream) as server:
            threads = [
                threading.Thread(target=exchange, args=(client, data)),
                threading.Thread(target=exchange, args=(server, data[::-1])),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(received) == 2
        for sent, got in received:
            assert got == sent[::-1]
        proxy.stop()

    @pytest.mark.parametrize("from_client", [True, False])
    def test_back_pressure(self, proxy, upstream, from_client):
        data = BLOCK * 32
        with connect(proxy.address) as client, accepted(upstream) as server:
            source, sink = (client, server) if from_client else (server, client)
            memory = proxy.memory()
            sent = send_until_blocked(source, data)
            assert sent < len(data)
            assert proxy.memory() - memory < 4 << 20
            # The other direction is open, and so are others' connections.
            sink.sendall(b"back")
            assert receive_exactly(source, 4) == b"back"
            with connect(proxy.address) as other, accepted(upstream) as others_server:
                other.sendall(b"x")
                assert others_server.recv(1) == b"x"
            sender = threading.Thread(target=lambda: (source.sendall(data[sent:]), source.shutdown(socket.SHUT_WR)))
            sender.start()
            assert receive_all(sink) == data
            sender.join()
        proxy.stop()

    @pytest.mark.parametrize("client_breaks", [True, False])
    def test_a_broken_connection_breaks_the_other(self, proxy, upstream, client_breaks):
        before = proxy.descriptors()
        with connect(proxy.address) as client, accepted(upstream) as server:
            client.sendall(b"x")
            receive_exactly(server, 1)
            breaking, other = (client, server) if client_breaks else (server, client)
            reset(breaking)
            with pytest.raises(ConnectionResetError):
                other.recv(1)
        eventually(lambda: proxy.descriptors() == before)
        proxy.stop()

    def test_nobody_there(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with start("tcp_proxy.py", LOOPBACK, format_address(unused.getsockname())) as program:
                address = announced(program)
                before = program.descriptors()
                for _ in range(3):
                    # The reset may come before connect() returns.
                    with pytest.raises(ConnectionResetError), connect(address) as client:
                        client.recv(1)
                assert set(program.stderr().splitlines()) == {"cannot connect: Connection refused"}
                eventually(lambda: program.descriptors() == before)


@pytest.fixture
def web():
    with start("http_server.py", LOOPBACK) as program:
        program.address = announced(program)
        yield program


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def responses(data):
    """The status codes and bodies in a byte stream, by Content-Length alone."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", head)[1])
        found.append((int(head.split()[1]), data[:length]))
        data = data[length:]
    return found


class TestHttpServer:
    @staticmethod
    def ask(address, *requests):
        client = http.client.HTTPConnection(*address, timeout=PATIENCE)
        try:
            answers = []
            for method, path, body in requests:
                client.request(method, path, body)
                answer = client.getresponse()
                answers.append((answer.status, answer.reason, answer.read()))
            return answers
        finally:
            client.close()

    def test_pages(self, web):
        assert self.ask(
            web.address,
            ("GET", "/", None),
            ("GET", "/nothing", None),
            ("GET", "/?query", None),
            ("HEAD", "/", None),
            ("POST", "/", b"x" * 300_000),
            ("HEAD", "/nothing", None),
            ("GET", "/", None),
        ) == [
            (200, "OK", b"Hello, world!\n"),
            (404, "Not Found", b"Not Found: there is no such page\n"),
            (200, "OK", b"Hello, world!\n"),
            (200, "OK", b""),
            (405, "Method Not Allowed", b"Method Not Allowed: only GET and HEAD\n"),
            (404, "Not Found", b""),
            (200, "OK", b"Hello, world!\n"),
        ]
        web.stop()

    def test_keeps_connections_alive(self, web):
        with connect(web.address) as client:
            answers = []
            for _ in range(3):
                client.sendall(GET)
                answers.append(client.recv(65536))
                assert responses(answers[-1]) == [(200, b"Hello, world!\n")]
            assert web.descriptors() > 0

    def test_pipelining(self, web):
        with connect(web.address) as client:
            client.sendall(GET * 100 + b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answers = responses(receive_all(client))
        assert answers[:-1] == [(200, b"Hello, world!\n")] * 100
        assert answers[-1][0] == 404
        web.stop()

    def test_a_client_that_does_not_read(self, web):
        count = 20_000
        requests = GET * count
        with connect(web.address) as client:
            memory = web.memory()
            sent = send_until_blocked(client, requests)
            assert web.memory() - memory < 8 << 20
            with connect(web.address) as other:
                other.sendall(GET)
                assert responses(other.recv(65536)) == [(200, b"Hello, world!\n")]
            sender = threading.Thread(target=lambda: (client.sendall(requests[sent:]), client.shutdown(socket.SHUT_WR)))
            sender.start()
            assert responses(receive_all(client)) == [(200, b"Hello, world!\n")] * count
            sender.join()

    def test_byte_by_byte(self, web):
        with connect(web.address) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in GET:
                client.sendall(bytes([byte]))
            assert responses(client.recv(65536)) == [(200, b"Hello, world!\n")]

    def test_http_1_0(self, web):
        with connect(web.address) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert responses(receive_all(client)) == [(200, b"Hello, world!\n")]

    def test_a_client_that_waits_for_leave(self, web):
        with connect(web.address) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 100 ")
            client.sendall(b"12345" + GET)
            client.shutdown(socket.SHUT_WR)
            assert [status for status, _ in responses(receive_all(client))] == [405, 200]

    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (b"nonsense\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET http://[ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", 400),
            (b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000, 431),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        ],
    )
    def test_bad_requests(self, web, request_bytes, status):
        with connect(web.address) as client:
            client.sendall(request_bytes)
            answers = responses(receive_all(client))
            assert [answer[0] for answer in answers] == [status]
        # And it goes on.
        assert self.ask(web.address, ("GET", "/", None))[0][0] == 200
        web.stop()

    def test_clients_that_go_away(self, web):
        before = web.descriptors()
        for data in (b"", GET[:10], b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123", GET * 1000):
            for end in (reset, socket.socket.close):
                client = connect(web.address)
                client.sendall(data)
                end(client)
        eventually(lambda: web.descriptors() == before)
        web.stop()

    def test_curl(self, web):
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        url = f"http://{format_address(web.address)}/"
        done = run_tool("curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "20", url, url)
        assert (done.returncode, done.stdout, done.stderr) == (0, "Hello, world!\n" * 2, "")

    def test_wrk(self, web):
        if shutil.which("wrk") is None:
            pytest.skip("wrk is not installed")
        url = f"http://{format_address(web.address)}/"
        done = run_tool("wrk", "--threads", "1", "--connections", "50", "--duration", "1s", url)
        assert done.returncode == 0, done.stderr
        assert int(re.search(r"(\d+) requests in", done.stdout)[1]) > 0
        # It names errors only where there are any.
        assert "errors" not in done.stdout
        assert "Non-2xx" not in done.stdout
        web.stop()


class TestIdleReaper:
    def name(self, number):
        return number.to_bytes(8)

    def test_idle_connections_are_told(self):
        with start("idle_reaper.py", LOOPBACK, "0.5") as program, socket.socket(type=socket.SOCK_DGRAM) as client:
            address = announced(program)
            client.settimeout(PATIENCE)
            before = time.monotonic()
            for number in range(100):
                client.sendto(self.name(number) + b"hello", address)
                assert client.recv(100) == self.name(number) + b"hello"
            gone = [client.recv(100) for _ in range(100)]
            assert sorted(gone) == [self.name(number) + b"idle" for number in range(100)]
            assert time.monotonic() - before >= 0.5
            # A connection that was forgotten begins anew.
            client.sendto(self.name(7), address)
            assert client.recv(100) == self.name(7)
            assert client.recv(100) == self.name(7) + b"idle"
            assert program.stop().splitlines()[-1] == "0 connections are left"

    def test_who_says_something_is_kept(self):
        with start("idle_reaper.py", LOOPBACK, "0.5") as program, socket.socket(type=socket.SOCK_DGRAM) as client:
            address = announced(program)
            client.settimeout(PATIENCE)
            client.sendto(self.name(1), address)
            assert client.recv(100) == self.name(1)
            # The other one goes on until the first is gone.
            while True:
                client.sendto(self.name(2), address)
                answer = client.recv(100)
                if answer == self.name(1) + b"idle":
                    break
                assert answer == self.name(2)
            assert client.recv(100) == self.name(2)
            assert client.recv(100) == self.name(2) + b"idle"
            assert program.stop().splitlines() == ["1 connections are left", "0 connections are left"]

    def test_what_names_no_connection(self):
        with start("idle_reaper.py", LOOPBACK) as program, socket.socket(type=socket.SOCK_DGRAM) as client:
            address = announced(program)
            client.settimeout(PATIENCE)
            for data in (b"", b"short"):
                client.sendto(data, address)
            client.sendto(self.name(1), address)
            assert client.recv(100) == self.name(1)
            program.stop()

    def test_100_000(self):
        with start("idle_reaper.py", LOOPBACK, "3", "100000") as program:
            announced(program)
            while (line := program.line()).endswith(" connections are left"):
                last = line
            assert line == "all were told that they had been idle"
            assert last == "0 connections are left"
            assert program.stop() == ""


@pytest.fixture
def chat():
    with start("chat_server.py", LOOPBACK) as program:
        program.address = announced(program)
        yield program


class Chatter:
    """A client of the chat server."""

    def __init__(self, address):
        self.sock = connect(address)
        self.file = self.sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.file.close()
        self.sock.close()

    def say(self, *lines):
        self.sock.sendall("".join(f"{line}\n" for line in lines).encode())

    def hear(self):
        line = self.file.readline()
        assert line.endswith(b"\n")
        return line.decode().rstrip("\n")


class TestChatServer:
    def test_lines_go_to_the_others(self, chat):
        with Chatter(chat.address) as ann, Chatter(chat.address) as bob:
            assert ann.hear() == "* guest2 is here"
            ann.say("/name ann")
            assert bob.hear() == "* guest1 is now ann"
            bob.say("/name ann", "/name bob", "hello", "/nonsense")
            assert [bob.hear(), bob.hear()] == ["* what?"] * 2
            assert [ann.hear(), ann.hear()] == ["* guest2 is now bob", "bob: hello"]
            ann.say("/who", "good", "bye", "/quit", "not heard")
            assert ann.hear() == "* ann bob"
            assert ann.file.read() == b""
            assert [bob.hear() for _ in range(3)] == ["ann: good", "ann: bye", "* ann has gone"]
        chat.stop()

    def test_workers_answer(self, chat):
        with Chatter(chat.address) as ann, Chatter(chat.address) as bob:
            assert ann.hear() == "* guest2 is here"
            keys = {"one", "two", "", "three and four"}
            bob.say(*(f"/key {key}" for key in keys), "meanwhile")
            # The loop does not wait for them.
            assert ann.hear() == "guest2: meanwhile"
            derived = {
                "* " + hashlib.scrypt(key.encode(), salt=b"metalio", n=1 << 12, r=8, p=1, dklen=16).hex()
                for key in keys
            }
            assert {bob.hear() for _ in keys} == derived
            # Nobody is there any more to hear it.
            bob.say("/key late", "/quit")
            assert bob.file.read() == b""
            assert ann.hear() == "* guest2 has gone"
            ann.say("/key mine")
            assert ann.hear().startswith("* ")
        chat.stop()

    def test_it_stops_with_work_left(self, chat):
        with Chatter(chat.address) as ann:
            ann.say(*["/key again"] * 20, "/who")
            while ann.hear() != "* guest1":
                pass
            chat.stop()

    def test_who_does_not_read_is_dropped(self, chat):
        with Chatter(chat.address) as ann, Chatter(chat.address) as bob:
            assert ann.hear() == "* guest2 is here"
            flood = "x" * 10_000
            memory = chat.memory()

            def talk():
                for _ in range(4000):
                    ann.say(flood)

            talker = threading.Thread(target=talk, daemon=True)
            talker.start()
            assert ann.hear() == "* guest2 has gone"
            talker.join()
            assert chat.memory() - memory < 16 << 20
            ann.say("/who")
            assert ann.hear() == "* guest1"
            bob.sock.close()
        chat.stop()

    def test_broken_connections(self, chat):
        before = chat.descriptors()
        with Chatter(chat.address) as ann:
            for number in range(2, 12):
                other = connect(chat.address)
                assert ann.hear() == f"* guest{number} is here"
                other.sendall(b"/key x\n" * 3)
                reset(other)
                assert ann.hear() == f"* guest{number} has gone"
        eventually(lambda: chat.descriptors() == before)
        chat.stop()


class TestSupervisor:
    """`supervisor.py`."""

    @staticmethod
    def supervise(*scripts):
        """Each a program in Python; and their command lines."""
        commands = [shlex.join([sys.executable, "-c", script]) for script in scripts]
        return start("supervisor.py", *commands), commands

    # Says when it is ready for signals, and waits for them.
    WAITING = "import os, signal; os.write(1, b'ready\\n'); signal.pause()"
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
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

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
            os.kill(pid, signal.SIGKILL)
            while (line := program.line()) != f"again in 0.1 s (SIGKILL): {waiting}":
                assert not line.endswith(waiting)
            program.stop()

    def test_hang_up_starts_them_again(self):
        program, (command,) = self.supervise(self.WAITING)
        with program:
            first = self.ready(program, command)
            program.process.send_signal(signal.SIGHUP)
            assert program.line() == f"again in 0.1 s (SIGTERM): {command}"
            assert self.ready(program, command) != first
            program.stop()

    def test_a_second_signal_kills(self):
        program, (command,) = self.supervise(self.STUBBORN)
        with program:
            (pid,) = self.ready(program, command)
            program.process.send_signal(signal.SIGTERM)
            assert program.line() == "stopping (SIGTERM)"
            os.kill(pid, 0)
            assert program.stop(signal.SIGINT) == f"ended {command}\n"

    def test_programs_that_cannot_be_started(self):
        with start("supervisor.py", "/nonexistent/program x", "/") as program:
            lines = [program.line() for _ in range(4)]
            assert lines == [
                "again in 0.1 s (cannot start: No such file or directory): /nonexistent/program x",
                "again in 0.1 s (cannot start: Permission denied): /",
                "again in 0.2 s (cannot start: No such file or directory): /nonexistent/program x",
                "again in 0.2 s (cannot start: Permission denied): /",
            ]
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
                with pytest.raises(ProcessLookupError):
                    os.kill(pid, 0)
            assert len(counts) == 1
            program.stop()
