"""A client that loads an echo server, and compares every byte that comes back with what it sent.

Messages are slices of one block of random bytes, from random places: a byte that is lost, repeated, out of order, or
another connection's does not fit.
"""

from dataclasses import dataclass
from random import Random
from time import monotonic

from metalio import Events, Interest, Poll
from metalio.net import TcpStream, UdpSocket, UnixStream

BOTH = Interest.READABLE | Interest.WRITABLE
BLOCK = 1 << 20
# So many connections may be on their way at once: a listener's queue has an end.
CONNECTING = 200
# Something is lost where nothing has come for so many seconds.
PATIENCE = 15


class Mismatch(Exception):
    """What came back is not what was sent."""


@dataclass
class Totals:
    """What a drive has done, in the seconds since the first message."""

    connections: int = 0
    messages: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def __str__(self):
        return (
            f"{self.connections:,} connections, {self.messages:,} messages, {self.bytes:,} bytes, all verified: "
            f"{self.messages / self.seconds:,.0f} messages/s, {self.bytes / self.seconds / 1e6:,.0f} MB/s each way"
        )


class Drive:
    """Many connections to a server, each of which sends its messages one after the other.

    All are open before the first message is sent.  A connection ends after so many `messages`, or once so many
    `seconds` have passed.  Sizes are random, up to `largest`, as many of two digits as of five.
    """

    def __init__(self, connect, *, connections, largest, messages=None, seconds=None, seed=0, selector=None):
        self.connect = connect
        self.wanted = connections
        self.largest = largest
        self.messages = messages
        self.seconds = seconds
        self.random = Random(seed)
        self.block = self.random.randbytes(BLOCK)
        self.selector = selector
        self.links = []
        self.connecting = 0
        self.ended = 0
        self.totals = Totals()

    def run(self):
        """Do it, and return the totals.  Raises `Mismatch`, or the `OSError` of a connection."""
        events = Events()
        try:
            with Poll(selector=self.selector) as poll:
                self.registry = poll.registry
                self.dial()
                while self.ended < self.wanted:
                    if not poll.poll(events, PATIENCE):
                        raise Mismatch(f"something is lost: {self.wanted - self.ended} connections wait in vain")
                    for event in events:
                        event.token(event)
        finally:
            for link in self.links:
                link.socket.close()
        self.totals.seconds = monotonic() - self.begin
        return self.totals

    # Called by the links.

    def dial(self):
        while len(self.links) < self.wanted and self.connecting < CONNECTING:
            link = self.connect(self)
            self.links.append(link)
            self.connecting += 1
            self.registry.register(link.socket, link.connected, BOTH)

    def note_connected(self):
        self.connecting -= 1
        self.totals.connections += 1
        self.dial()
        if self.totals.connections == self.wanted:
            self.begin = monotonic()
            for link in self.links:
                link.start()

    def choose(self, already):
        """Where the next message stands in the block, or `None` if there is none for who has sent so many."""
        if already == self.messages or (self.seconds and monotonic() >= self.begin + self.seconds):
            return None
        size = int(self.largest ** self.random.random())
        begin = self.random.randrange(BLOCK - size)
        return begin, begin + size

    def note_echoed(self, size):
        self.totals.messages += 1
        self.totals.bytes += size

    def note_end(self):
        self.ended += 1


class Link:
    """One socket of a drive.  Its methods are its tokens."""

    def __init__(self, drive, socket):
        self.drive = drive
        self.socket = socket
        self.messages = 0

    def connected(self, event):
        error = self.socket.take_error()
        if error is not None:
            raise error
        # Until all are connected there is nothing to do.
        self.drive.registry.deregister(self.socket)
        self.drive.note_connected()

    def start(self):
        self.drive.registry.register(self.socket, self.advance, BOTH)
        self.begin_message()

    def advance(self, event):
        """Send and receive what can be."""
        raise NotImplementedError

    def finish(self):
        """There is no message left."""
        raise NotImplementedError

    def begin_message(self):
        place = self.drive.choose(self.messages)
        if place is None:
            self.finish()
            return
        self.messages += 1
        self.position, self.end = place
        self.size = self.end - self.position
        self.unsent = memoryview(self.drive.block)[self.position : self.end]

    def check(self, data):
        end = self.position + len(data)
        if end > self.end or self.drive.block[self.position : end] != data:
            raise Mismatch(f"wrong bytes in message {self.messages}, {self.end - self.position} from its end")
        self.position = end
        if end == self.end:
            self.drive.note_echoed(self.size)
            self.begin_message()


class StreamLink(Link):
    """A connection, over TCP or a Unix socket.  It shuts down its side, and expects the end of the other."""

    finished = False

    def advance(self, event):
        while True:
            while not self.finished and self.unsent:
                count = self.socket.write(self.unsent)
                if count is None:
                    break
                self.unsent = self.unsent[count:]
            data = self.socket.read(65536)
            if data is None:
                return
            if data == b"":
                if not self.finished:
                    raise Mismatch(f"closed in message {self.messages}, {self.end - self.position} from its end")
                self.drive.registry.deregister(self.socket)
                self.drive.note_end()
                return
            if self.finished:
                raise Mismatch("bytes after the last message")
            self.check(data)

    def finish(self):
        self.finished = True
        self.socket.shutdown("write")


class DatagramLink(Link):
    """A UDP socket: a message is a datagram."""

    finished = False

    def advance(self, event):
        while not self.finished:
            if self.unsent and self.socket.send(self.unsent) is None:
                return
            self.unsent = memoryview(b"")
            data = self.socket.recv(65536)
            if data is None:
                return
            if len(data) != self.size:
                raise Mismatch(f"a datagram of {self.size} bytes came back with {len(data)}")
            self.check(data)

    def finish(self):
        self.finished = True
        self.drive.registry.deregister(self.socket)
        self.drive.note_end()


def connect_tcp(address):
    """What makes the connections of a drive."""

    def connect(drive):
        stream = TcpStream.connect(address)
        stream.nodelay = True
        return StreamLink(drive, stream)

    return connect


def connect_unix(path):
    """The same for a Unix socket."""
    return lambda drive: StreamLink(drive, UnixStream.connect(path))


def connect_udp(address):
    """The same for UDP."""

    def connect(drive):
        socket = UdpSocket.bind("[::1]:0" if address.startswith("[") else "127.0.0.1:0")
        socket.connect(address)
        return DatagramLink(drive, socket)

    return connect
