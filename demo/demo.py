"""Start the echo server, drive it from this process, verify every byte, and print the rates.

    python demo/demo.py                a few seconds each over TCP, Unix and UDP
    python demo/demo.py --load 5000    so many connections at once, with messages of random sizes

The exit code is 1 if a byte was wrong or lost, or the server has kept a descriptor.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO, cast

from drive import Drive, Mismatch, connect_tcp, connect_udp, connect_unix

# What a process needs beside its connections.
SPARE = 64


class Server:
    """The echo server, in a process of its own."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "metalio", "echo", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.output = cast(IO[str], self.process.stdout)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.process.kill()
        self.process.wait()
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
        self.process.send_signal(signal.SIGTERM)
        summary = self.output.read()
        if self.process.wait() != 0:
            raise Mismatch(f"the server ended with {self.process.returncode}")
        return summary.strip()


def demonstrate(arguments):
    """A few seconds over each transport."""
    with tempfile.TemporaryDirectory() as folder:
        unix = os.path.join(folder, "echo")
        with Server("--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--unix", unix, *arguments.server) as server:
            tcp, udp, unix = (server.address() for _ in range(3))
            before = server.descriptors()
            for name, connect, connections, largest in (
                ("tcp", connect_tcp(tcp), 64, 1 << 18),
                ("unix", connect_unix(unix), 64, 1 << 18),
                # So few that what is under way fits into the server's receive buffer: UDP drops what does not.
                ("udp", connect_udp(udp), 8, 1 << 13),
            ):
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


def load(arguments):
    """Many connections at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = arguments.load
    needed = connections + SPARE
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            connections = hard - SPARE
            print(f"only {connections:,} connections: the limit of open files is {hard:,}")
            needed = hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
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
