"""An HTTP/1.1 server: metalio moves the bytes, h11 knows the protocol.

    python examples/http_server.py [127.0.0.1:7006]
    wrk -c 100 http://127.0.0.1:7006/

Connections are kept alive, and requests may be pipelined.  There are no timeouts here, which a server that strangers
reach would need.
"""

import sys
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import urlsplit

import h11

from metalio.net import TcpListener
from tcp_server import Connection, Server

PAGES = {"/": b"Hello, world!\n"}


class HttpConnection(Connection):
    def __init__(self, server, stream):
        stream.nodelay = True
        super().__init__(server, stream)
        self.http = h11.Connection(h11.SERVER)
        self.method = self.target = b""
        self.output = b""
        # The last answer has been given: what else the client may send is read, but not looked at.
        self.finished = False

    def step(self):
        # A client that does not take its answers is not read from: an event will say that there is room.
        if self.output:
            count = self.stream.write(self.output)
            if count is None:
                return False
            self.output = self.output[count:]
            if self.finished and not self.output:
                # Then the client closes.  To close before it would reset the connection while there is something to
                # read, and could lose the answer.
                self.stream.shutdown("write")
            return True
        data = self.stream.read(65536)
        if data is None:
            return False
        if data == b"":
            self.close()
            return False
        if not self.finished:
            self.http.receive_data(data)
            self.answer()
        return True

    def answer(self):
        """Put the answers to all requests that are complete into `output`."""
        while not self.finished:
            try:
                event = self.http.next_event()
            except h11.RemoteProtocolError as error:
                self.respond(error.error_status_hint, str(error))
                self.finished = True
                return
            if event is h11.NEED_DATA:
                if self.http.they_are_waiting_for_100_continue:
                    self.send(h11.InformationalResponse(status_code=100, headers=[]))
                return
            if isinstance(event, h11.Request):
                self.method, self.target = event.method, event.target
            elif isinstance(event, h11.EndOfMessage):
                self.route()
                if self.http.our_state is h11.DONE:
                    self.http.start_next_cycle()
                    self.method = b""
                else:
                    self.finished = True

    def route(self):
        try:
            path = urlsplit(self.target.decode()).path
        except ValueError:
            self.respond(400, "not an address")
            return
        if path not in PAGES:
            self.respond(404, "there is no such page")
        elif self.method not in (b"GET", b"HEAD"):
            self.respond(405, "only GET and HEAD", ("Allow", "GET, HEAD"))
        else:
            self.respond(200, PAGES[path])

    def respond(self, status, body, *more):
        reason = HTTPStatus(status).phrase
        if isinstance(body, str):
            body = f"{reason}: {body}\n".encode()
        headers = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            *more,
        ]
        self.send(h11.Response(status_code=status, reason=reason, headers=headers))
        if self.method != b"HEAD":
            self.send(h11.Data(data=body))
        self.send(h11.EndOfMessage())

    def send(self, event):
        self.output += self.http.send(event)


if __name__ == "__main__":
    with TcpListener.bind(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7006") as listener:
        Server(HttpConnection, listener).run()
