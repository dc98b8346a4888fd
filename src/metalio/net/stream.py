"""What stream sockets have in common, over TCP and Unix alike: reading and writing."""

import cython
from cython.cimports.libc.errno import EINTR, ENOTCONN, errno
from cython.cimports.libc.string import memset
from cython.cimports.metalio._sys.address import address_object
from cython.cimports.metalio._sys.bits import PRIORITY, READABLE
from cython.cimports.metalio._sys.sockets import (
    MSG_NOSIGNAL,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    Address,
    getpeername,
    msghdr,
    readv,
    recv,
    send,
    sendmsg,
    shutdown,
)
from cython.cimports.metalio.net.socket import Socket
from cython.cimports.metalio.transfer import (
    give,
    give_buf,
    give_vector,
    peek,
    peek_into,
    take,
    take_all,
    take_buf,
    take_into,
    take_vector,
)

from metalio._sys.errors import os_error

_HOW = {"read": SHUT_RD, "write": SHUT_WR, "both": SHUT_RDWR, SHUT_RD: SHUT_RD, SHUT_WR: SHUT_WR, SHUT_RDWR: SHUT_RDWR}


@cython.cclass
class Stream(Socket):
    """The base of `TcpStream` and `UnixStream`.  Not for use by itself."""

    def read(self, size=-1):
        """Up to `size` bytes; `b""` at the end of the stream, `None` where it would block.  recv(2).

        Fewer than `size` bytes mean that all there was has been read.  With a negative size the same as `readall()`.
        """
        return take(self, size)

    def readall(self):
        """All bytes up to the end of the stream, or until it would block; `None` where there are none as yet."""
        return take_all(self)

    def readinto(self, buffer, /):
        """Read into a writable buffer: how many bytes; 0 at the end, `None` where it would block.  recv(2).

        Fewer than fit mean that all there was has been read.
        """
        return take_into(self, buffer)

    def readv(self, buffers, /):
        """Read into several writable buffers, one after the other; as `readinto`.  readv(2)."""
        return take_vector(self, buffers)

    def read_buf(self, buf, /):
        """Read into the room of a `MutBuf`, which goes on by as much: how many bytes.

        0 at the end of the stream, `None` where it would block.  Less than there was room for means that all there was
        has been read.  Also takes a `RingBuf`, whose room is filled in one system call where it wraps around.
        recv(2), readv(2).

        Raises `ValueError` if the buffer is full.
        """
        return take_buf(self, buf)

    def peek(self, size):
        """The same as `read`, but the bytes stay there (`MSG_PEEK`)."""
        return peek(self, size)

    def peekinto(self, buffer, /):
        """The same as `readinto`, but the bytes stay there (`MSG_PEEK`)."""
        return peek_into(self, buffer)

    def write(self, data, /):
        """Write from a buffer: how many bytes, or `None` where it would block.  send(2); never a `SIGPIPE`.

        Fewer than there are mean that no more could be written now.
        """
        return give(self, data)

    def writev(self, buffers, /):
        """Write several buffers, one after the other; as `write`.  sendmsg(2)."""
        return give_vector(self, buffers)

    def write_buf(self, buf, /):
        """Write what is left in a `Buf`, which goes on by as much: how many bytes, or `None` where it would block.

        Less than there was means that no more could be written now.  Also takes a `RingBuf`, whose content is written
        in one system call where it wraps around.  send(2), sendmsg(2).

        Raises `ValueError` if the buffer is empty.
        """
        return give_buf(self, buf)

    def flush(self):
        """Does nothing, since nothing is buffered here; for what expects a raw stream of the `io` module."""
        self.require()

    def shutdown(self, how):
        """Close the reading side, the writing side or both (shutdown(2)).

        `how` is `socket.SHUT_RD`, `SHUT_WR` or `SHUT_RDWR`, or `"read"`, `"write"` or `"both"`.
        """
        number = _HOW.get(how)
        if number is None:
            raise ValueError(
                f"shut down socket.SHUT_RD, SHUT_WR or SHUT_RDWR, or 'read', 'write' or 'both', not {how!r}"
            )
        with cython.critical_section(self):
            self.require()
            if shutdown(self.fd, number) < 0:
                raise os_error(errno)
            if number != SHUT_WR:
                # Where edges are emulated: the end of the stream is news.
                self.renew_blocked(READABLE | PRIORITY)

    @property
    def peer_addr(self):
        """The address it is connected to (getpeername(2)).  Raises `OSError` (`ENOTCONN`) if it is not."""
        address: Address
        self.require()
        address.size = cython.sizeof(address.space)
        if getpeername(self.fd, cython.address(address.any), cython.address(address.size)) < 0:
            raise os_error(errno, "not connected, or not yet" if errno == ENOTCONN else None)
        return address_object(cython.address(address))

    # What the io module asks of a raw stream.

    def readable(self):
        """Yes: for the buffered classes of the `io` module."""
        self.require()
        return True

    def writable(self):
        """Yes: for the buffered classes of the `io` module."""
        self.require()
        return True

    def seekable(self):
        """No: for the buffered classes of the `io` module."""
        self.require()
        return False

    # -- How the bytes are moved --------------------------------------------------------------------------------------

    def pull(self, fd, into, size, flags):
        got: cython.Py_ssize_t = recv(fd, into, size, flags)
        while got < 0 and errno == EINTR:
            got = recv(fd, into, size, flags)
        return got if got >= 0 else -errno

    def push(self, fd, data, size):
        sent: cython.Py_ssize_t = send(fd, data, size, MSG_NOSIGNAL)
        while sent < 0 and errno == EINTR:
            sent = send(fd, data, size, MSG_NOSIGNAL)
        return sent if sent >= 0 else -errno

    def pull_vector(self, fd, vector, count):
        got: cython.Py_ssize_t = readv(fd, vector, count)
        while got < 0 and errno == EINTR:
            got = readv(fd, vector, count)
        return got if got >= 0 else -errno

    def push_vector(self, fd, vector, count):
        # writev(2) would raise a SIGPIPE.
        message: msghdr
        memset(cython.address(message), 0, cython.sizeof(msghdr))
        message.msg_iov = vector
        message.msg_iovlen = count
        sent: cython.Py_ssize_t = sendmsg(fd, cython.address(message), MSG_NOSIGNAL)
        while sent < 0 and errno == EINTR:
            sent = sendmsg(fd, cython.address(message), MSG_NOSIGNAL)
        return sent if sent >= 0 else -errno
