"""Exceptions with a message that says what to do."""

import errno
import os
import sys

if sys.platform == "win32":
    from ctypes import FormatError

# What accept() and the like meet when the process or the kernel is out of something: it passes, and nothing was lost.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


# On Windows what has to do with sockets is known by Winsock's numbers, in the errno module too; this is from the C
# library's, which is what the compiled modules know.
_WINSOCK = {
    100: 10048,  # EADDRINUSE
    101: 10049,  # EADDRNOTAVAIL
    102: 10047,  # EAFNOSUPPORT
    103: 10037,  # EALREADY
    106: 10053,  # ECONNABORTED
    107: 10061,  # ECONNREFUSED
    108: 10054,  # ECONNRESET
    109: 10039,  # EDESTADDRREQ
    110: 10065,  # EHOSTUNREACH
    112: 10036,  # EINPROGRESS
    113: 10056,  # EISCONN
    114: 10062,  # ELOOP
    115: 10040,  # EMSGSIZE
    116: 10050,  # ENETDOWN
    117: 10052,  # ENETRESET
    118: 10051,  # ENETUNREACH
    119: 10055,  # ENOBUFS
    123: 10042,  # ENOPROTOOPT
    126: 10057,  # ENOTCONN
    128: 10038,  # ENOTSOCK
    130: 10045,  # EOPNOTSUPP
    135: 10043,  # EPROTONOSUPPORT
    136: 10041,  # EPROTOTYPE
    138: 10060,  # ETIMEDOUT
}


# Windows' own errors, which are neither of these, are numbered from here on; sources keep them in 15 bits.
WINDOWS = 1 << 14


def os_error(number, hint=None):
    """The `OSError` (of the subclass that belongs to `number`) with the system's message, and a hint behind it."""
    if number > WINDOWS:
        message = FormatError(number - WINDOWS).rstrip(".")
        return OSError(None, f"{message}: {hint}" if hint else message, None, number - WINDOWS)
    if sys.platform == "win32" and (number in _WINSOCK or number >= 10000):
        number = _WINSOCK.get(number, number)
        message = FormatError(number).rstrip(".")
        return OSError(None, f"{message}: {hint}" if hint else message, None, number)
    message = os.strerror(number)
    return OSError(number, f"{message}: {hint}" if hint else message)


_REGISTER_HINTS = {
    errno.EEXIST: "this descriptor is registered already; use reregister() to change it",
    errno.EPERM: (
        "this kind of file cannot be polled, since it never blocks (a regular file, a directory, some devices): "
        "read and write it directly, or from a thread"
    ),
    errno.EPIPE: "the reader of this pipe has gone, and the kqueue of this system has no way to report that",
    errno.EBADF: "the descriptor is not open",
    errno.ENOENT: "this source is not registered here",
    errno.ENOSPC: "the limit in /proc/sys/fs/epoll/max_user_watches is reached",
    errno.ENOTSOCK: "this is no open socket, and on Windows nothing else can be polled",
    errno.ELOOP: "polls nested in a circle, or too deep",
}


def registration_error(number):
    """What a failed `register()`, `reregister()` or `deregister()` raises."""
    return os_error(number, _REGISTER_HINTS.get(_WINSOCK.get(number, number) if sys.platform == "win32" else number))


def unseen_drain_error(system):
    """What registering a foreign source with edges raises where they are emulated."""
    return ValueError(
        f"{system} has no edge triggering, and metalio cannot see when a foreign source is drained: register it "
        "with PollOpt.LEVEL or PollOpt.ONESHOT, or make it a metalio source (TcpStream.from_socket)"
    )


def closed_error(what):
    """What any use of a closed object raises."""
    return ValueError(f"I/O operation on closed {type(what).__name__}")
