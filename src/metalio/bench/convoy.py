"""An echo server of 1 KiB messages, alone and beside a CPU-bound Python thread.

Whoever lets go of the GIL in a non-blocking call may wait for it as long as the other thread's switch interval.  The
load is a program in C, in a process of its own, which sends on each connection a message at a time and compares every
byte that comes back.  Each server ends when the last of its connections has.

Alone, a fast server is faster than the load: it then waits, and all fast servers look alike.  The processor time that
an echo takes tells them apart.

Beside the thread, figures spread more than elsewhere, and most for those who let go often.  The thread takes the GIL
from them where a processor is free to run it at once, and misses it where none is; and with few processors, whether
one is free depends on how fast the echoes go.  So the same server does a hundred echoes a second or many thousands.
"""

import asyncio
import os
import select
import socket
import subprocess
import threading
from contextlib import closing, contextmanager
from functools import partial

from metalio import Events, Interest, Poll
from metalio.bench.case import Case
from metalio.bench.common import LOOPS, new_epoll
from metalio.bench.native import build
from metalio.net import TcpListener

# What a server reads at the most at once.
SIZE = 65_536

# What the load ends at, if its time does not end it before.
MOST_ECHOES = 5_000_000


def under_load(port, serve, connections, size, spinners, warm_up_ms, measure_ms, processor):
    """Put the load on `port` while `serve()` runs beside so many spinning threads.

    Echoes a second, or with `processor` the nanoseconds of processor time that `serve()` spent on each.
    """
    arguments = (port, connections, size, warm_up_ms, measure_ms, MOST_ECHOES)
    with (
        subprocess.Popen([build("echo_client"), *map(str, arguments)], stdout=subprocess.PIPE, text=True) as client,
        spinning(spinners),
    ):
        try:
            begin = processor_time()
            serve()
            spent = processor_time() - begin
            output, _ = client.communicate()
        finally:
            client.kill()
    if client.returncode:
        raise RuntimeError("the echoes were not what was sent, or not in time")
    rate, echoes = map(float, output.split())
    return spent * 1e9 / echoes if processor else rate


def processor_time():
    """The seconds that this process spent, and those of its children that have ended."""
    return sum(os.times()[:4])


@contextmanager
def spinning(count):
    """So many threads that do nothing but Python."""
    stop = []

    def spin():
        while not stop:
            pass

    threads = [threading.Thread(target=spin, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.append(True)
        for thread in threads:
            thread.join()


def short_write():
    # The load waits for each echo before it sends the next message: a socket's buffer always has room for one.
    raise RuntimeError("a server's socket was full")


def c(connections, **load):
    with subprocess.Popen([build("echo_server"), str(connections)], stdout=subprocess.PIPE, text=True) as server:
        try:
            figure = under_load(int(server.stdout.readline()), server.wait, connections, **load)
        finally:
            server.kill()
    if server.returncode:
        raise RuntimeError("the server failed")
    return figure


def metalio(connections, **load):
    with Poll() as poll, TcpListener.bind("127.0.0.1:0", backlog=connections) as listener:
        registry = poll.registry
        registry.register(listener, None, Interest.READABLE)

        def serve():
            batch = Events()
            streams = set()
            left = connections
            while left:
                poll.poll(batch)
                for event in batch:
                    stream = event.token
                    if stream is None:
                        while (accepted := listener.accept()) is not None:
                            stream, _ = accepted
                            stream.nodelay = True
                            streams.add(stream)
                            registry.register(stream, stream, Interest.READABLE)
                        continue
                    while (data := stream.read(SIZE)) is not None:
                        if not data:
                            stream.close()
                            streams.remove(stream)
                            left -= 1
                            break
                        if stream.write(data) != len(data):
                            short_write()
                        # A short read ends the drain, except of what ends.
                        if len(data) < SIZE and not event.is_read_closed():
                            break

        return under_load(listener.local_addr[1], serve, connections, **load)


def epoll(connections, **load):
    with new_epoll() as epoll, socket.create_server(("127.0.0.1", 0), backlog=connections) as listener:
        listener.setblocking(False)
        epoll.register(listener, select.EPOLLIN)

        def serve():
            socks = {}
            left = connections
            while left:
                for fd, _ in epoll.poll():
                    sock = socks.get(fd)
                    if sock is None:
                        sock, _ = listener.accept()
                        sock.setblocking(False)
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
                        socks[sock.fileno()] = sock
                        epoll.register(sock, select.EPOLLIN)
                        continue
                    data = sock.recv(SIZE)
                    if not data:
                        epoll.unregister(sock)
                        del socks[fd]
                        sock.close()
                        left -= 1
                    elif sock.send(data) != len(data):
                        short_write()

        return under_load(listener.getsockname()[1], serve, connections, **load)


class Echo(asyncio.Protocol):
    """One connection of `protocol`'s server; `over` is called when it has ended."""

    def __init__(self, over):
        self.over = over

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def connection_lost(self, error):
        self.over()


def protocol(new_loop, connections, **load):
    with closing(new_loop()) as loop:
        over = stop_after(connections, loop)
        server = loop.run_until_complete(loop.create_server(lambda: Echo(over), "127.0.0.1", 0, backlog=connections))
        return serve_asyncio(loop, server, connections, load)


def streams(new_loop, connections, **load):
    with closing(new_loop()) as loop:
        over = stop_after(connections, loop)

        async def echo(reader, writer):
            while data := await reader.read(SIZE):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
            over()

        async def listen():
            return await asyncio.start_server(echo, "127.0.0.1", 0, backlog=connections)

        return serve_asyncio(loop, loop.run_until_complete(listen()), connections, load)


def stop_after(count, loop):
    """A function that stops `loop` when it is called for the last of `count` times."""

    def over():
        nonlocal count
        count -= 1
        if count == 0:
            loop.stop()

    return over


def serve_asyncio(loop, server, connections, load):
    port = server.sockets[0].getsockname()[1]
    figure = under_load(port, loop.run_forever, connections, **load)
    server.close()
    loop.run_until_complete(server.wait_closed())
    return figure


CONTENDERS = {
    "metalio": metalio,
    "select.epoll": epoll,
    **{name: partial(protocol, new_loop) for name, new_loop in LOOPS.items()},
    "asyncio, streams": partial(streams, LOOPS["asyncio"]),
}

LOAD = {"connections": 50, "size": 1024, "spinners": 0, "warm_up_ms": 200, "measure_ms": 1500, "processor": 0}
QUICK = {"warm_up_ms": 50, "measure_ms": 300}

CASES = (
    Case(
        title="echo of 1 KiB, 50 connections",
        unit="echo/s",
        contenders={"C": c, **CONTENDERS},
        params=LOAD,
        quick=QUICK,
        higher_is_better=True,
    ),
    Case(
        title="echo of 1 KiB, 50 connections, processor time",
        unit="ns of the server's processor time/echo",
        contenders={"C": c, **CONTENDERS},
        params={**LOAD, "processor": 1},
        quick=QUICK,
    ),
    Case(
        title="echo of 1 KiB, 50 connections, beside a CPU-bound thread",
        unit="echo/s",
        contenders=CONTENDERS,
        params={**LOAD, "spinners": 1},
        quick=QUICK,
        higher_is_better=True,
    ),
)
