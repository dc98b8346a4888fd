"""Connections that do nothing: `python -m metalio.bench.idlers PORT FIRST IDLE PID`, started by the benchmark `memory`.

Prints by how many bytes the process with that PID grows for each of the connections after the first ones.
"""

import resource
import socket
import sys
import time
from pathlib import Path

MESSAGE = b"an echo server has heard of this connection before it is left alone"


def connect(port, count):
    """So many connections, on each of which an echo has come back."""
    socks = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(count)]
    for sock in socks:
        sock.sendall(MESSAGE)
    for sock in socks:
        received = b""
        while len(received) < len(MESSAGE):
            data = sock.recv(len(MESSAGE))
            if not data:
                raise ConnectionError("closed early")
            received += data
        if received != MESSAGE:
            raise ValueError("the echo is not what was sent")
    return socks


def resident(pid):
    """The bytes of a process that are in memory, once it has come to rest."""
    before = -1
    while (now := int(Path(f"/proc/{pid}/statm").read_text().split()[1])) != before:
        before = now
        time.sleep(0.05)
    return now * resource.getpagesize()


def main(port, first, idle, pid):
    socks = connect(port, first)
    before = resident(pid)
    socks += connect(port, idle)
    after = resident(pid)
    for sock in socks:
        sock.close()
    print((after - before) / idle)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
