"""The server behind `python -m metalio echo`: TCP, UDP and Unix from one `Poll`.

Whatever is registered is its own token and has a method `ready(event)`, so the loop looks nothing up.  Everything is
edge-triggered and registered once, for both directions.  Four rules keep the server honest under load:

- What a peer does not read back is not read from it: at most one buffer of its bytes waits here.
- Nobody gets more than a few rounds in a turn.  Who has more to do is registered anew, which makes the kernel report it
  once more, behind all others.
- A peer that shuts down its writing side gets the rest of its bytes before the connection is closed.
- Out of descriptors, the listener is put aside, for otherwise the connections that wait would be reported for ever; it
  is back as soon as a connection is closed, and tried again at every tick.
"""

import os
import signal
import socket
import stat
from time import monotonic

from metalio import Events, Interest, Poll, PollOpt
from metalio.net import DatagramBatch, TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream

BUFFER = 65536
STREAM_ROUNDS = 4
DATAGRAMS = 64
DATAGRAM_ROUNDS = 4
ACCEPT_ROUNDS = 64
TICK = 0.25
WARN_AGAIN = 10.0

_BOTH = Interest.READABLE | Interest.WRITABLE


class Connection:
    """A stream whose bytes go back where they came from."""

    __slots__ = ("closing", "pending", "server", "stream")

    def __init__(self, server, stream):
        self.server = server
        self.stream = stream
        self.pending = b""
        # Once the peer has shut down its side a short read no longer says that nothing is left.
        self.closing = False

    def ready(self, event):
        if event.is_read_closed():
            self.closing = True
        try:
            self.echo()
        except OSError:
            self.server.failures += 1
            self.close()

    def echo(self):
        server = self.server
        stream = self.stream
        buffer = server.buffer
        if self.pending:
            written = stream.write(self.pending)
            if written is None:
                return
            server.sent += written
            self.pending = self.pending[written:]
            if self.pending:
                return
        for _ in range(STREAM_ROUNDS):
            count = stream.readinto(buffer)
            if count is None:
                return
            if count == 0:
                self.close()
                return
            server.received += count
            written = stream.write(buffer[:count]) or 0
            server.sent += written
            if written < count:
                self.pending = bytes(buffer[written:count])
                return
            if count < BUFFER and not self.closing:
                return
        server.poll.registry.reregister(stream, self, _BOTH)

    def close(self):
        self.stream.close()
        self.server.forget(self)


class Acceptor:
    """A listener, of either kind."""

    def __init__(self, server, listener):
        self.server = server
        self.listener = listener
        server.poll.registry.register(listener, self, Interest.READABLE)

    def ready(self, event):
        server = self.server
        for _ in range(ACCEPT_ROUNDS):
            try:
                accepted = self.listener.accept()
            except OSError as error:
                server.suspend(self, error)
                return
            if accepted is None:
                return
            server.welcome(accepted[0])
        server.poll.registry.reregister(self.listener, self, Interest.READABLE)


class Datagrams:
    """A UDP socket that returns each datagram to its sender, many in a system call."""

    def __init__(self, server, socket):
        self.server = server
        self.socket = socket
        # What is received stays here until it is sent.
        self.batch = DatagramBatch(DATAGRAMS, BUFFER)
        self.unsent = 0
        server.poll.registry.register(socket, self, _BOTH)

    def ready(self, event):
        for _ in range(DATAGRAM_ROUNDS):
            if not self.send() or not self.receive():
                return
        self.server.poll.registry.reregister(self.socket, self, _BOTH)

    def receive(self):
        """Fill the batch; false where there is nothing to receive."""
        server = self.server
        try:
            count = self.socket.recv_many(self.batch)
        except OSError:
            # An answer that bounced, from a peer that is gone.
            server.failures += 1
            return True
        if count is None:
            return False
        self.unsent = sum(map(len, self.batch))
        server.datagrams += count
        server.received += self.unsent
        return True

    def send(self):
        """Empty the batch; false where there is no room to send."""
        server = self.server
        while self.batch:
            try:
                if self.socket.send_many(self.batch) is None:
                    return False
            except OSError:
                # Of the first one, which can never be sent.
                server.failures += 1
                self.unsent -= len(self.batch[0])
                self.batch.discard()
                continue
            left = sum(map(len, self.batch))
            server.sent += self.unsent - left
            self.unsent = left
        return True


class EchoServer:
    """Everything that is served, and what has been done so far."""

    def __init__(self, selector=None):
        self.poll = Poll(selector=selector)
        self.buffer = memoryview(bytearray(BUFFER))
        self.acceptors = []
        self.suspended = []
        self.open = []
        self.paths = []
        self.connections = set()
        self.stopping = False
        self.accepted = 0
        self.datagrams = 0
        self.received = 0
        self.sent = 0
        self.events = 0
        self.failures = 0
        # What kept a listener from accepting the last time, who wants to know of it, and when to tell that again.
        self.trouble = None
        self.warn = None
        self.warn_after = 0.0

    # -- What to serve ------------------------------------------------------------------------------------------------

    def add_tcp(self, addr):
        """Listen on an address; returns the one that it became, with the port that the system chose for 0."""
        return self.listen(TcpListener.bind(addr))

    def add_unix(self, path):
        """Listen on a path (`@name`: an abstract address).  One that a dead server left behind is replaced."""
        if path.startswith("@"):
            return self.listen(UnixListener.bind(b"\0" + os.fsencode(path[1:])))
        if is_stale(path):
            os.unlink(path)
        listener = UnixListener.bind(path)
        self.paths.append((path, identity(path)))
        return self.listen(listener)

    def add_udp(self, addr):
        """Answer datagrams; returns the address."""
        socket = UdpSocket.bind(addr)
        self.open.append(socket)
        Datagrams(self, socket)
        return socket.local_addr

    def listen(self, listener):
        self.open.append(listener)
        Acceptor(self, listener)
        return listener.local_addr

    # -- The loop -----------------------------------------------------------------------------------------------------

    def serve(self, report=None):
        """Serve until a signal comes.  `report(self)`, if given, is called at every tick.

        `warn(error)`, if set, is called where a listener cannot accept, now and then.
        """
        poll = self.poll
        events = Events()
        due = monotonic() + TICK
        while not self.stopping:
            timeout = max(due - monotonic(), 0) if report or self.suspended else None
            self.events += poll.poll(events, timeout)
            for event in events:
                event.token.ready(event)
            if timeout is not None and (now := monotonic()) >= due:
                due = now + TICK
                self.resume()
                if report:
                    report(self)

    def stop_on(self, *numbers):
        """End `serve()` once one of these signals comes.

        A handler runs between two steps of Python code, and one that runs right before a poll begins to sleep wakes
        nobody; the byte that the interpreter writes for every signal does.
        """
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        self.open += reader, writer
        self.poll.registry.register(reader, self, Interest.READABLE, PollOpt.LEVEL)
        for number in numbers:
            signal.signal(number, lambda number, frame: None)
        signal.set_wakeup_fd(writer.fileno())

    def ready(self, event):
        """A signal has come."""
        self.stopping = True

    # -- Connections --------------------------------------------------------------------------------------------------

    def welcome(self, stream):
        connection = Connection(self, stream)
        try:
            if isinstance(stream, TcpStream):
                stream.nodelay = True
            self.poll.registry.register(stream, connection, _BOTH)
        except OSError:
            # The peer is gone already, or the kernel watches as much as it is allowed to.
            self.failures += 1
            stream.close()
            return
        self.accepted += 1
        self.connections.add(connection)

    def forget(self, connection):
        self.connections.discard(connection)
        self.resume()

    def suspend(self, acceptor, error):
        self.poll.registry.deregister(acceptor.listener)
        self.suspended.append(acceptor)
        self.trouble = error
        if self.warn and monotonic() >= self.warn_after:
            self.warn_after = monotonic() + WARN_AGAIN
            self.warn(error)

    def resume(self):
        while self.suspended:
            acceptor = self.suspended.pop()
            self.poll.registry.register(acceptor.listener, acceptor, Interest.READABLE)

    # -- The end ------------------------------------------------------------------------------------------------------

    def close(self):
        """Close everything, and remove the paths that are still this server's own."""
        signal.set_wakeup_fd(-1)
        for connection in self.connections:
            connection.stream.close()
        for source in self.open:
            source.close()
        self.connections.clear()
        for path, own in self.paths:
            if identity(path) == own:
                os.unlink(path)
        self.poll.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.close()


def identity(path):
    """What tells one file from another at the same path, or `None` without a file."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_stale(path):
    """Whether a path is a socket on which nobody listens."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
        UnixStream.connect(path).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
