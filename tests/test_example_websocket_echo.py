"""examples/websocket_echo.py, talked to over real sockets."""

import contextlib
import os
import shutil
import socket
import threading
from importlib.util import find_spec

import pytest
from example import LOOPBACK, announced, reset, start
from program import (
    PATIENCE,
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
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
# Serves WebSockets with little patience.
BRIEFLY = "websocket_echo.SILENCE = 0.1; websocket_echo.serve(sys.argv[1], websocket_echo.WebSocket)"
needs_wsproto = pytest.mark.skipif(find_spec("wsproto") is None, reason="wsproto is not installed")
needs_websockets = pytest.mark.skipif(find_spec("websockets") is None, reason="websockets is not installed")


@pytest.fixture
def socketing():
    with start("websocket_echo.py", LOOPBACK) as program:
        program.address = announced(program)
        program.url = f"ws://{format_address(program.address)}/"
        yield program


UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
# RFC 6455 has this answer to that key.
ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def frame(opcode, payload=b"", *, last=True, masked=True):
    """A frame as a client sends it; the mask of zeros changes nothing."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2) if size < 65536 else b"\x7f" + size.to_bytes(8)
    mask = bytes(4) if masked else b""
    return bytes([opcode | last << 7, length[0] | masked << 7]) + length[1:] + mask + payload


def upgraded(address, *pieces):
    """A connection on which WebSocket frames are spoken from here on."""
    client = connect(address)
    for piece in pieces or [UPGRADE]:
        client.sendall(piece)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += receive_exactly(client, 1)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert ACCEPT in head.split(b"\r\n")
    return client


def receive_frame(client):
    """The next frame: first byte, payload."""
    first, length = receive_exactly(client, 2)
    if length >= 126:
        length = int.from_bytes(receive_exactly(client, 2 if length == 126 else 8))
    return first, receive_exactly(client, length)


TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
LAST = 0x80


@needs_wsproto
class TestWebsocketEcho:
    @needs_websockets
    def test_a_client(self, socketing):
        from websockets.sync.client import connect as connect_websocket

        with connect_websocket(socketing.url, max_size=None, compression=None, proxy=None) as client:
            for message in ("", "hello", "h\u00e9llo \U0001f600" * 1000, b"", bytes(range(256)), BLOCK * 4):
                client.send(message)
                assert client.recv(timeout=PATIENCE) == message
            client.send(["in ", "several ", "pieces"])
            assert client.recv(timeout=PATIENCE) == "in several pieces"
            assert client.ping().wait(PATIENCE)
        assert client.close_code == 1000
        socketing.stop()

    @needs_websockets
    def test_many_clients(self, socketing):
        from websockets.sync.client import connect as connect_websocket

        before = socketing.descriptors()
        # This one would like to have its messages compressed, and does without.
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect_websocket(socketing.url, proxy=None)) for _ in range(20)]
            for number, client in enumerate(clients):
                client.send(str(number))
            for number, client in enumerate(clients):
                assert client.recv(timeout=PATIENCE) == str(number)
        eventually(lambda: socketing.descriptors() == before)

    def test_frames(self, socketing):
        with upgraded(socketing.address) as client:
            client.sendall(frame(TEXT, b"hello") + frame(PING, b"are you there?") + frame(BINARY, b"\0"))
            assert receive_frame(client) == (TEXT | LAST, b"hello")
            assert receive_frame(client) == (PONG | LAST, b"are you there?")
            assert receive_frame(client) == (BINARY | LAST, b"\0")
            client.sendall(frame(CLOSE, b"\x03\xe8bye"))
            assert receive_frame(client) == (CLOSE | LAST, b"\x03\xe8bye")
            assert receive_all(client) == b""
        socketing.stop()

    def test_byte_by_byte(self, socketing):
        with upgraded(socketing.address, *(UPGRADE[n : n + 1] for n in range(len(UPGRADE)))) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            text = "\u00e9t\u00e9".encode()
            for byte in frame(TEXT, text):
                client.sendall(bytes([byte]))
            received = b""
            while received != text:
                received += receive_frame(client)[1]

    def test_a_message_that_does_not_fit_anywhere(self, socketing):
        """It comes back while it is still on its way."""
        size = 64 << 20
        with upgraded(socketing.address) as client:
            memory = socketing.memory()
            head = bytes([BINARY | LAST, 0x80 | 127]) + size.to_bytes(8) + bytes(4)
            sender = threading.Thread(target=lambda: (client.sendall(head), [client.sendall(BLOCK) for _ in range(64)]))
            sender.start()
            expected = BLOCK * 2
            received = first = 0
            while not first & LAST:
                first, payload = receive_frame(client)
                begin = received % len(BLOCK)
                assert payload == expected[begin : begin + len(payload)]
                received += len(payload)
            assert received == size
            assert socketing.memory() - memory < 16 << 20
            sender.join()
        socketing.stop()

    def test_a_client_that_does_not_read(self, socketing):
        message = frame(BINARY, BLOCK[:60_000])
        with upgraded(socketing.address) as client:
            memory = socketing.memory()
            sent = send_until_blocked(client, message * 500)
            assert sent < len(message) * 500
            assert socketing.memory() - memory < 8 << 20
            with upgraded(socketing.address) as other:
                other.sendall(frame(TEXT, b"hello"))
                assert receive_frame(other) == (TEXT | LAST, b"hello")

    @pytest.mark.parametrize(
        "data",
        [
            frame(TEXT, b"\xff"),
            frame(3),
            frame(TEXT, b"not masked", masked=False),
            frame(CLOSE, b"\0"),
            frame(PING, b"x" * 126),
            frame(0, b"nothing to go on with"),
        ],
    )
    def test_frames_that_break_the_rules(self, socketing, data):
        with upgraded(socketing.address) as client:
            client.sendall(data)
            first, payload = receive_frame(client)
            assert first == CLOSE | LAST
            assert int.from_bytes(payload[:2]) in (1002, 1007)
            assert receive_all(client) == b""
        socketing.stop()

    def test_frames_after_the_last_one(self, socketing):
        with upgraded(socketing.address) as client:
            client.sendall(frame(CLOSE) + frame(TEXT, b"and another thing") + frame(CLOSE))
            assert receive_frame(client)[0] == CLOSE | LAST
            assert receive_all(client) == b""
        socketing.stop()

    @pytest.mark.parametrize(
        "request_bytes",
        [
            GET,
            b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"nonsense\r\n\r\n",
            UPGRADE.replace(b"websocket\r", b"something\r"),
            UPGRADE.replace(b"Version: 13", b"Version: 8"),
            UPGRADE.replace(b"Host: x\r\n", b""),
            b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
        ],
    )
    def test_what_is_no_websocket(self, socketing, request_bytes):
        with connect(socketing.address) as client:
            client.sendall(request_bytes)
            try:
                answer = receive_all(client)
            except ConnectionResetError:
                # It was closed with something left to read.
                answer = b"HTTP/1.1 4"
            assert answer.startswith(b"HTTP/1.1 4")
        with upgraded(socketing.address):
            pass
        socketing.stop()

    def test_names_that_are_none(self, socketing):
        for host in (b"\xff\xfe", b"xn--\xc3", b"x" * 300):
            with connect(socketing.address) as client:
                client.sendall(UPGRADE.replace(b"Host: x", b"Host: " + host))
                client.shutdown(socket.SHUT_WR)
                receive_all(client)
        socketing.stop()

    def test_clients_that_go_away(self, socketing):
        before = socketing.descriptors()
        for data in (b"", UPGRADE[:20], UPGRADE, UPGRADE + frame(TEXT, b"x" * 1000)[:50], UPGRADE + frame(TEXT, BLOCK)):
            for end in (reset, socket.socket.close):
                client = connect(socketing.address)
                send_until_blocked(client, data, quiet=0.05)
                end(client)
        eventually(lambda: socketing.descriptors() == before)
        socketing.stop()

    def test_who_is_silent(self):
        """A ping, and if nothing comes back, the end; and the end for whoever says nothing at all."""
        command = f"import sys; sys.path[0] = 'examples'; import websocket_echo; {BRIEFLY}"
        with Program("-c", command, LOOPBACK) as program:
            address = announced(program)
            before = program.descriptors()
            with connect(address) as mute, upgraded(address) as silent, upgraded(address) as alive:
                for _ in range(4):
                    assert receive_frame(alive) == (PING | LAST, b"")
                    alive.sendall(frame(PONG))
                assert receive_frame(silent) == (PING | LAST, b"")
                assert receive_all(silent) == b""
                assert receive_all(mute) == b""
                assert program.descriptors() == before + 1
            assert program.stop() == ""

    def test_curl(self, socketing):
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        headers = [header.decode() for header in UPGRADE.split(b"\r\n")[2:] if header]
        options = ("--silent", "--include", "--http1.1", "--noproxy", "*", "--max-time", "1")
        url = f"http://{format_address(socketing.address)}/"
        done = run_tool("curl", *options, *(part for header in headers for part in ("--header", header)), url)
        assert done.stdout.startswith("HTTP/1.1 101 Switching Protocols\n")
        assert ACCEPT.decode() in done.stdout
        socketing.stop()
