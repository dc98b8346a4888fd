"""examples/event_loop_echo.py, talked to over real sockets."""

import os
import select
import shutil
import socket
import threading

import pytest
from example import LOOPBACK, announced, reset, start
from program import (
    Program,
    connect,
    eventually,
    receive_all,
    receive_exactly,
    run_tool,
    send_until_blocked,
)

from metalio.cli.echo import format_address

BLOCK = os.urandom(1 << 20)
# Runs a script as if it had been started so.
RUN = "sys.argv.pop(0); sys.path[0] = 'examples'; runpy.run_path(sys.argv[0], run_name='__main__')"


@pytest.fixture
def echoing():
    with start("event_loop_echo.py", LOOPBACK) as program:
        program.address = announced(program)
        yield program


class TestEventLoopEcho:
    def test_echo(self, echoing):
        with connect(echoing.address) as client:
            for piece in (b"x", b"hello\n", BLOCK[:65536]):
                client.sendall(piece)
                assert receive_exactly(client, len(piece)) == piece
            client.sendall(b"the end")
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b"the end"
        echoing.stop()

    def test_commands_in_a_row(self, echoing):
        """What clients of databases do: many requests before the first answer."""
        commands = b"".join(b"*2\r\n$4\r\nECHO\r\n$%d\r\n%d\r\n" % (len(str(n)), n) for n in range(20_000))
        with connect(echoing.address) as client:
            sender = threading.Thread(target=client.sendall, args=(commands,))
            sender.start()
            assert receive_exactly(client, len(commands)) == commands
            sender.join()

    def test_byte_by_byte(self, echoing):
        with connect(echoing.address) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number in range(256):
                client.sendall(bytes([number]))
            assert receive_exactly(client, 256) == bytes(range(256))

    def test_back_pressure(self, echoing):
        """A client that does not read is not read from; whatever it gets in the end is whole."""
        data = BLOCK * 32
        with connect(echoing.address) as client:
            memory = echoing.memory()
            sent = send_until_blocked(client, data)
            assert sent < len(data)
            assert echoing.memory() - memory < 4 << 20
            with connect(echoing.address) as other:
                other.sendall(b"hello")
                assert receive_exactly(other, 5) == b"hello"
            sender = threading.Thread(target=lambda: (client.sendall(data[sent:]), client.shutdown(socket.SHUT_WR)))
            sender.start()
            assert receive_all(client) == data
            sender.join()
        echoing.stop()

    def test_waiting_costs_nothing(self, echoing):
        """Neither for a client that does not read, nor for one that has gone half away."""
        with connect(echoing.address) as deaf, connect(echoing.address) as silent:
            send_until_blocked(deaf, BLOCK * 32)
            deaf.shutdown(socket.SHUT_WR)
            silent.sendall(b"x")
            assert receive_exactly(silent, 1) == b"x"
            before = echoing.processor_time()
            assert not select.select([silent], [], [], 0.3)[0]
            assert echoing.processor_time() - before < 0.15

    def test_many_clients(self, echoing):
        before = echoing.descriptors()
        clients = [connect(echoing.address) for _ in range(200)]
        try:
            for number, client in enumerate(clients):
                client.sendall(b"%04d" % number)
            for number, client in enumerate(clients):
                assert receive_exactly(client, 4) == b"%04d" % number
        finally:
            for client in clients:
                client.close()
        eventually(lambda: echoing.descriptors() == before)
        echoing.stop()

    def test_broken_connections(self, echoing):
        before = echoing.descriptors()
        for data in (b"", b"x" * 100_000, BLOCK * 16):
            for end in (reset, socket.socket.close):
                client = connect(echoing.address)
                send_until_blocked(client, data, quiet=0.05)
                end(client)
        eventually(lambda: echoing.descriptors() == before)
        echoing.stop()

    def test_out_of_descriptors(self):
        """It accepts again after a while."""
        command = f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16)); {RUN}"
        with Program("-c", command, "examples/event_loop_echo.py", LOOPBACK) as program:
            address = announced(program)
            clients = [connect(address) for _ in range(20)]
            try:
                for client in clients:
                    client.sendall(b"me")
                eventually(program.stderr)
                for client in clients:
                    assert receive_exactly(client, 2) == b"me"
                    client.close()
            finally:
                for client in clients:
                    client.close()
            assert set(program.stderr().splitlines()) == {"not accepting: Too many open files"}

    def test_curl(self, echoing):
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        url = f"http://{format_address(echoing.address)}/some/where"
        # Its request is the answer, as of old, and the server does not end it.
        options = ("--silent", "--show-error", "--http0.9", "--noproxy", "*", "--max-time", "1")
        done = run_tool("curl", *options, url)
        assert done.stdout.startswith("GET /some/where HTTP/1.1\n")
        assert "Operation timed out" in done.stderr
        echoing.stop()

    def test_socat(self, echoing, tmp_path):
        if shutil.which("socat") is None:
            pytest.skip("socat is not installed")
        (tmp_path / "in").write_bytes(BLOCK)
        files = f"OPEN:{tmp_path}/in!!CREATE:{tmp_path}/out"
        done = run_tool("socat", "-t", "10", files, f"TCP:{format_address(echoing.address)}")
        assert (done.returncode, done.stderr) == (0, "")
        assert (tmp_path / "out").read_bytes() == BLOCK
        echoing.stop()

    def test_redis_cli(self, echoing):
        if shutil.which("redis-cli") is None:
            pytest.skip("redis-cli is not installed")
        host, port = echoing.address
        # It gets its own command for an answer.
        done = run_tool("redis-cli", "-h", host, "-p", str(port), "--no-raw", "ECHO", "hello")
        assert (done.returncode, done.stdout) == (0, '1) "ECHO"\n2) "hello"\n')
        echoing.stop()
