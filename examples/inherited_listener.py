"""A server that tells the time, on listeners that were opened by the service manager that started it.

    systemd-socket-activate -l 127.0.0.1:7004 python examples/inherited_listener.py
    python examples/inherited_listener.py [127.0.0.1:7004]

A service manager passes open sockets as descriptors 3, 4 …: LISTEN_FDS says how many, and LISTEN_PID for which process
they are meant.  So a port below 1024 needs no privileges here, and no connection is refused during a restart.
"""

import os
import socket
import sys
import time
from contextlib import ExitStack

from metalio.net import TcpListener, UnixListener
from tcp_server import Server
from unix_server import Saying

FIRST = 3


def inherited_listeners():
    """The listeners that were passed to this very process."""
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    if os.environ.pop("LISTEN_PID", None) != str(os.getpid()):
        return []
    listeners: list[TcpListener | UnixListener] = []
    for fd in range(FIRST, FIRST + count):
        # It came through exec, and is not to go through the next one.
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        if sock.family == socket.AF_UNIX:
            listeners.append(UnixListener.from_socket(sock))
        else:
            listeners.append(TcpListener.from_socket(sock))
    return listeners


def tell_time(server, stream):
    Saying(server, stream, time.strftime("%Y-%m-%d %H:%M:%S\n"))


if __name__ == "__main__":
    with ExitStack() as stack:
        listeners = inherited_listeners() or [TcpListener.bind(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7004")]
        for listener in listeners:
            stack.enter_context(listener)
        Server(tell_time, *listeners).run()
