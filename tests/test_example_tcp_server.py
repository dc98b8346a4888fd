"""examples/tcp_server.py, talked to over real sockets."""

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
    send_until_blocked,
)

# Runs a script as if it had been started so.
RUN = "sys.argv.pop(0); sys.path[0] = 'examples'; runpy.run_path(sys.argv[0], run_name='__main__')"


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
