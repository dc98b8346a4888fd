"""A TCP proxy: passes connections on to another server.

    python examples/tcp_proxy.py [127.0.0.1:7005] [127.0.0.1:7777]

Back-pressure works in both directions: what one side does not take is not read from the other.  Each direction ends by
itself, as those of a connection do, and an error on one side resets the other.
"""

import sys

from metalio.net import TcpListener, TcpStream
from tcp_server import BOTH, Server

ROUNDS = 8


class Direction:
    """One way through the proxy."""

    def __init__(self, source, sink):
        self.source = source
        self.sink = sink
        self.data = b""
        self.at_end = False
        self.closed = False

    def advance(self):
        """Pass on what there is.  False if it was too much for one turn."""
        if self.closed:
            return True
        for _ in range(ROUNDS):
            while self.data:
                count = self.sink.write(self.data)
                if count is None:
                    return True
                self.data = self.data[count:]
            if self.at_end:
                self.sink.shutdown("write")
                self.closed = True
                return True
            data = self.source.read(65536)
            if data is None:
                return True
            self.data = data
            self.at_end = data == b""
        return False


class Session:
    """A client, the connection made for it, and the two directions between them."""

    def __init__(self, server, client, upstream):
        self.server = server
        self.client = client
        self.upstream = upstream
        self.connected = False
        self.directions = Direction(client, upstream), Direction(upstream, client)
        client.nodelay = upstream.nodelay = True
        server.registry.register(client, self.ready, BOTH)
        server.registry.register(upstream, self.upstream_ready, BOTH)
        server.connections.add(self)

    def upstream_ready(self, event):
        if not self.connected:
            error = self.upstream.take_error()
            if error is not None:
                print(f"cannot connect: {error.strerror}", file=sys.stderr)
                self.reset()
                return
            self.connected = event.is_writable()
        self.ready(event)

    def ready(self, event):
        if not self.connected:
            return  # What the client sends meanwhile waits in the kernel.
        try:
            finished = [direction.advance() for direction in self.directions]
        except OSError:
            self.reset()
            return
        if all(direction.closed for direction in self.directions):
            self.close()
        elif not all(finished):
            # Others first: registering anew makes the kernel report it once more, behind them.
            self.server.registry.reregister(self.client, self.ready, BOTH)

    def reset(self):
        # Without lingering a close sends a reset, which no peer takes for an orderly end.
        self.client.linger = self.upstream.linger = 0
        self.close()

    def close(self):
        self.client.close()
        self.upstream.close()
        self.server.forget(self)


def main(address="127.0.0.1:7005", target="127.0.0.1:7777"):
    with TcpListener.bind(address) as listener:
        Server(lambda server, client: Session(server, client, TcpStream.connect(target)), listener).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
