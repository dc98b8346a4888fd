"""examples/asyncio_echo.py, talked to over real sockets."""

import os
import socket
import threading

import pytest
from example import LOOPBACK, announced, reset, start
from program import (
    connect,
    receive_all,
    receive_exactly,
)


class TestAsyncioEcho:
    @pytest.fixture
    def echoing(self):
        with start("asyncio_echo.py", LOOPBACK) as program:
            program.address = announced(program)
            yield program

    def test_it_is_on_metalio(self, echoing):
        assert "metalio/selector_base" in echoing.libraries()

    def test_lines(self, echoing):
        with connect(echoing.address) as client, connect(echoing.address) as other:
            for piece in (b"hel", b"lo\nwor", b"ld\n\n"):
                client.sendall(piece)
            assert receive_exactly(client, 13) == b"hello\nworld\n\n"
            other.sendall(b"no end")
            other.shutdown(socket.SHUT_WR)
            assert receive_all(other) == b"no end"
            # With a client that is still there.
            echoing.stop()

    def test_much(self, echoing):
        data = (os.urandom(1000).hex().encode() + b"\n") * 1_000
        with connect(echoing.address) as client:
            sender = threading.Thread(target=client.sendall, args=[data])
            sender.start()
            assert receive_exactly(client, len(data)) == data
            sender.join()
        echoing.stop()

    def test_a_line_too_long_and_a_reset(self, echoing):
        with connect(echoing.address) as client:
            try:
                client.sendall(b"x" * 1_000_000)
                assert receive_all(client) == b""
            except ConnectionError:
                pass
        client = connect(echoing.address)
        client.sendall(b"a line\n")
        assert receive_exactly(client, 7) == b"a line\n"
        client.sendall(b"half a line")
        reset(client)
        with connect(echoing.address) as client:
            client.sendall(b"ok\n")
            assert receive_exactly(client, 3) == b"ok\n"
        echoing.stop()
