"""TcpStream: a TCP connection."""

from operator import index

import cython
from cython.cimports.libc.errno import errno
from cython.cimports.metalio._sys.address import read_address
from cython.cimports.metalio._sys.bits import READABLE
from cython.cimports.metalio._sys.sockets import (
    AF_INET,
    AF_INET6,
    IPPROTO_TCP,
    SO_KEEPALIVE,
    SO_LINGER,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    Address,
    getsockopt,
    linger_option,
    setsockopt,
    socklen_t,
)
from cython.cimports.metalio._sys.table import ALWAYS, AT_MARK, Record
from cython.cimports.metalio.net.internet import get_ttl, set_ttl
from cython.cimports.metalio.net.socket import connect_socket, flag, open_or_raise, take_over
from cython.cimports.metalio.net.stream import Stream
from cython.cimports.metalio.own_source import own_methods

from metalio._sys.errors import os_error


@cython.cclass
class TcpStream(Stream):
    """A TCP connection.  Made by `connect`, `from_socket`, or `TcpListener.accept`.

    Reads and writes never block: they give `None` where they would.  It can stand under `io.BufferedReader`.
    """

    @classmethod
    def connect(cls, addr):
        """Begin to connect to an address: a tuple of the `socket` module's, or a string such as `127.0.0.1:80`.

        Returns at once.  Register it for `WRITABLE`; when it is, `take_error()` tells what went wrong, if anything did.
        socket(2), connect(2).  Raises `ValueError` for a host that is not numeric, `OSError` for what is known at once.
        """
        address: Address
        read_address(addr, cython.address(address))
        stream: TcpStream = cls.__new__(cls)
        stream.adopt(open_or_raise(address.any.sa_family, SOCK_STREAM))
        try:
            connect_socket(stream.fd, cython.address(address))
        except BaseException:
            stream.close()
            raise
        return stream

    @classmethod
    def from_socket(cls, sock):
        """Take over a `socket.socket`, connected or connecting, which is detached.  It becomes non-blocking.

        Raises `TypeError` for what is none, `ValueError` if it is not a TCP socket.
        """
        stream: TcpStream = cls.__new__(cls)
        stream.adopt(take_over(sock, (AF_INET, AF_INET6), SOCK_STREAM))
        stream.lingers = stream.linger is not None
        return stream

    @property
    def nodelay(self):
        """Whether small writes are sent at once instead of being collected (`TCP_NODELAY`)."""
        return self.get_option(IPPROTO_TCP, TCP_NODELAY) != 0

    @nodelay.setter
    def nodelay(self, value):
        self.set_option(IPPROTO_TCP, TCP_NODELAY, flag(value))

    @property
    def ttl(self):
        """The time to live of outgoing packets, 1 to 255 (`IP_TTL`; `IPV6_UNICAST_HOPS`)."""
        return get_ttl(self)

    @ttl.setter
    def ttl(self, value):
        set_ttl(self, index(value))

    @property
    def keepalive(self):
        """Whether the peer of an idle connection is asked now and then if it is still there (`SO_KEEPALIVE`)."""
        return self.get_option(SOL_SOCKET, SO_KEEPALIVE) != 0

    @keepalive.setter
    def keepalive(self, value):
        self.set_option(SOL_SOCKET, SO_KEEPALIVE, flag(value))

    @property
    def linger(self):
        """How many whole seconds `close()` may wait for unsent data to go out (`SO_LINGER`); `None`: it does not wait.

        With 0 the connection is reset and unsent data thrown away.
        """
        value: linger_option
        size: socklen_t = cython.sizeof(linger_option)
        self.require()
        if getsockopt(self.fd, SOL_SOCKET, SO_LINGER, cython.address(value), cython.address(size)) < 0:
            raise os_error(errno)
        return value.l_linger if value.l_onoff else None

    @linger.setter
    def linger(self, seconds):
        value: linger_option
        number: cython.int = 0 if seconds is None else index(seconds)
        value.l_onoff = seconds is not None
        value.l_linger = number
        # Windows has sixteen bits for it.
        if number < 0 or value.l_linger != number:
            raise ValueError("linger is a number of seconds from 0 on that the system can count, or None")
        self.require()
        if setsockopt(self.fd, SOL_SOCKET, SO_LINGER, cython.address(value), cython.sizeof(linger_option)) < 0:
            raise os_error(errno)
        self.lingers = seconds is not None

    def renew_short(self, directions):
        record: Record = self.record
        if record is None:
            return 0
        when: cython.int = record.renew_short
        if when == ALWAYS or (when == AT_MARK and directions & READABLE and at_mark(self.fd)):
            self.renew(directions)
        return 0


own_methods(TcpStream)
