"""A UDP server: sends every datagram back to where it came from.

    python examples/udp_server.py [127.0.0.1:7002]

A datagram is received whole or not at all, and a short one says nothing of the next: drain until None.
"""

import sys

from metalio import Events, Interest, Poll, Token
from metalio.net import UdpSocket
from tcp_server import signals

SOCKET = Token(0)
STOP = Token(1)
BOTH = Interest.READABLE | Interest.WRITABLE
ROUNDS = 256


class Server:
    def __init__(self, poll, socket):
        self.poll = poll
        self.socket = socket
        self.buffer = memoryview(bytearray(65536))
        self.unsent = None  # a datagram for which there was no room, and its sender

    def advance(self):
        for _ in range(ROUNDS):
            if self.unsent is None:
                received = self.socket.recv_from_into(self.buffer)
                if received is None:
                    return
                size, peer = received
                self.unsent = self.buffer[:size], peer
            try:
                if self.socket.send_to(*self.unsent) is None:
                    # Nothing overwrites the buffer until the socket is writable again, and this has been sent.
                    return
            except OSError as error:
                print(f"cannot answer {self.unsent[1]}: {error.strerror}", file=sys.stderr)
            self.unsent = None
        # A flood must not keep the loop from the other events: have the kernel report what is left.
        self.poll.registry.reregister(self.socket, SOCKET, BOTH)

    def run(self):
        self.poll.registry.register(self.socket, SOCKET, BOTH)
        with signals(self.poll.registry, STOP):
            print("listening on", *self.socket.local_addr[:2], flush=True)
            events = Events()
            while True:
                self.poll.poll(events)
                for event in events:
                    if event.token is STOP:
                        return
                    self.advance()


if __name__ == "__main__":
    with Poll() as poll, UdpSocket.bind(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7002") as socket:
        Server(poll, socket).run()
