"""examples/udp_server.py, talked to over real sockets."""

import os
import socket

import pytest
from example import LOOPBACK, announced, start
from program import (
    PATIENCE,
)

from metalio.cli import info

BLOCK = os.urandom(1 << 20)


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
        if info.why_not(info.try_ipv6):
            pytest.skip("no IPv6 on this machine")
        with start("udp_server.py", "[::1]:0") as program:
            address = announced(program)
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
                client.settimeout(PATIENCE)
                client.sendto(b"six", address)
                assert client.recvfrom(100)[0] == b"six"
