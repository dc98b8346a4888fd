"""An echo server on `EventLoop`: sends back what its clients write.

    python examples/event_loop_echo.py [127.0.0.1:7008]

The loop calls a handler, and the handler the token, which knows what to do.  Sources are level-triggered: what is left
undone is reported again in the next turn, so a connection reads once and is then the others' turn.  A client that does
not read is not read from.  Without descriptors the server does not accept for a while, which a timeout ends.  `serve`,
`Server` and `Connection` do not know what is served: `websocket_echo.py` uses them too.
"""

import signal
import sys

from metalio import Interest
from metalio.event_loop import EventLoop, Handler
from metalio.net import TcpListener

READABLE, WRITABLE = Interest.READABLE, Interest.WRITABLE
PAUSE = 1.0  # seconds without accepting


class Caller(Handler):
    """Tokens have methods, and timeouts are functions."""

    def readable(self, loop, token, hint):
        token.readable()

    def writable(self, loop, token):
        token.writable()

    def timeout(self, loop, value):
        value()


class Server:
    """Accepts connections; `start(server, stream)` begins to serve one."""

    def __init__(self, loop, listener, start):
        self.loop = loop
        self.listener = listener
        self.start = start
        self.connections = set()
        self.listen()

    def listen(self):
        self.loop.register(self.listener, self)

    def readable(self):
        try:
            accepted = self.listener.accept()
        except OSError as error:
            # Out of descriptors.  Connections wait in the kernel, and would be reported in vain.
            print(f"not accepting: {error.strerror}", file=sys.stderr)
            self.loop.deregister(self.listener)
            self.loop.timeout(self.listen, PAUSE)
            return
        if accepted is None:
            return
        try:
            self.start(self, accepted[0])
        except OSError as error:
            print(f"not serving: {error.strerror}", file=sys.stderr)
            accepted[0].close()

    def writable(self):
        pass

    def close(self):
        for connection in list(self.connections):
            connection.close()


class Connection:
    """What is done for one client; a subclass says what, in `answer`."""

    def __init__(self, server, stream):
        self.server = server
        self.loop = server.loop
        self.stream = stream
        self.interest = READABLE
        self.output = b""  # what the client has not taken yet
        self.closing = False  # once it has
        self.loop.register(stream, self, self.interest)
        server.connections.add(self)

    def answer(self, data):
        """What to send, now that this has come; `b""` is the end of what the client writes."""
        raise NotImplementedError

    def readable(self):
        # A hang-up is reported whether one asked for it or not.
        if self.output:
            return
        try:
            data = self.stream.read(65536)
        except OSError:
            self.close()
            return
        if data is not None:
            self.output = self.answer(data)
            self.writable()

    def writable(self):
        try:
            count = self.stream.write(self.output)
        except OSError:
            self.close()
            return
        self.output = self.output[count or 0 :]
        if self.closing and not self.output:
            self.close()
            return
        # As long as it does not take everything it is not read from.
        interest = WRITABLE if self.output else READABLE
        if interest != self.interest:
            self.interest = interest
            self.loop.reregister(self.stream, self, interest)

    def close(self):
        self.stream.close()
        self.server.connections.discard(self)


class Echo(Connection):
    def answer(self, data):
        self.closing = data == b""
        return data


def serve(address, start):
    """Serve until SIGINT or SIGTERM."""
    with TcpListener.bind(address) as listener, EventLoop() as loop:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: loop.shutdown())
        server = Server(loop, listener, start)
        print("listening on", *listener.local_addr[:2], flush=True)
        loop.run(Caller())
        server.close()


if __name__ == "__main__":
    serve(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7008", Echo)
