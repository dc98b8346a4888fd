"""Start the echo server, drive it from this process, verify every byte, and print the rates.

    python demo/demo.py                a few seconds each over TCP, Unix and UDP
    python demo/demo.py --load 5000    so many connections at once, with messages of random sizes

The exit code is 1 if a byte was wrong or lost, or the server has kept a descriptor.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import IO, cast

from drive import Drive, Mismatch, connect_tcp, connect_udp, connect_unix

WINDOWS = sys.platform == "win32"
if not WINDOWS:
    import resource

# What a process needs beside its connections.
SPARE = 64

# Windows has no signal that asks another process to end: there the server takes the end of its input for Ctrl-C.
ASKED_BY_INPUT = """
import signal, sys, threading
from metalio.__main__ import main

def listen():
    sys.stdin.read()
    signal.raise_signal(signal.SIGINT)

threading.Thread(target=listen, daemon=True).start()
sys.exit(main())
"""


class Server:
    """The echo server, in a process of its own."""

    def __init__(self, *arguments):
        program = ["-c", ASKED_BY_INPUT] if WINDOWS else ["-m", "metalio"]
        command = [sys.executable, *program, "echo", *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE if WINDOWS else None, stdout=subprocess.PIPE, text=True
        )
        self.output = cast(IO[str], self.process.stdout)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.process.kill()
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()
        self.output.close()

    def address(self):
        """The next address that it says it serves."""
        line = self.output.readline()
        if not line:
            raise Mismatch("the server has not started")
        return line.split(maxsplit=1)[1].strip()

    def descriptors(self):
        """What it has open; `None` where there is no /proc to tell."""
        try:
            return len(os.listdir(f"/proc/{self.process.pid}/fd"))
        except OSError:
            return None

    def stop(self):
        """Have it stop, and return its summary."""
        if self.process.stdin:
            self.process.stdin.close()
        else:
            self.process.send_signal(signal.SIGTERM)
        summary = self.output.read()
        if self.process.wait() != 0:
            raise Mismatch(f"the server ended with {self.process.returncode}")
        return summary.strip()


def has_unix_sockets():
    """Windows has them from Windows 10 1803 on, though its socket module has no name for the family."""
    try:
        socket.socket(1).close()
    except OSError:
        return False
    return True


def demonstrate(arguments):
    """A few seconds over each transport."""
    with tempfile.TemporaryDirectory() as folder:
        unix = ["--unix", os.path.join(folder, "echo")] if has_unix_sockets() else []
        with Server("--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0", *unix, *arguments.server) as server:
            tcp, udp = server.address(), server.address()
            transports = [
                ("tcp", connect_tcp(tcp), 64, 1 << 18),
                # So few that what is under way fits into the server's receive buffer: UDP drops what does not.
                ("udp", connect_udp(udp), 8, 1 << 13),
            ]
            if unix:
                transports.insert(1, ("unix", connect_unix(server.address()), 64, 1 << 18))
            before = server.descriptors()
            for name, connect, connections, largest in transports:
                drive = Drive(
                    connect,
                    connections=connections,
                    largest=largest,
                    seconds=arguments.seconds,
                    seed=arguments.seed,
                    selector=arguments.selector,
                )
                print(f"{name:<5}", drive.run(), flush=True)
            finish(server, before)


def allowed(connections):
    """As many connections as that, or as the limit of open files allows; Windows has none."""
    if WINDOWS:
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + SPARE
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            connections = hard - SPARE
            print(f"only {connections:,} connections: the limit of open files is {hard:,}")
            needed = hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return connections


def load(arguments):
    """Many connections at once."""
    connections = allowed(arguments.load)
    with Server("--tcp", "127.0.0.1:0", *arguments.server) as server:
        address = server.address()
        before = server.descriptors()
        drive = Drive(
            connect_tcp(address),
            connections=connections,
            largest=1 << 15,
            messages=8,
            seed=arguments.seed,
            selector=arguments.selector,
        )
        print(drive.run(), flush=True)
        finish(server, before)


def finish(server, before):
    """See that nothing is left over, and stop."""
    after = server.descriptors()
    if after != before:
        raise Mismatch(f"the server has {after} descriptors open, and had {before}")
    print("server:", server.stop())


def main():
    """The exit code."""
    parser = argparse.ArgumentParser(description="Drive the echo server and verify every byte.")
    parser.add_argument("--load", type=int, metavar="N", help="N connections at once, 8 messages each")
    parser.add_argument("--seconds", type=float, default=3, help="how long over each transport (default: 3)")
    parser.add_argument("--seed", type=int, help="choose the same sizes and bytes as another time")
    parser.add_argument("--selector", help="what both processes wait with")
    arguments = parser.parse_args()
    arguments.server = ["--selector", arguments.selector] if arguments.selector else []
    if arguments.seed is None:
        arguments.seed = time.time_ns() % 1_000_000
    try:
        if arguments.load:
            load(arguments)
        else:
            demonstrate(arguments)
    except (Mismatch, OSError) as error:
        print(f"FAILED (--seed {arguments.seed}): {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
