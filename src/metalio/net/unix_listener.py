"""UnixListener: accept connections over a Unix socket."""

from operator import index

import cython
from cython.cimports.libc.errno import EADDRINUSE, errno
from cython.cimports.metalio._sys.address import address_object, read_path
from cython.cimports.metalio._sys.sockets import AF_UNIX, SOCK_STREAM, Address, bind, listen
from cython.cimports.metalio.net.listener import accept_next, check_listening
from cython.cimports.metalio.net.socket import Socket, take_over
from cython.cimports.metalio.net.unix_stream import UnixStream, open_stream

from metalio._sys.errors import os_error


@cython.cclass
class UnixListener(Socket):
    """A Unix socket that listens for connections.  Readable when there is one to accept.

    With edge triggering accept until `accept()` gives `None`.
    """

    @classmethod
    def bind(cls, path, *, backlog=4096):
        """Listen at a path, or on Linux at an abstract address: `b"\\0name"`.

        `backlog` is how many connections may wait to be accepted (the system has a limit of its own).  The file that
        stands for the socket is made here, and is not removed by `close()`: unlink it.

        socket(2), bind(2), listen(2).  Raises `TypeError` or `ValueError` for what is no path, `OSError`; where the
        file is there already, `EADDRINUSE`.  A Windows without Unix sockets, which came with Windows 10 1803, raises
        `OSError` (`WSAEAFNOSUPPORT`).
        """
        address: Address
        read_path(path, cython.address(address))
        waiting: cython.int = index(backlog)
        listener: UnixListener = cls.__new__(cls)
        listener.adopt(open_stream())
        try:
            if bind(listener.fd, cython.address(address.any), address.size) < 0:
                error: cython.int = errno
                raise os_error(error, "unlink what an earlier socket left behind" if error == EADDRINUSE else None)
            if listen(listener.fd, waiting) < 0:
                raise os_error(errno)
        except BaseException:
            listener.close()
            raise
        return listener

    @classmethod
    def from_socket(cls, sock):
        """Take over a listening `socket.socket`, which is detached.  It becomes non-blocking.

        Raises `TypeError` for what is none, `ValueError` if it is not a Unix stream socket that listens.
        """
        check_listening(sock)
        listener: UnixListener = cls.__new__(cls)
        listener.adopt(take_over(sock, (AF_UNIX,), SOCK_STREAM))
        return listener

    @cython.always_allow_keywords(False)
    def accept(self):
        """The next connection, as `(UnixStream, addr)`; `None` where there is none.  accept4(2).

        Most peers have no address of their own: `addr` is `""` then.

        Where descriptors or memory have run out (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`) it raises `OSError` and the
        listener stays armed: the connection is reported again by the next poll.
        """
        peer: Address
        fd: cython.int
        with cython.critical_section(self):
            self.require()
            fd = accept_next(self, cython.address(peer))
        if fd < 0:
            return None
        stream: UnixStream = UnixStream.__new__(UnixStream)
        stream.adopt(fd)
        return (stream, address_object(cython.address(peer)))
