"""examples/http_server.py, talked to over real sockets."""

import http.client
import re
import shutil
import socket
import threading

import pytest
from example import LOOPBACK, announced, reset, start
from program import (
    PATIENCE,
    connect,
    eventually,
    receive_all,
    run_tool,
    send_until_blocked,
)

from metalio.cli.echo import format_address


@pytest.fixture
def web():
    with start("http_server.py", LOOPBACK) as program:
        program.address = announced(program)
        yield program


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def responses(data):
    """The status codes and bodies in a byte stream, by Content-Length alone."""
    found = []
    begin = 0
    while begin < len(data):
        end = data.index(b"\r\n\r\n", begin)
        head = data[begin:end]
        begin = end + 4 + int(re.search(rb"(?i)\r\ncontent-length: (\d+)", head)[1])
        found.append((int(head.split()[1]), data[end + 4 : begin]))
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
