"""Exceptions with a message that says what to do."""

import errno
import os

# What accept() and the like meet when the process or the kernel is out of something: it passes, and nothing was lost.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def os_error(number, hint=None):
    """The `OSError` (of the subclass that belongs to `number`) with the system's message, and a hint behind it."""
    message = os.strerror(number)
    return OSError(number, f"{message}: {hint}" if hint else message)


_REGISTER_HINTS = {
    errno.EEXIST: "this descriptor is registered already; use reregister() to change it",
    errno.EPERM: (
        "this kind of file cannot be polled, since it never blocks (a regular file, a directory, some devices): "
        "read and write it directly, or from a thread"
    ),
    errno.EBADF: "the descriptor is not open",
    errno.ENOENT: "this source is not registered here",
    errno.ENOSPC: "the limit in /proc/sys/fs/epoll/max_user_watches is reached",
    errno.ELOOP: "polls nested in a circle, or too deep",
}


def registration_error(number):
    """What a failed `register()`, `reregister()` or `deregister()` raises."""
    return os_error(number, _REGISTER_HINTS.get(number))


def closed_error(what):
    """What any use of a closed object raises."""
    return ValueError(f"I/O operation on closed {type(what).__name__}")
