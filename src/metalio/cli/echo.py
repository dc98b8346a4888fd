"""`python -m metalio echo`: a TCP, UDP and Unix echo server with live counters."""

import os
import signal
import sys
from time import monotonic

from metalio._sys import selector_names

_DEFAULT_TCP = "127.0.0.1:7777"


def add_parser(subparsers):
    """Declare the command."""
    parser = subparsers.add_parser(
        "echo",
        help="serve echo over TCP, UDP and Unix sockets",
        description="Send back whatever comes, over TCP, UDP and Unix stream sockets at once, until Ctrl-C or SIGTERM.",
        epilog="An ADDR is 127.0.0.1:7777 or [::1]:7777, with port 0 for any that is free.",
    )
    parser.add_argument("--tcp", metavar="ADDR", help=f"serve TCP (default: {_DEFAULT_TCP}, if nothing else is given)")
    parser.add_argument("--udp", metavar="ADDR", help="serve UDP")
    parser.add_argument("--unix", metavar="PATH", help="serve a Unix stream socket; @name is an abstract address")
    parser.add_argument("--selector", choices=selector_names(), help="how to wait (default: the platform's best)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no counters and no summary")
    parser.set_defaults(run=run)


def run(namespace):
    """Serve as the command line says; the exit code."""
    from metalio.cli.echo_server import EchoServer

    wanted = [(kind, address) for kind in ("tcp", "udp", "unix") if (address := getattr(namespace, kind)) is not None]
    with EchoServer(namespace.selector) as server:
        server.stop_on(signal.SIGINT, signal.SIGTERM)
        for kind, address in wanted or [("tcp", _DEFAULT_TCP)]:
            try:
                bound = getattr(server, f"add_{kind}")(address)
            except (OSError, ValueError) as error:
                reason = str(error)
                if isinstance(error, OSError) and error.errno:
                    # What is a number of Winsock has no words in the C library.
                    reason = str(error.strerror) if sys.platform == "win32" else os.strerror(error.errno)
                print(f"metalio echo: cannot serve {kind} on {address}: {reason}", file=sys.stderr)
                return 1
            print(kind, format_address(bound), flush=True)
        counters = Counters() if sys.stdout.isatty() and not namespace.quiet else None
        if not counters:
            server.warn = lambda error: print(f"metalio echo: not accepting: {error.strerror}", file=sys.stderr)
        begin = monotonic()
        server.serve(counters)
        if counters:
            counters.clear()
        if not namespace.quiet:
            print(summary(server, monotonic() - begin), flush=True)
    return 0


class Counters:
    """One line on a terminal that shows what a server is doing."""

    def __init__(self):
        self.time = monotonic()
        self.events = 0
        self.received = 0
        self.sent = 0

    def __call__(self, server):
        now = monotonic()
        elapsed = now - self.time
        parts = [
            f"connections {len(server.connections):,} now, {server.accepted:,} in all",
            f"in {size((server.received - self.received) / elapsed)}/s",
            f"out {size((server.sent - self.sent) / elapsed)}/s",
            f"{(server.events - self.events) / elapsed:,.0f} events/s",
            f"{size(server.received)} in all",
        ]
        if server.suspended:
            parts.insert(0, f"not accepting: {server.trouble.strerror}")
        self.time, self.events, self.received, self.sent = now, server.events, server.received, server.sent
        # The last column stays free: some terminals wrap when it is written.
        room = os.get_terminal_size(sys.stdout.fileno()).columns - 1
        line = "  ".join(parts)
        print("\r" + (line[:room] if room > 0 else line), end="\x1b[K", flush=True)

    def clear(self):
        """Remove the line."""
        print("\r\x1b[K", end="", flush=True)


def summary(server, seconds):
    """What a server has done, in one line."""
    parts = [f"{server.accepted:,} connections"]
    if server.datagrams:
        parts.append(f"{server.datagrams:,} datagrams")
    parts += [f"{size(server.received)} in", f"{size(server.sent)} out", f"{server.events:,} events"]
    if server.failures:
        parts.append(f"{server.failures:,} failed")
    return f"served {', '.join(parts)} in {seconds:.1f} s"


def size(count):
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def format_address(address):
    """An address as it is typed."""
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(address, bytes):
        return "@" + os.fsdecode(address[1:])
    return address
