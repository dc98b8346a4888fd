"""What the tests of examples have in common."""

import contextlib
import socket
import struct

import pytest
from program import WINE, Program

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


def finds_it_broken():
    """A context in which a socket that reads finds that its peer has broken the connection.

    Wine forgets that, and tells an end of the stream instead.
    """
    return contextlib.nullcontext() if WINE else pytest.raises(ConnectionResetError)
