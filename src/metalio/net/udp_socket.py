"""UdpSocket: datagrams over UDP."""

from operator import index

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.libc.errno import EAGAIN, errno
from cython.cimports.metalio._sys.address import read_address
from cython.cimports.metalio._sys.bits import PRIORITY, READABLE, WRITABLE
from cython.cimports.metalio._sys.datagrams import HAS_SEGMENTS, UDP_GRO, ip_mreq, ipv6_mreq
from cython.cimports.metalio._sys.sockets import (
    AF_INET,
    AF_INET6,
    IP_ADD_MEMBERSHIP,
    IP_DROP_MEMBERSHIP,
    IP_MULTICAST_IF,
    IP_MULTICAST_LOOP,
    IP_MULTICAST_TTL,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_UDP,
    IPV6_ADD_MEMBERSHIP,
    IPV6_DROP_MEMBERSHIP,
    IPV6_MULTICAST_HOPS,
    IPV6_MULTICAST_IF,
    IPV6_MULTICAST_LOOP,
    IPV6_V6ONLY,
    SO_BROADCAST,
    SOCK_DGRAM,
    SOL_SOCKET,
    Address,
    getsockopt,
    in_addr,
    inet_ntop,
    inet_pton,
    setsockopt,
    socklen_t,
)
from cython.cimports.metalio.net.address_cache import AddressCache
from cython.cimports.metalio.net.datagram import Datagram
from cython.cimports.metalio.net.datagram_batch import DatagramBatch
from cython.cimports.metalio.net.internet import get_ttl, set_ttl
from cython.cimports.metalio.net.socket import bind_socket, flag, open_or_raise, share_port, take_over
from cython.cimports.metalio.own_source import own_methods

from metalio._sys.errors import os_error


@cython.cclass
class UdpSocket(Datagram):
    """A socket that sends and receives datagrams over UDP.  Readable when there is one to receive.

    With edge triggering receive until there is `None`; an error does not end that.  Addresses are decoded once, and
    given as the same tuple then, as long as they are remembered; so `send_to` to a tuple that was received, or is kept,
    costs least.
    """

    @classmethod
    def bind(cls, addr, *, reuse_port=False, only_v6=None):
        """A socket at an address: a tuple of the `socket` module's, or a string such as `127.0.0.1:80` or `[::1]:80`.

        Port 0 takes a free one; see `local_addr`.  `reuse_port` lets several sockets share the port, and spreads the
        peers between them; multicast goes to all of them (`SO_REUSEPORT`).  `only_v6` says whether a socket on `[::]`
        keeps off IPv4; `None` leaves it to the system.

        socket(2), bind(2).  Raises `ValueError` for a host that is not numeric, `OSError`.
        """
        address: Address
        read_address(addr, cython.address(address))
        sock: UdpSocket = cls.__new__(cls)
        sock.adopt(open_or_raise(address.any.sa_family, SOCK_DGRAM))
        try:
            if reuse_port:
                share_port(sock)
            if only_v6 is not None:
                sock.set_option(IPPROTO_IPV6, IPV6_V6ONLY, flag(only_v6))
            bind_socket(sock.fd, cython.address(address))
        except BaseException:
            sock.close()
            raise
        return sock

    @classmethod
    def from_socket(cls, sock):
        """Take over a `socket.socket`, which is detached.  It becomes non-blocking.

        Raises `TypeError` for what is none, `ValueError` if it is not a UDP socket.
        """
        taken: UdpSocket = cls.__new__(cls)
        taken.adopt(take_over(sock, (AF_INET, AF_INET6), SOCK_DGRAM))
        return taken

    # -- Many at once -------------------------------------------------------------------------------------------------

    def recv_many(self, batch, /):
        """Receive as many datagrams as there are and the batch holds: how many, or `None` where there is none.

        What was in the batch is replaced.  A batch that is not full does not end the drain of an edge-triggered socket:
        an error may have cut it short, which is raised by the next call, and datagrams may wait behind it.

        recvmmsg(2), without a timeout; recvmsg(2) for each where the system has none.
        """
        count: cython.Py_ssize_t
        if not isinstance(batch, DatagramBatch):
            raise TypeError(f"expected a DatagramBatch, not {type(batch).__name__}")
        into: DatagramBatch = cython.cast(DatagramBatch, batch)
        with cython.critical_section(self, into):
            self.require()
            later: cython.int = 0
            if self.deferred:
                count = -self.deferred
                self.deferred = 0
                into.count = into.error = 0
            else:
                count = into.fill(self.fd, cython.address(later))
                self.deferred = cython.cast(cython.short, later)
            if count < 0:
                return self.fail(-count, READABLE | PRIORITY, None)
            if count < into._capacity:
                self.renew_blocked(READABLE | PRIORITY)
            return count

    def send_many(self, batch, /):
        """Send the datagrams of a batch: how many of them were sent, or `None` where it would block.

        What was sent has left the batch.  While there is something in it call again, until that gives `None`: then wait
        until the socket is writable.  An error concerns the entry that is the first then, and the ones before it were
        sent; that one may be tried again, or be taken away with `DatagramBatch.discard`.  An error that came after some
        were sent is raised by the next call.  (Not so a peer's refusal in the midst of a batch: Linux forgets it.)

        sendmmsg(2); sendmsg(2) for each where the system has none.  Raises `OSError` (`EIO`) for segments that the
        network device cannot send.
        """
        count: cython.Py_ssize_t
        if not isinstance(batch, DatagramBatch):
            raise TypeError(f"expected a DatagramBatch, not {type(batch).__name__}")
        out: DatagramBatch = cython.cast(DatagramBatch, batch)
        with cython.critical_section(self, out):
            self.require()
            count = out.flush(self.fd)
            if count < 0:
                return self.fail(-count, WRITABLE, out.hint(-count))
            if out.error == EAGAIN:
                out.error = 0
                self.renew_blocked(WRITABLE)
            return count

    # -- Options ------------------------------------------------------------------------------------------------------

    @property
    def broadcast(self):
        """Whether it may send to broadcast addresses (`SO_BROADCAST`)."""
        return self.get_option(SOL_SOCKET, SO_BROADCAST) != 0

    @broadcast.setter
    def broadcast(self, value):
        self.set_option(SOL_SOCKET, SO_BROADCAST, flag(value))

    @property
    def ttl(self):
        """The time to live of outgoing packets, 1 to 255 (`IP_TTL`; `IPV6_UNICAST_HOPS`)."""
        return get_ttl(self)

    @ttl.setter
    def ttl(self, value):
        set_ttl(self, index(value))

    @property
    def only_v6(self):
        """Whether an IPv6 socket keeps off IPv4 (`IPV6_V6ONLY`); systems let it be set before it is bound only."""
        return self.get_option(IPPROTO_IPV6, IPV6_V6ONLY) != 0

    @only_v6.setter
    def only_v6(self, value):
        self.set_option(IPPROTO_IPV6, IPV6_V6ONLY, flag(value))

    @property
    def gro(self):
        """Whether datagrams of one peer that arrive together may be received as one (`UDP_GRO`, Linux 5.0).

        Then receive with `recv_many`, into a batch of a large `size`: `DatagramEntry.segment_size` tells how to take
        them apart, which the other methods do not.  Raises `NotImplementedError` where the system has none.
        """
        self.require()
        _need_segments()
        return self.get_option(IPPROTO_UDP, UDP_GRO) != 0

    @gro.setter
    def gro(self, value):
        self.require()
        _need_segments()
        self.set_option(IPPROTO_UDP, UDP_GRO, flag(value))

    # -- Multicast ----------------------------------------------------------------------------------------------------

    def join_multicast_v4(self, group, interface="0.0.0.0"):
        """Receive what is sent to an IPv4 group, on the interface with this address; `0.0.0.0`: the system's choice.

        `IP_ADD_MEMBERSHIP`.  Raises `ValueError` for what is no IPv4 address, `OSError` (`EADDRINUSE`) if it has joined
        already.
        """
        self.change_membership_v4(IP_ADD_MEMBERSHIP, group, interface)

    def leave_multicast_v4(self, group, interface="0.0.0.0"):
        """Undo `join_multicast_v4` (`IP_DROP_MEMBERSHIP`).

        Raises `OSError` (`EADDRNOTAVAIL`) if it has not joined.
        """
        self.change_membership_v4(IP_DROP_MEMBERSHIP, group, interface)

    def join_multicast_v6(self, group, interface=0):
        """Receive what is sent to an IPv6 group, on the interface of this number; 0: the system's choice.

        `socket.if_nametoindex` tells the number.  `IPV6_ADD_MEMBERSHIP`.  Raises `ValueError` for what is no IPv6
        address, `OSError` (`EADDRINUSE`) if it has joined already.
        """
        self.change_membership_v6(IPV6_ADD_MEMBERSHIP, group, interface)

    def leave_multicast_v6(self, group, interface=0):
        """Undo `join_multicast_v6` (`IPV6_DROP_MEMBERSHIP`).

        Raises `OSError` (`EADDRNOTAVAIL`) if it has not joined.
        """
        self.change_membership_v6(IPV6_DROP_MEMBERSHIP, group, interface)

    @property
    def multicast_loop_v4(self):
        """Whether what it sends to IPv4 groups is received on this machine too (`IP_MULTICAST_LOOP`)."""
        return self.get_byte(IPPROTO_IP, IP_MULTICAST_LOOP) != 0

    @multicast_loop_v4.setter
    def multicast_loop_v4(self, value):
        self.set_byte(IPPROTO_IP, IP_MULTICAST_LOOP, flag(value))

    @property
    def multicast_ttl_v4(self):
        """The time to live of what it sends to IPv4 groups, 0 to 255 (`IP_MULTICAST_TTL`)."""
        return self.get_byte(IPPROTO_IP, IP_MULTICAST_TTL)

    @multicast_ttl_v4.setter
    def multicast_ttl_v4(self, value):
        self.set_byte(IPPROTO_IP, IP_MULTICAST_TTL, value)

    @property
    def multicast_if_v4(self):
        """The address of the interface that sends to IPv4 groups; `0.0.0.0`: the route's (`IP_MULTICAST_IF`)."""
        text = cython.declare(cython.char[64])
        address: in_addr
        size: socklen_t = cython.sizeof(in_addr)
        self.require()
        if getsockopt(self.fd, IPPROTO_IP, IP_MULTICAST_IF, cython.address(address), cython.address(size)) < 0:
            raise os_error(errno)
        inet_ntop(AF_INET, cython.address(address), text, 64)
        return cython.cast(cython.p_char, text).decode("ascii")

    @multicast_if_v4.setter
    def multicast_if_v4(self, interface):
        address: in_addr
        _read_host(AF_INET, interface, cython.address(address))
        self.require()
        if setsockopt(self.fd, IPPROTO_IP, IP_MULTICAST_IF, cython.address(address), cython.sizeof(in_addr)) < 0:
            raise os_error(errno)

    @property
    def multicast_loop_v6(self):
        """Whether what it sends to IPv6 groups is received on this machine too (`IPV6_MULTICAST_LOOP`)."""
        return self.get_option(IPPROTO_IPV6, IPV6_MULTICAST_LOOP) != 0

    @multicast_loop_v6.setter
    def multicast_loop_v6(self, value):
        self.set_option(IPPROTO_IPV6, IPV6_MULTICAST_LOOP, flag(value))

    @property
    def multicast_hops_v6(self):
        """How many hops what it sends to IPv6 groups may take, 0 to 255 (`IPV6_MULTICAST_HOPS`)."""
        return self.get_option(IPPROTO_IPV6, IPV6_MULTICAST_HOPS)

    @multicast_hops_v6.setter
    def multicast_hops_v6(self, value):
        self.set_option(IPPROTO_IPV6, IPV6_MULTICAST_HOPS, index(value))

    @property
    def multicast_if_v6(self):
        """The number of the interface that sends to IPv6 groups; 0: the route's (`IPV6_MULTICAST_IF`)."""
        return self.get_option(IPPROTO_IPV6, IPV6_MULTICAST_IF)

    @multicast_if_v6.setter
    def multicast_if_v6(self, interface):
        self.set_option(IPPROTO_IPV6, IPV6_MULTICAST_IF, index(interface))

    # -- Inside -------------------------------------------------------------------------------------------------------

    def encode(self, addr, address):
        if self.destinations is None:
            self.destinations = AddressCache.__new__(AddressCache)
        return self.destinations.encode(addr, address)

    def decode(self, address):
        if self.peers is None:
            self.peers = AddressCache.__new__(AddressCache)
        return self.peers.decode(address)

    # Some systems take a byte alone for these, and all take it.

    def get_byte(self, level, name):
        value: cython.uchar = 0
        size: socklen_t = 1
        self.require()
        if getsockopt(self.fd, level, name, cython.address(value), cython.address(size)) < 0:
            raise os_error(errno)
        return value

    def set_byte(self, level, name, value):
        number: cython.Py_ssize_t = value
        if number < 0 or number > 255:
            raise ValueError(f"expected a number from 0 to 255, not {number}")
        byte: cython.uchar = cython.cast(cython.uchar, number)
        self.require()
        if setsockopt(self.fd, level, name, cython.address(byte), 1) < 0:
            raise os_error(errno)
        return 0

    def change_membership_v4(self, option, group, interface):
        request: ip_mreq
        _read_host(AF_INET, group, cython.address(request.imr_multiaddr))
        _read_host(AF_INET, interface, cython.address(request.imr_interface))
        self.require()
        if setsockopt(self.fd, IPPROTO_IP, option, cython.address(request), cython.sizeof(ip_mreq)) < 0:
            raise os_error(errno)
        return 0

    def change_membership_v6(self, option, group, interface):
        request: ipv6_mreq
        _read_host(AF_INET6, group, cython.address(request.ipv6mr_multiaddr))
        request.ipv6mr_interface = index(interface)
        self.require()
        if setsockopt(self.fd, IPPROTO_IPV6, option, cython.address(request), cython.sizeof(ipv6_mreq)) < 0:
            raise os_error(errno)
        return 0


own_methods(UdpSocket)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _read_host(family: cython.int, host, into: cython.p_void) -> cython.int:
    if not isinstance(host, str):
        raise TypeError(f"a host is a string, not {type(host).__name__}")
    text: bytes = host.encode("ascii", "replace")
    if b"\0" in text or inet_pton(family, PyBytes_AS_STRING(text), into) != 1:
        raise ValueError(f"not an IPv{4 if family == AF_INET else 6} address: {host!r}")
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _need_segments() -> cython.int:
    if not HAS_SEGMENTS:
        raise NotImplementedError("receiving datagrams together (UDP_GRO) needs Linux")
    return 0
