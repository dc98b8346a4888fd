"""UnixStream: a connection between processes of one machine."""

import cython
from cython.cimports.libc.errno import EAGAIN, EINPROGRESS, errno
from cython.cimports.metalio._sys.address import read_path
from cython.cimports.metalio._sys.sockets import AF_UNIX, SOCK_STREAM, Address, connect, open_pair
from cython.cimports.metalio.net.socket import open_or_raise, take_over
from cython.cimports.metalio.net.stream import Stream

from metalio._sys.errors import os_error


@cython.cclass
class UnixStream(Stream):
    """A connection over a Unix socket.  Made by `connect`, `pair`, `from_socket`, or `UnixListener.accept`.

    Reads and writes never block: they give `None` where they would.  It can stand under `io.BufferedReader`.
    """

    @classmethod
    def connect(cls, path):
        """Connect to a path, or on Linux to an abstract address: `b"\\0name"`.  socket(2), connect(2).

        It is connected when this returns, or there is an `OSError`.  When as many connections wait as the listener lets
        wait, Linux does not queue another but says `EAGAIN`: that is a `BlockingIOError`, and nothing tells when there
        is room, so try again after a while.  Raises `TypeError` or `ValueError` for what is no path.
        """
        address: Address
        read_path(path, cython.address(address))
        stream: UnixStream = cls.__new__(cls)
        stream.adopt(open_or_raise(AF_UNIX, SOCK_STREAM))
        try:
            if connect(stream.fd, cython.address(address.any), address.size) < 0 and errno != EINPROGRESS:
                error: cython.int = errno
                raise os_error(error, "the listener's backlog is full: try again later" if error == EAGAIN else None)
        except BaseException:
            stream.close()
            raise
        return stream

    @classmethod
    def pair(cls):
        """Two streams that are connected with each other (socketpair(2)).  Raises `OSError`."""
        fds = cython.declare(cython.int[2])
        one: UnixStream = cls.__new__(cls)
        other: UnixStream = cls.__new__(cls)
        error: cython.int = open_pair(AF_UNIX, SOCK_STREAM, fds)
        if error:
            raise os_error(error)
        one.adopt(fds[0])
        other.adopt(fds[1])
        return (one, other)

    @classmethod
    def from_socket(cls, sock):
        """Take over a `socket.socket`, which is detached.  It becomes non-blocking.

        Raises `TypeError` for what is none, `ValueError` if it is not a Unix stream socket.
        """
        stream: UnixStream = cls.__new__(cls)
        stream.adopt(take_over(sock, (AF_UNIX,), SOCK_STREAM))
        return stream
