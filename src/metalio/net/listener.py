"""Accepting connections, over TCP and Unix sockets alike."""

import cython
from cython.cimports.libc.errno import ECONNABORTED, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH, EPROTO
from cython.cimports.metalio._sys.bits import READABLE
from cython.cimports.metalio._sys.sockets import SO_ACCEPTCONN, SOL_SOCKET, accept_socket
from cython.cimports.metalio.transfer import refuse


def accept_next(listener, peer):
    fd: cython.int
    while True:
        fd = accept_socket(listener.fd, peer)
        if fd >= 0:
            return fd
        # A connection that ended while it was waiting is none to be reported; the next one may stand behind it.
        if -fd not in (EINTR, ECONNABORTED, EPROTO, ENETDOWN, EHOSTUNREACH, ENETUNREACH):
            break
    refuse(listener, -fd, READABLE)
    return -1


def check_listening(sock):
    if hasattr(sock, "getsockopt") and sock.fileno() >= 0 and not sock.getsockopt(SOL_SOCKET, SO_ACCEPTCONN):
        raise ValueError("that socket does not listen: call its listen() first")
    return 0
