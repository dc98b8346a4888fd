"""What the tests of examples have in common."""

import socket
import struct

from program import Program

LOOPBACK = "127.0.0.1:0"


def start(name, *arguments, **options):
    """An example that listens."""
    return Program(f"examples/{name}", *arguments, **options)


def announced(program):
    """The address in its next line."""
    words = program.line().split()
    assert words[:2] == ["listening", "on"]
    return (words[2], int(words[3])) if len(words) == 4 else words[2]


def reset(sock):
    """Close a connection so that the peer finds it broken."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
