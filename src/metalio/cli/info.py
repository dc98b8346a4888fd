"""`python -m metalio info`: what metalio finds on this machine, for people, for programs and for bug reports."""

import ctypes
import errno
import json
import os
import platform
import select
import socket
import sys
import sysconfig

from metalio import Poll, __version__
from metalio._sys import selector_names, waker_name, waker_names
from metalio.net import UnixStream
from metalio.process import ChildExit

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
        epilog="METALIO_SELECTOR and METALIO_WAKER in the environment choose by name among what is here.",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON, for programs")
    parser.set_defaults(run=run)


def run(namespace):
    """Print it; the exit code."""
    try:
        found = look()
    except ValueError as error:
        # A variable that names what is not here.
        print(f"metalio info: {error}", file=sys.stderr)
        return 1
    print(json.dumps(found, indent=2) if namespace.json else as_table(found))
    return 0


# -- What there is, as JSON has it ------------------------------------------------------------------------------------


def look():
    """Everything."""
    with Poll() as poll:
        used = poll.selector_name
    return {
        "metalio": __version__,
        "python": {
            "implementation": platform.python_implementation(),
            "version": platform.python_version(),
            "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
            "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        },
        "platform": platform.platform(),
        "open_files": open_files(),
        "selector": choice(used, selector_names(), "METALIO_SELECTOR"),
        "waker": choice(waker_name(used), waker_names(used), "METALIO_WAKER"),
        "child_exit": child_exit(),
        "signals": signals(),
        "features": {key: {"name": name, "missing": why_not(probe)} for key, (name, probe) in FEATURES.items()},
    }


def choice(used, names, variable):
    """What is used of what there is, and whether a variable of the environment says so."""
    return {"used": used, "here": list(names), "variable": variable, "chosen": bool(os.environ.get(variable))}


def open_files():
    """How many descriptors a process may have; `None` is any number."""
    try:
        import resource
    except ImportError:
        return {"now": None, "at_most": None}
    now, at_most = (None if n == resource.RLIM_INFINITY else n for n in resource.getrlimit(resource.RLIMIT_NOFILE))
    return {"now": now, "at_most": at_most}


def child_exit():
    """By what a `ChildExit` hears of the end of a process; `None` without it."""
    try:
        ChildExit(os.getpid()).close()
    except (NotImplementedError, OSError):
        return None
    if "kqueue" in selector_names():
        return "EVFILT_PROC"
    return "wait handle" if sys.platform == "win32" else "pidfd"


def signals():
    """By what `Signals` hear of a signal; `None` without them."""
    try:
        import metalio.signal  # noqa: F401
    except NotImplementedError:
        return None
    if sys.platform == "win32":
        return "handlers of the C library"
    from metalio._sys import bell

    return f"sigaction and {bell.kind()}"


# -- The same for people ----------------------------------------------------------------------------------------------


def as_table(found):
    """A title and rows below it, several times."""
    parts = sections(found)
    width = max(len(name) for _, rows in parts for name, _ in rows)
    return "\n\n".join(
        "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in rows)]) for title, rows in parts
    )


def sections(found):
    """The titles, and the names and values below each."""
    python = found["python"]
    features = found["features"].values()
    return [
        (
            f"metalio {found['metalio']}",
            [
                ("Python", f"{python['implementation']} {python['version']}, {threading(python)}"),
                ("platform", found["platform"]),
                ("open files", limits(found["open_files"])),
            ],
        ),
        (
            "In use",
            [
                ("selector", chosen(found["selector"])),
                ("waker", chosen(found["waker"])),
                ("ChildExit", found["child_exit"] or "no"),
                ("Signals", found["signals"] or "no"),
            ],
        ),
        (
            "Features",
            [(feature["name"], f"no: {feature['missing']}" if feature["missing"] else "yes") for feature in features],
        ),
    ]


def threading(python):
    """Whether threads run Python code at once."""
    if not python["free_threaded"]:
        return "with the GIL"
    return "free-threaded, but with the GIL" if python["gil"] else "free-threaded"


def limits(files):
    """How many descriptors a process may have."""
    now, at_most = ("unlimited" if number is None else number for number in (files["now"], files["at_most"]))
    return f"{now} (can be raised to {at_most})" if now != at_most else str(now)


def chosen(choice):
    """What is used, why, and what else there is."""
    others = [name for name in choice["here"] if name != choice["used"]]
    if choice["chosen"]:
        note = f"chosen by {choice['variable']}" + (f"; also here: {', '.join(others)}" if others else "")
    else:
        note = "the best here" + (f"; {choice['variable']} can choose {' or '.join(others)}" if others else "")
    return f"{choice['used']} ({note})"


# -- Features: each probe does the thing, and fails where it cannot be done -------------------------------------------


def why_not(probe):
    """Why a probe does not succeed; `None` if it does."""
    try:
        probe()
    except NotImplementedError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
    except AttributeError:
        return "not on this platform"
    return None


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


def try_unix():
    """Make a pair of Unix streams."""
    for stream in UnixStream.pair():
        stream.close()


def try_abstract_address():
    """Bind without a name: where there are abstract addresses the kernel makes one up."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")
        if not isinstance(name := listener.getsockname(), bytes) or not name.startswith(b"\0"):
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))


def try_child_exit():
    """Watch a process: this one."""
    ChildExit(os.getpid()).close()


# By the names that programs see: the names that people see, and the probes.
FEATURES = {
    "epoll_pwait2": ("exact timeouts (epoll_pwait2)", try_epoll_pwait2),
    "exclusive": ("exclusive wake-ups (EPOLLEXCLUSIVE)", try_exclusive),
    "gso": ("UDP segmentation (GSO)", try_udp_segmentation),
    "gro": ("UDP coalescing (GRO)", try_udp_coalescing),
    "reuse_port": ("several listeners on a port (SO_REUSEPORT)", try_reuse_port),
    "ipv6": ("IPv6", try_ipv6),
    "unix": ("Unix sockets", try_unix),
    "abstract": ("abstract Unix addresses", try_abstract_address),
    "processes": ("processes as sources (ChildExit)", try_child_exit),
}
