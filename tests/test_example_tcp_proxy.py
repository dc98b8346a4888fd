"""examples/tcp_proxy.py, talked to over real sockets."""

import os
import socket
import threading

import pytest
from example import LOOPBACK, announced, finds_it_broken, reset, start
from program import (
    PATIENCE,
    WINDOWS,
    connect,
    eventually,
    receive_all,
    receive_exactly,
    send_until_blocked,
)

from metalio.cli.echo import format_address

BLOCK = os.urandom(1 << 20)


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
            with finds_it_broken():
                assert other.recv(1) == b""
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
                    with finds_it_broken(), connect(address) as client:
                        assert client.recv(1) == b""
                (why,) = set(program.stderr().splitlines())
                # Windows says it in other words.
                assert why.startswith("cannot connect: ") if WINDOWS else why == "cannot connect: Connection refused"
                eventually(lambda: program.descriptors() == before)
