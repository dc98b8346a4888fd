"""UnixDatagram: datagrams between processes of one machine."""

import cython
from cython.cimports.libc.errno import errno
from cython.cimports.metalio._sys.address import address_object, read_path
from cython.cimports.metalio._sys.bits import PRIORITY, READABLE
from cython.cimports.metalio._sys.sockets import (
    AF_UNIX,
    SHUT_WR,
    SOCK_DGRAM,
    Address,
    open_pair,
    shutdown,
)
from cython.cimports.metalio.net.datagram import Datagram
from cython.cimports.metalio.net.socket import bind_socket, open_or_raise, take_over
from cython.cimports.metalio.own_source import own_methods

from metalio._sys.errors import os_error
from metalio.net.stream import _HOW


@cython.cclass
class UnixDatagram(Datagram):
    """A Unix socket that sends and receives datagrams, which arrive in order and are not lost.

    Addresses are paths, or `b"\\0name"` for Linux's abstract ones; that of a peer that is not bound is `None`.

    A peer that does not keep up makes sending block.  The system tells when there is room again only to a socket that
    is connected to that peer: after `send_to` gave `None` on one that is not, no event may come, or one without room.
    """

    @classmethod
    def bind(cls, path):
        """A socket at an address.  The path is created, and not removed when the socket is closed.

        socket(2), bind(2).  Raises `OSError` (`EADDRINUSE`) if there is something at that path already.
        """
        address: Address
        read_path(path, cython.address(address))
        sock: UnixDatagram = cls.__new__(cls)
        sock.adopt(open_or_raise(AF_UNIX, SOCK_DGRAM))
        try:
            bind_socket(sock.fd, cython.address(address))
        except BaseException:
            sock.close()
            raise
        return sock

    @classmethod
    def unbound(cls):
        """A socket without an address: it can send, and once it is connected receive too.  socket(2)."""
        sock: UnixDatagram = cls.__new__(cls)
        sock.adopt(open_or_raise(AF_UNIX, SOCK_DGRAM))
        return sock

    @classmethod
    def pair(cls):
        """Two sockets that are connected with each other (socketpair(2))."""
        first: UnixDatagram = cls.__new__(cls)
        second: UnixDatagram = cls.__new__(cls)
        fds = cython.declare(cython.int[2])
        error: cython.int = open_pair(AF_UNIX, SOCK_DGRAM, fds)
        if error:
            raise os_error(error)
        first.adopt(fds[0])
        second.adopt(fds[1])
        return (first, second)

    @classmethod
    def from_socket(cls, sock):
        """Take over a `socket.socket`, which is detached.  It becomes non-blocking.

        Raises `TypeError` for what is none, `ValueError` if it is not a Unix datagram socket.
        """
        taken: UnixDatagram = cls.__new__(cls)
        taken.adopt(take_over(sock, (AF_UNIX,), SOCK_DGRAM))
        return taken

    def shutdown(self, how):
        """Close the reading side, the writing side or both (shutdown(2)).

        `how` is `socket.SHUT_RD`, `SHUT_WR` or `SHUT_RDWR`, or `"read"`, `"write"` or `"both"`.  What waits to be
        received can still be; then Linux gives `None`, other systems `b""`.
        """
        number = _HOW.get(how)
        if number is None:
            raise ValueError(f"shut down SHUT_RD, SHUT_WR or SHUT_RDWR, or 'read', 'write' or 'both', not {how!r}")
        with cython.critical_section(self):
            self.require()
            if shutdown(self.fd, number) < 0:
                raise os_error(errno)
            if number != SHUT_WR and not self.deaf:
                # Where edges are emulated: the end is news.
                self.renew_blocked(READABLE | PRIORITY)
                self.deaf = True

    # -- Inside -------------------------------------------------------------------------------------------------------

    def renew_blocked(self, directions):
        # From then on it is readable for ever, and blocks all the same.
        return Datagram.renew_blocked(self, directions & ~(READABLE | PRIORITY) if self.deaf else directions)

    def encode(self, addr, address):
        return read_path(addr, address)

    def decode(self, address):
        # Linux gives no address for a socket without one, others an empty one.
        return address_object(address) or None


own_methods(UnixDatagram)
