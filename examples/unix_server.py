"""A Unix server: tells its clients who they are, as the kernel knows them.

    python examples/unix_server.py [/tmp/metalio-example]

A Unix socket carries more than bytes: here the peer's credentials, which nobody can forge.
"""

import os
import sys

from metalio.net import UnixListener
from tcp_server import Connection, Server


class Saying(Connection):
    """Says one thing, and closes once the client has: to close earlier could break what is on its way."""

    def __init__(self, server, stream, text):
        super().__init__(server, stream)
        self.output = text.encode()

    def step(self):
        if self.output:
            count = self.stream.write(self.output)
            if count is None:
                return False
            self.output = self.output[count:]
            if not self.output:
                self.stream.shutdown("write")
            return True
        data = self.stream.read(65536)
        if data == b"":
            self.close()
        return bool(data)


def introduce(server, stream):
    who = stream.peer_cred
    Saying(server, stream, f"you are user {who.uid}, group {who.gid}, process {who.pid}\n")


if __name__ == "__main__":
    path = sys.argv[1] if len(sys.argv) > 1 else "/tmp/metalio-example"
    with UnixListener.bind(path) as listener:
        try:
            Server(introduce, listener).run()
        finally:
            os.unlink(path)
