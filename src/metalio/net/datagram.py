"""What datagram sockets have in common, over UDP and Unix alike.

The rules:

- Would-block is `None`; an empty datagram is `b""` or 0; all else is an `OSError`.
- A datagram is received at once or not at all.  What does not fit is lost.
- A short one says nothing of the next, so only would-block ends the drain of an edge-triggered socket.  An error does
  not: it may stand before datagrams that wait, and the socket goes on working.  Where edges are emulated a would-block
  arms its direction again; and an error both, since the event that reported it has disarmed both.
- The GIL stays held: a datagram is small.
"""

import cython
from cython.cimports.cpython.buffer import PyBuffer_Release
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.libc.errno import EAGAIN, EDESTADDRREQ, EINTR, ENOTCONN, errno
from cython.cimports.metalio._sys.address import address_object
from cython.cimports.metalio._sys.bits import PRIORITY, READABLE, WRITABLE
from cython.cimports.metalio._sys.sockets import MSG_NOSIGNAL, MSG_PEEK, Address, getpeername, recvfrom, sendto
from cython.cimports.metalio.net.socket import Socket, connect_socket
from cython.cimports.metalio.transfer import borrow

from metalio._sys.errors import os_error

# What a buffer on the stack takes: more than any datagram of UDP.
_LARGE = cython.declare(cython.Py_ssize_t, 65536)


@cython.cclass
class Datagram(Socket):
    """The base of `UdpSocket` and `UnixDatagram`.  Not for use by itself."""

    def recv(self, size):
        """The next datagram, of which at most `size` bytes; `None` where there is none.  recv(2).

        What is longer is cut off and lost.  An empty datagram is `b""`.
        """
        return _take(self, size, 0, False)

    def recv_from(self, size):
        """The next datagram and where it came from: `(bytes, addr)`; otherwise as `recv`.  recvfrom(2)."""
        return _take(self, size, 0, True)

    def peek(self, size):
        """The same as `recv`, but the datagram stays there (`MSG_PEEK`)."""
        return _take(self, size, MSG_PEEK, False)

    def peek_from(self, size):
        """The same as `recv_from`, but the datagram stays there (`MSG_PEEK`)."""
        return _take(self, size, MSG_PEEK, True)

    def recv_into(self, buffer, /):
        """Receive into a writable buffer: how many bytes; `None` where there is no datagram.  recv(2).

        What is longer than the buffer is cut off and lost.
        """
        return _take_into(self, buffer, False)

    def recv_from_into(self, buffer, /):
        """Receive into a writable buffer: `(count, addr)`; otherwise as `recv_into`.  recvfrom(2)."""
        return _take_into(self, buffer, True)

    def send(self, data, /):
        """Send a datagram to the address it is connected to: how many bytes, or `None` where it would block.  send(2).

        An error may be that of a datagram that was sent before: nobody listens there (`ConnectionRefusedError`).
        """
        return _give(self, data, cython.NULL)

    def send_to(self, data, addr):
        """Send a datagram to an address: how many bytes, or `None` where it would block.  sendto(2)."""
        to: Address
        with cython.critical_section(self):
            self.encode(addr, cython.address(to))
        return _give(self, data, cython.address(to))

    def connect(self, addr):
        """Send to this address by default, and receive from nowhere else (connect(2)).  May be called again."""
        to: Address
        with cython.critical_section(self):
            self.encode(addr, cython.address(to))
        with cython.critical_section(self):
            self.require()
            connect_socket(self.fd, cython.address(to))

    @property
    def peer_addr(self):
        """The address it is connected to (getpeername(2)).  Raises `OSError` (`ENOTCONN`) if it is not."""
        address: Address
        self.require()
        address.size = cython.sizeof(address.space)
        if getpeername(self.fd, cython.address(address.any), cython.address(address.size)) < 0:
            raise os_error(errno, "not connected" if errno == ENOTCONN else None)
        return address_object(cython.address(address))

    def take_error(self):
        """The pending error as an `OSError`, or `None`; it is pending no longer then (`SO_ERROR`)."""
        error = Socket.take_error(self)
        if error is not None:
            with cython.critical_section(self):
                self.renew_blocked(READABLE | PRIORITY | WRITABLE)
        return error

    # -- For subclasses -----------------------------------------------------------------------------------------------

    def encode(self, addr, address):
        raise NotImplementedError

    def decode(self, address):
        return address_object(address)

    def receive(self, into, size, flags, peer):
        got: cython.Py_ssize_t
        if self.deferred:
            error: cython.int = self.deferred
            self.deferred = 0
            return -error
        while True:
            if peer == cython.NULL:
                got = recvfrom(self.fd, into, size, flags, cython.NULL, cython.NULL)
            else:
                peer.size = cython.sizeof(peer.space)
                got = recvfrom(self.fd, into, size, flags, cython.address(peer.any), cython.address(peer.size))
            if got >= 0:
                return got
            if errno != EINTR:
                return -errno

    def transmit(self, data, size, to):
        sent: cython.Py_ssize_t
        while True:
            if to == cython.NULL:
                sent = sendto(self.fd, data, size, MSG_NOSIGNAL, cython.NULL, 0)
            else:
                sent = sendto(self.fd, data, size, MSG_NOSIGNAL, cython.address(to.any), to.size)
            if sent >= 0:
                return sent
            if errno != EINTR:
                return -errno

    def fail(self, error, directions, hint):
        if error == EAGAIN:
            self.renew_blocked(directions)
            return None
        if directions & READABLE:
            self.renew_exhausted(error, directions)
        self.renew_blocked(READABLE | PRIORITY | WRITABLE)
        if error in (EDESTADDRREQ, ENOTCONN):
            hint = "not connected: call connect(), or say where to send it"
        raise os_error(error, hint)


@cython.cfunc
def _take(source: Datagram, size, flags: cython.int, named: cython.bint):
    buffer = cython.declare(cython.char[65536])
    peer: Address
    into: cython.p_char = buffer
    large: bytes = None
    got: cython.Py_ssize_t
    wanted: cython.Py_ssize_t = size
    if wanted < 0:
        raise ValueError(f"the size of a datagram is not negative: {wanted}")
    if wanted > _LARGE:
        large = PyBytes_FromStringAndSize(cython.NULL, wanted)
        into = PyBytes_AS_STRING(large)
    with cython.critical_section(source):
        source.require()
        got = source.receive(into, wanted, flags, cython.address(peer) if named else cython.NULL)
        if got < 0:
            return source.fail(-got, READABLE | PRIORITY, None)
        # An object of its size: what arrives is most often less than was asked for.
        data = PyBytes_FromStringAndSize(into, got)
        return (data, source.decode(cython.address(peer))) if named else data


@cython.cfunc
def _take_into(source: Datagram, buffer, named: cython.bint):
    view: Py_buffer
    peer: Address
    got: cython.Py_ssize_t
    borrow(buffer, cython.address(view), True)
    try:
        with cython.critical_section(source):
            source.require()
            got = source.receive(view.buf, view.len, 0, cython.address(peer) if named else cython.NULL)
            if got < 0:
                return source.fail(-got, READABLE | PRIORITY, None)
            return (got, source.decode(cython.address(peer))) if named else got
    finally:
        PyBuffer_Release(cython.address(view))


@cython.cfunc
def _give(source: Datagram, data, to: cython.pointer[Address]):
    view: Py_buffer
    sent: cython.Py_ssize_t
    if type(data) is bytes:
        with cython.critical_section(source):
            source.require()
            sent = source.transmit(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), to)
            return sent if sent >= 0 else source.fail(-sent, WRITABLE, None)
    borrow(data, cython.address(view), False)
    try:
        with cython.critical_section(source):
            source.require()
            sent = source.transmit(view.buf, view.len, to)
            return sent if sent >= 0 else source.fail(-sent, WRITABLE, None)
    finally:
        PyBuffer_Release(cython.address(view))
