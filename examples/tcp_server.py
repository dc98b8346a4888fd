"""A TCP server: sends back in capitals, line by line, what its clients write.

    python examples/tcp_server.py [127.0.0.1:7001]

Shows partial reads and writes, back-pressure, fairness between clients, an orderly end from either side, and what to do
when descriptors run out.  Tokens are functions here, so the loop calls what an event is for.  `Server` and `Connection`
do not know what is served: the other examples use them too.
"""

import signal
import socket
import sys
from contextlib import contextmanager
from functools import partial

from metalio import Events, Interest, Poll, PollOpt
from metalio.net import TcpListener

BOTH = Interest.READABLE | Interest.WRITABLE
ROUNDS = 16  # how many steps a connection takes before it is another's turn
LONGEST_LINE = 65536


@contextmanager
def signals(registry, token):
    """Have SIGINT and SIGTERM reported as events with this token.

    A handler runs between two steps of the program, and one that runs right before a poll begins to sleep wakes nobody.
    So the interpreter is asked to write a byte for every signal.
    """
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        registry.register(reader, token, Interest.READABLE, PollOpt.ONESHOT)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno())
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)


class Server:
    """Accepts connections and runs the loop; `start(server, stream)` begins to serve one.

    `sources` are what else is polled: pairs of a source and the function for its events.
    """

    def __init__(self, start, *listeners, sources=()):
        self.start = start
        self.listeners = listeners
        self.sources = sources
        self.paused = []
        self.connections = set()
        self.stopped = False

    def run(self):
        with Poll() as poll, signals(poll.registry, self.stop):
            self.registry = poll.registry
            for source, ready in self.sources:
                self.registry.register(source, ready, Interest.READABLE)
            for listener in self.listeners:
                self.listen(listener)
                address = listener.local_addr
                print("listening on", *(address[:2] if isinstance(address, tuple) else [address]), flush=True)
            events = Events()
            while not self.stopped:
                poll.poll(events)
                for event in events:
                    event.token(event)
            for connection in list(self.connections):
                connection.close()

    def stop(self, event):
        self.stopped = True

    def listen(self, listener):
        self.registry.register(listener, partial(self.accept, listener), Interest.READABLE)

    def accept(self, listener, event):
        while True:
            try:
                accepted = listener.accept()
            except OSError as error:
                # Out of descriptors.  Connections wait in the kernel, and would be reported in vain.
                print(f"not accepting: {error.strerror}", file=sys.stderr)
                self.registry.deregister(listener)
                self.paused.append(listener)
                return
            if accepted is None:
                return
            stream, _ = accepted
            try:
                self.start(self, stream)
            except OSError as error:
                print(f"not serving: {error.strerror}", file=sys.stderr)
                stream.close()

    def forget(self, connection):
        self.connections.discard(connection)
        while self.paused:
            self.listen(self.paused.pop())


class Connection:
    """What is done for one client; a subclass says what."""

    def __init__(self, server, stream):
        self.server = server
        self.stream = stream
        server.registry.register(stream, self.ready, BOTH)
        server.connections.add(self)

    def ready(self, event):
        try:
            for _ in range(ROUNDS):
                if not self.step():
                    return
            # There is more to do.  Registering anew makes the kernel say so once more, after it has named the others.
            self.server.registry.reregister(self.stream, self.ready, BOTH)
        except OSError:
            self.close()

    def step(self):
        """Do the next thing; false if that has to wait."""
        raise NotImplementedError

    def close(self):
        self.stream.close()
        self.server.forget(self)


class Shouting(Connection):
    def __init__(self, server, stream):
        super().__init__(server, stream)
        self.unfinished = b""  # the line that has begun to arrive
        self.output = b""  # what the client has not taken yet
        self.at_end = False

    def step(self):
        # As long as the client does not take its lines no more are read: an event will say that there is room.
        if self.output:
            count = self.stream.write(self.output)
            if count is None:
                return False
            self.output = self.output[count:]
            return True
        if self.at_end:
            self.close()
            return False
        data = self.stream.read(65536)
        if data is None:
            return False
        self.at_end = data == b""
        *lines, self.unfinished = (self.unfinished + data).split(b"\n")
        if len(self.unfinished) > LONGEST_LINE:
            self.close()
            return False
        if self.at_end and self.unfinished:
            lines.append(self.unfinished)
        self.output = b"".join(line.upper() + b"\n" for line in lines)
        return True


if __name__ == "__main__":
    with TcpListener.bind(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7001") as listener:
        Server(Shouting, listener).run()
