"""A server that forgets connections which have been idle for a while: 60 seconds, if nothing else is said.

    python examples/idle_reaper.py [127.0.0.1:7008] [60] [100000]

Each connection has a timeout, and each of its datagrams restarts that: it is cancelled, and another is scheduled, both
at a cost that does not depend on how many there are.  A connection is named by the first eight bytes of its datagrams,
as in QUIC, and needs no descriptor, so that there can be 100,000 of them.  What it sends is sent back, and when it is
forgotten it is told so.  The third argument has the program open so many connections to itself.
"""

import sys
from contextlib import ExitStack

from metalio import Events, Interest, Poll, PollOpt
from metalio.net import UdpSocket
from metalio.timer import Timer, TimerFull
from tcp_server import signals

NAME = 8
GOODBYE = b"idle"
MOST = 1_000_000
ROUNDS = 64  # how many datagrams or timeouts are dealt with before it is another's turn


class Connection:
    def __init__(self, name):
        self.name = name
        self.peer = None
        self.timeout = None


class Reaper:
    def __init__(self, registry, socket, idle):
        self.socket = socket
        self.idle = idle
        self.connections = {}
        self.buffer = memoryview(bytearray(65536))
        # Nobody minds a tenth of a second here, and the poll wakes up ten times a second at the most.
        self.timer = Timer(tick=0.1, capacity=MOST)
        registry.register(socket, self.receive, Interest.READABLE, PollOpt.LEVEL)
        registry.register(self.timer, self.reap, Interest.READABLE, PollOpt.LEVEL)

    def receive(self, event):
        for _ in range(ROUNDS):
            received = self.socket.recv_from_into(self.buffer)
            if received is None:
                return
            size, peer = received
            if size >= NAME and self.keep(bytes(self.buffer[:NAME]), peer):
                self.send(self.buffer[:size], peer)

    def keep(self, name, peer):
        """Begin a connection, or have it go on; false if there is no room for another."""
        connection = self.connections.get(name)
        if connection is None:
            connection = Connection(name)
        else:
            self.timer.cancel_timeout(connection.timeout)
        try:
            connection.timeout = self.timer.set_timeout(self.idle, connection)
        except TimerFull:
            return False
        connection.peer = peer
        self.connections[name] = connection
        return True

    def reap(self, event):
        for _ in range(ROUNDS):
            connection = self.timer.poll()
            if connection is None:
                break
            del self.connections[connection.name]
            self.send(connection.name + GOODBYE, connection.peer)
        if self.timer.next_timeout() != 0:
            print(f"{len(self.connections):,} connections are left", flush=True)

    def send(self, data, peer):
        try:
            # What there is no room for is lost, as datagrams may be.
            self.socket.send_to(data, peer)
        except OSError as error:
            print(f"cannot answer {peer}: {error.strerror}", file=sys.stderr)


class Crowd:
    """So many connections from one socket, which say something once."""

    def __init__(self, registry, socket, count):
        self.socket = socket
        self.names = iter(range(count))
        self.left = count
        registry.register(socket, self.receive, Interest.READABLE)
        for _ in range(ROUNDS):
            self.open()

    def open(self):
        for number in self.names:
            self.socket.send(number.to_bytes(NAME) + b"hello")
            return

    def receive(self, event):
        while (answer := self.socket.recv(100)) is not None:
            if answer[NAME:] == GOODBYE:
                self.left -= 1
                if self.left == 0:
                    print("all were told that they had been idle", flush=True)
            else:
                self.open()


def main(address="127.0.0.1:7008", idle="60", crowd="0"):
    stopped: list[object] = []
    with Poll() as poll, ExitStack() as stack:
        stack.enter_context(signals(poll.registry, stopped.append))
        socket = stack.enter_context(UdpSocket.bind(address))
        reaper = Reaper(poll.registry, socket, float(idle))
        stack.enter_context(reaper.timer)
        print("listening on", *socket.local_addr[:2], flush=True)
        if int(crowd):
            client = stack.enter_context(UdpSocket.bind(("127.0.0.1", 0)))
            client.connect(socket.local_addr)
            Crowd(poll.registry, client, int(crowd))
        events = Events()
        while not stopped:
            poll.poll(events)
            for event in events:
                event.token(event)


if __name__ == "__main__":
    main(*sys.argv[1:])
