"""TcpListener: accept TCP connections."""

from operator import index

import cython
from cython.cimports.libc.errno import errno
from cython.cimports.metalio._sys.address import address_object, read_address
from cython.cimports.metalio._sys.sockets import (
    AF_INET,
    AF_INET6,
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    REUSE_ADDRESS,
    SO_REUSEADDR,
    SOCK_STREAM,
    SOL_SOCKET,
    Address,
    listen,
)
from cython.cimports.metalio.net.internet import get_ttl, set_ttl
from cython.cimports.metalio.net.listener import accept_next, check_listening
from cython.cimports.metalio.net.socket import Socket, bind_socket, flag, open_or_raise, share_port, take_over
from cython.cimports.metalio.net.tcp_stream import TcpStream

from metalio._sys.errors import os_error


@cython.cclass
class TcpListener(Socket):
    """A socket that listens for TCP connections.  Readable when there is one to accept.

    With edge triggering accept until `accept()` gives `None`.
    """

    @classmethod
    def bind(cls, addr, *, backlog=4096, reuse_port=False, only_v6=None):
        """Listen at an address: a tuple of the `socket` module's, or a string such as `127.0.0.1:80` or `[::1]:80`.

        Port 0 takes a free one; see `local_addr`.  `backlog` is how many connections may wait to be accepted (the
        system has a limit of its own).  `reuse_port` lets several listeners share the port, and spreads the connections
        between them (`SO_REUSEPORT`).  `only_v6` says whether a listener on `[::]` keeps off IPv4; `None` leaves it to
        the system.  `SO_REUSEADDR` is set, except on Windows, where it means something else.

        socket(2), bind(2), listen(2).  Raises `ValueError` for a host that is not numeric, `OSError`.
        """
        address: Address
        read_address(addr, cython.address(address))
        waiting: cython.int = index(backlog)
        listener: TcpListener = cls.__new__(cls)
        listener.adopt(open_or_raise(address.any.sa_family, SOCK_STREAM))
        try:
            if REUSE_ADDRESS:
                listener.set_option(SOL_SOCKET, SO_REUSEADDR, 1)
            if reuse_port:
                share_port(listener)
            if only_v6 is not None:
                listener.set_option(IPPROTO_IPV6, IPV6_V6ONLY, flag(only_v6))
            bind_socket(listener.fd, cython.address(address))
            if listen(listener.fd, waiting) < 0:
                raise os_error(errno)
        except BaseException:
            listener.close()
            raise
        return listener

    @classmethod
    def from_socket(cls, sock):
        """Take over a listening `socket.socket`, which is detached.  It becomes non-blocking.

        Raises `TypeError` for what is none, `ValueError` if it is not a TCP socket that listens.
        """
        check_listening(sock)
        listener: TcpListener = cls.__new__(cls)
        listener.adopt(take_over(sock, (AF_INET, AF_INET6), SOCK_STREAM))
        return listener

    @cython.always_allow_keywords(False)
    def accept(self):
        """The next connection, as `(TcpStream, addr)`; `None` where there is none.  accept4(2).

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
        stream: TcpStream = TcpStream.__new__(TcpStream)
        stream.adopt(fd)
        return (stream, address_object(cython.address(peer)))

    @property
    def ttl(self):
        """The time to live of outgoing packets, 1 to 255 (`IP_TTL`; `IPV6_UNICAST_HOPS`)."""
        return get_ttl(self)

    @ttl.setter
    def ttl(self, value):
        set_ttl(self, index(value))

    @property
    def only_v6(self):
        """Whether an IPv6 listener keeps off IPv4 (`IPV6_V6ONLY`); systems let it be set before it is bound only."""
        return self.get_option(IPPROTO_IPV6, IPV6_V6ONLY) != 0

    @only_v6.setter
    def only_v6(self, value):
        self.set_option(IPPROTO_IPV6, IPV6_V6ONLY, flag(value))
