"""`python -m metalio info`: what metalio finds on this machine, for people and for bug reports."""

import ctypes
import errno
import os
import platform
import select
import socket
import sys
import sysconfig

from metalio import Poll, __version__
from metalio._sys import selector_names, waker_name

# What the socket module does not name.
_SOL_UDP = 17
_UDP_SEGMENT = 103
_UDP_GRO = 104
_SYS_EPOLL_PWAIT2 = 441


def add_parser(subparsers):
    """Declare the command."""
    parser = subparsers.add_parser(
        "info",
        help="show platform, selectors and features",
        description="Show what metalio finds on this machine: everything is tried, nothing is guessed.",
    )
    parser.set_defaults(run=run)


def run(namespace):
    """Print it; the exit code."""
    rows = [
        ("metalio", __version__),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}, {threading()}"),
        ("platform", platform.platform()),
        ("selector", selector()),
        ("waker", waker_name()),
        ("open files", open_files()),
        *((name, "yes" if available(probe) else "no") for name, probe in FEATURES.items()),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0


def threading():
    """Whether threads run Python code at once."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "with the GIL"
    locked = getattr(sys, "_is_gil_enabled", lambda: True)()
    return "free-threaded, but with the GIL" if locked else "free-threaded"


def selector():
    """The selector that a new poll takes, and the others."""
    with Poll() as poll:
        used = poll.selector_name
    others = [name for name in selector_names() if name != used]
    return f"{used} (also here: {', '.join(others)})" if others else used


def open_files():
    """How many descriptors a process may have."""
    try:
        import resource
    except ImportError:
        return "unknown"
    soft, hard = ("unlimited" if n == resource.RLIM_INFINITY else n for n in resource.getrlimit(resource.RLIMIT_NOFILE))
    return f"{soft} (can be raised to {hard})"


# -- Features: each probe does the thing, and fails where it cannot be done -------------------------------------------


def available(probe):
    """Whether a probe succeeds."""
    try:
        probe()
    except (OSError, AttributeError):
        return False
    return True


def try_epoll_pwait2():
    """A call that is wrong, so that it fails at once: what knows it says that it is wrong."""
    if not hasattr(select, "epoll"):
        raise OSError(errno.ENOSYS, "no epoll")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(ctypes.c_long(_SYS_EPOLL_PWAIT2), -1, None, 0, None, None, 0)
    if (number := ctypes.get_errno()) in (errno.ENOSYS, errno.EPERM):
        raise OSError(number, os.strerror(number))


def try_exclusive():
    """Register something so that an event wakes one of several polls."""
    with select.epoll() as poll, socket.socket() as source:
        poll.register(source, select.EPOLLIN | select.EPOLLEXCLUSIVE)


def try_udp_segmentation():
    """Have the kernel cut one large write into datagrams."""
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.setsockopt(_SOL_UDP, _UDP_SEGMENT, 1200)


def try_udp_coalescing():
    """Have the kernel hand over several datagrams as one."""
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.setsockopt(_SOL_UDP, _UDP_GRO, 1)


def try_reuse_port():
    """Have several listeners on one port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def try_ipv6():
    """Bind to the loopback address of IPv6."""
    with socket.socket(socket.AF_INET6) as listener:
        listener.bind(("::1", 0))


def try_abstract_address():
    """Bind without a name: where there are abstract addresses the kernel makes one up."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")
        if not isinstance(name := listener.getsockname(), bytes) or not name.startswith(b"\0"):
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))


def try_pidfd():
    """Get a descriptor for a process: this one."""
    os.close(os.pidfd_open(os.getpid()))


FEATURES = {
    "exact timeouts (epoll_pwait2)": try_epoll_pwait2,
    "exclusive wake-ups (EPOLLEXCLUSIVE)": try_exclusive,
    "UDP segmentation (GSO)": try_udp_segmentation,
    "UDP coalescing (GRO)": try_udp_coalescing,
    "several listeners on a port (SO_REUSEPORT)": try_reuse_port,
    "IPv6": try_ipv6,
    "abstract Unix addresses": try_abstract_address,
    "processes as sources (pidfd)": try_pidfd,
}
