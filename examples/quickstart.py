"""A server that accepts and drops connections, and a client that sees it: both in one process, on one Poll."""

from metalio import Events, Interest, Poll, Token
from metalio.net import TcpListener, TcpStream

SERVER = Token(0)
CLIENT = Token(1)


def main():
    events = Events()
    with (
        Poll() as poll,
        TcpListener.bind("127.0.0.1:0") as server,
        TcpStream.connect(server.local_addr) as client,
    ):
        # Tell the kernel what to watch; the token is what its events will carry.
        poll.registry.register(server, SERVER, Interest.READABLE)
        poll.registry.register(client, CLIENT, Interest.READABLE | Interest.WRITABLE)

        while True:
            poll.poll(events)
            for event in events:
                if event.token is SERVER:
                    # Edge-triggered: accept until there is nothing left, which is None.
                    while (accepted := server.accept()) is not None:
                        connection, address = accepted
                        print(f"server: dropped the connection from {address[0]}")
                        connection.close()
                elif event.token is CLIENT:
                    if event.is_writable():
                        print("client: connected")
                        # That was all there is to know of it; from now on only what can be read is of interest.
                        poll.registry.reregister(client, CLIENT, Interest.READABLE)
                    # An event is a hint: None says that there is nothing to read yet, b"" that there never will be.
                    if event.is_readable() and client.read(1024) == b"":
                        print("client: the server closed the connection")
                        return


if __name__ == "__main__":
    main()
