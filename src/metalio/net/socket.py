"""What all sockets have in common: names, options, clones, and the way from and to `socket.socket`."""

import socket as _socket

import cython
from cython.cimports.libc.errno import EINPROGRESS, errno
from cython.cimports.metalio._sys.address import address_object
from cython.cimports.metalio._sys.sockets import (
    SO_ERROR,
    SO_REUSEPORT,
    SO_TYPE,
    SOL_SOCKET,
    Address,
    bind,
    connect,
    duplicate,
    getsockname,
    getsockopt,
    open_socket,
    setsockopt,
    socklen_t,
)
from cython.cimports.metalio.io_source import IoSource

from metalio._sys.errors import os_error


@cython.cclass
class Socket(IoSource):
    """The base of the sockets.  Not for use by itself."""

    @property
    def local_addr(self):
        """The address it is bound to, as the `socket` module writes it (getsockname(2))."""
        address: Address
        self.require()
        address.size = cython.sizeof(address.space)
        if getsockname(self.fd, cython.address(address.any), cython.address(address.size)) < 0:
            raise os_error(errno)
        return address_object(cython.address(address))

    def take_error(self):
        """The pending error as an `OSError`, or `None`; it is pending no longer then (`SO_ERROR`).

        The way to learn how a connection attempt ended, once the socket is writable.
        """
        error: cython.int = self.get_option(SOL_SOCKET, SO_ERROR)
        return os_error(error) if error else None

    def try_clone(self):
        """Another object for the same socket, with a descriptor of its own (`F_DUPFD_CLOEXEC`), not registered."""
        fd: cython.int
        with cython.critical_section(self):
            self.require()
            fd = duplicate(self.fd)
        if fd < 0:
            raise os_error(-fd)
        clone: IoSource = type(self).__new__(type(self))
        clone.adopt(fd)
        clone.lingers = self.lingers
        return clone

    def into_socket(self):
        """Deregister it, and give the descriptor over to a `socket.socket`, a non-blocking one; this is closed then."""
        with cython.critical_section(self):
            self.require()
            if self.users:
                raise RuntimeError("a transfer is under way in another thread")
            fd: cython.int = self.surrender()
        sock = _socket.socket(fileno=fd)
        sock.setblocking(False)
        return sock

    # -- For subclasses -----------------------------------------------------------------------------------------------

    @cython.critical_section
    def get_option(self, level, name):
        value: cython.int = 0
        size: socklen_t = cython.sizeof(cython.int)
        self.require()
        if getsockopt(self.fd, level, name, cython.address(value), cython.address(size)) < 0:
            raise os_error(errno)
        return value

    @cython.critical_section
    def set_option(self, level, name, value):
        number: cython.int = value
        self.require()
        if setsockopt(self.fd, level, name, cython.address(number), cython.sizeof(cython.int)) < 0:
            raise os_error(errno)
        return 0

    @cython.critical_section
    def family(self):
        address: Address
        self.require()
        address.size = cython.sizeof(address.space)
        if getsockname(self.fd, cython.address(address.any), cython.address(address.size)) < 0:
            raise os_error(errno)
        return address.any.sa_family


def flag(value):
    return 1 if value else 0


def take_over(sock, families, kind):
    if not isinstance(sock, _socket.socket) or hasattr(sock, "do_handshake"):
        raise TypeError(f"expected a plain socket.socket, not {type(sock).__name__}")
    if sock.fileno() < 0:
        raise ValueError("that socket is closed")
    if sock.family not in families or sock.getsockopt(SOL_SOCKET, SO_TYPE) != kind:
        raise ValueError(f"that socket is of another kind: {sock.family!r}, {sock.type!r}")
    sock.setblocking(False)
    return sock.detach()


def bind_socket(fd, address):
    if bind(fd, cython.address(address.any), address.size) < 0:
        raise os_error(errno)
    return 0


def connect_socket(fd, address):
    if connect(fd, cython.address(address.any), address.size) < 0 and errno != EINPROGRESS:
        raise os_error(errno)
    return 0


def open_or_raise(family, kind):
    fd: cython.int = open_socket(family, kind)
    if fd < 0:
        raise os_error(-fd)
    return fd


def share_port(sock):
    if SO_REUSEPORT < 0:
        raise NotImplementedError("reuse_port needs SO_REUSEPORT, which this system does not have")
    return sock.set_option(SOL_SOCKET, SO_REUSEPORT, 1)
