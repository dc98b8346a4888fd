"""Addresses between Python and the kernel.

Addresses are the tuples of the `socket` module, or one string.  Hosts are numeric: looking a name up blocks.
"""

import os
import socket

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.libc.string import memchr, memcpy, memset
from cython.cimports.metalio._sys.sockets import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    WINDOWS,
    Address,
    htonl,
    htons,
    inet_ntop,
    inet_pton,
    ntohl,
    ntohs,
    sockaddr_in,
    sockaddr_in6,
    sockaddr_un,
)


def split_address(text):
    """The tuple that a string such as `127.0.0.1:80` or `[::1]:80` stands for; the host is not looked at."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or ("[" in host or ":" in host) != bracketed:
        raise ValueError(f"not an address: {text!r}: write it as 127.0.0.1:80 or [::1]:80")
    number = int(port) if len(port) < 9 else 65536
    return (host[1:-1], number, 0, 0) if bracketed else (host, number)


def scope_number(scope):
    """The number of a scope: of an interface's name, or the number itself."""
    if scope.isascii() and scope.isdigit() and len(scope) < 11:
        number = int(scope)
        if number < 1 << 32:
            return number
    try:
        return socket.if_nametoindex(scope)
    except OSError:
        raise ValueError(f"no interface {scope!r} for a scope id") from None


def read_address(addr, address):
    if isinstance(addr, str):
        addr = split_address(addr)
        if len(addr) == 4 and ":" not in addr[0]:
            raise ValueError(f"not an IPv6 address between brackets: {addr[0]!r}")
    if not isinstance(addr, tuple):
        raise TypeError(f"an address is a tuple (host, port) or a string, not {type(addr).__name__}")
    parts: tuple = tuple(addr)
    if len(parts) < 2 or len(parts) > 4:
        raise TypeError("an address is (host, port), or (host, port, flowinfo, scope_id) for IPv6")
    host = parts[0]
    if not isinstance(host, str):
        raise TypeError(f"a host is a string, not {type(host).__name__}")
    port: cython.int = _number(parts[1], 0xFFFF, "port")
    memset(address, 0, cython.sizeof(Address))
    text: bytes = _ascii(host)
    if memchr(PyBytes_AS_STRING(text), 58, PyBytes_GET_SIZE(text)) == cython.NULL:  # a colon
        if PyBytes_GET_SIZE(text) == 0:
            text = b"0.0.0.0"
        if inet_pton(AF_INET, PyBytes_AS_STRING(text), cython.address(address.v4.sin_addr)) != 1:
            raise _not_numeric(host)
        if len(parts) > 2:
            raise ValueError(f"flowinfo and scope_id belong to IPv6, and {host!r} is not")
        address.v4.sin_family = AF_INET
        address.v4.sin_port = htons(port)
        address.size = cython.sizeof(sockaddr_in)
        return 0
    scope: cython.uint = 0
    if b"%" in text:
        text, _, name = text.partition(b"%")
        scope = scope_number(name.decode())
    if inet_pton(AF_INET6, PyBytes_AS_STRING(text), cython.address(address.v6.sin6_addr)) != 1:
        raise _not_numeric(host)
    if len(parts) > 2:
        address.v6.sin6_flowinfo = htonl(_number(parts[2], 0xFFFFF, "flowinfo"))
    if len(parts) > 3 and (scope == 0 or parts[3] != 0):
        scope = _number(parts[3], 0xFFFFFFFF, "scope_id")
    address.v6.sin6_family = AF_INET6
    address.v6.sin6_port = htons(port)
    address.v6.sin6_scope_id = scope
    address.size = cython.sizeof(sockaddr_in6)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _number(value, most: cython.longlong, name) -> cython.longlong:
    if not isinstance(value, int):
        raise TypeError(f"a {name} is an int, not {type(value).__name__}")
    if not 0 <= value <= most:
        raise ValueError(f"a {name} is a number from 0 to {most}, not {value}")
    return value


@cython.cfunc
def _ascii(host) -> bytes:
    try:
        text: bytes = host.encode("ascii")
    except UnicodeEncodeError:
        raise _not_numeric(host) from None
    if b"\0" in text:
        raise _not_numeric(host)
    return text


def _not_numeric(host):
    return ValueError(
        f"not a numeric host: {host!r}: resolve names first (socket.getaddrinfo, which blocks) and give the address"
    )


def read_path(path, address):
    name: bytes
    if isinstance(path, (bytes, bytearray, memoryview)):
        name = bytes(path)
    elif isinstance(path, (str, os.PathLike)):
        name = os.fsencode(path)
    else:
        raise TypeError(f"a Unix address is a path, or b'\\0name' for an abstract one, not {type(path).__name__}")
    size: cython.Py_ssize_t = PyBytes_GET_SIZE(name)
    if size == 0:
        raise ValueError("a Unix address is not empty")
    abstract: cython.bint = name[0] == 0
    if abstract and WINDOWS:
        raise NotImplementedError("Windows has no abstract Unix addresses: use a path")
    if not abstract and b"\0" in name:
        raise ValueError("a path has no null byte in it, except as the first of an abstract address")
    # A path is followed by a null byte, an abstract name is not.
    if size + (0 if abstract else 1) > cython.sizeof(address.local.sun_path):
        raise ValueError(f"a Unix address has at most {cython.sizeof(address.local.sun_path) - 1} bytes, not {size}")
    memset(address, 0, cython.sizeof(Address))
    address.local.sun_family = AF_UNIX
    memcpy(address.local.sun_path, PyBytes_AS_STRING(name), size)
    address.size = _path_offset(address) + size + (0 if abstract else 1)
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _path_offset(address: cython.pointer[Address]) -> cython.Py_ssize_t:
    return cython.sizeof(sockaddr_un) - cython.sizeof(address.local.sun_path)


def address_object(address):
    text = cython.declare(cython.char[64])
    size: cython.Py_ssize_t = address.size
    if size == 0:
        return None
    if address.any.sa_family == AF_INET:
        inet_ntop(AF_INET, cython.address(address.v4.sin_addr), text, 64)
        return (cython.cast(cython.p_char, text).decode("ascii"), ntohs(address.v4.sin_port))
    if address.any.sa_family == AF_INET6:
        inet_ntop(AF_INET6, cython.address(address.v6.sin6_addr), text, 64)
        return (
            cython.cast(cython.p_char, text).decode("ascii"),
            ntohs(address.v6.sin6_port),
            ntohl(address.v6.sin6_flowinfo),
            address.v6.sin6_scope_id,
        )
    if address.any.sa_family == AF_UNIX:
        size -= cython.sizeof(sockaddr_un) - cython.sizeof(address.local.sun_path)
        if size <= 0:
            return ""
        if address.local.sun_path[0] == 0:
            if WINDOWS:
                return ""
            return PyBytes_FromStringAndSize(address.local.sun_path, size)
        return os.fsdecode(PyBytes_FromStringAndSize(address.local.sun_path, size).partition(b"\0")[0])
    raise ValueError(f"an address of family {address.any.sa_family} is not one of this library's")
