"""examples/idle_reaper.py, talked to over real sockets."""

import socket
import time

from example import LOOPBACK, announced, start
from program import PATIENCE, WINE


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

    def test_very_many(self):
        # Wine, where each system call is a conversation with a server, would take most of a minute.
        with start("idle_reaper.py", LOOPBACK, "3", "10000" if WINE else "100000") as program:
            announced(program)
            while (line := program.line()).endswith(" connections are left"):
                last = line
            assert line == "all were told that they had been idle"
            assert last == "0 connections are left"
            assert program.stop() == ""
