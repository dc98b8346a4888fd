"""Echo servers, each as its library's users would write it, for the benchmarks of echoes.

Each is a function that serves a `Load` and returns what came of it; it ends when the last of its connections has.
What a socket has no room for waits until it has, and meanwhile nothing more is read from it.
"""

import asyncio
import select
import selectors
import socket
import subprocess
from contextlib import closing
from functools import partial

from metalio import Events, Interest, Poll
from metalio.bench.case import Unavailable
from metalio.bench.common import LOOPS, new_epoll
from metalio.bench.native import build
from metalio.net import TcpListener

# What a server reads at the most at once.
SIZE = 65_536


def c(load):
    with subprocess.Popen([build("echo_server"), str(load.connections)], stdout=subprocess.PIPE, text=True) as server:
        try:
            figure = load.drive(int(server.stdout.readline()), server.wait, server.pid)
        finally:
            server.kill()
    if server.returncode:
        raise RuntimeError("the server failed")
    return figure


def metalio(load):
    with Poll() as poll, TcpListener.bind("127.0.0.1:0", backlog=load.connections) as listener:
        registry = poll.registry
        registry.register(listener, None, Interest.READABLE)
        both = Interest.READABLE | Interest.WRITABLE

        def serve():
            batch = Events()
            stalled = {}
            left = load.connections
            while left:
                poll.poll(batch)
                for event in batch:
                    stream = event.token
                    if stream is None:
                        while (accepted := listener.accept()) is not None:
                            stream, _ = accepted
                            stream.nodelay = True
                            # As its own token it lives as long as it is registered.
                            registry.register(stream, stream, both)
                        continue
                    if stalled and (rest := stalled.pop(stream, None)):
                        sent = stream.write(rest) or 0
                        if sent != len(rest):
                            stalled[stream] = rest[sent:]
                            continue
                    while data := stream.read(SIZE):
                        sent = stream.write(data)
                        if sent != len(data):
                            stalled[stream] = data[sent or 0 :]
                            break
                        # A short read ends the drain, except of what ends.
                        if sent < SIZE and not event.is_read_closed():
                            break
                    else:
                        # None is all for now, and b"" for good.
                        if data is not None:
                            stream.close()
                            left -= 1

        return load.drive(listener.local_addr[1], serve)


def send(sock, data):
    """How much of the data there was room for."""
    try:
        return sock.send(data)
    except BlockingIOError:
        return 0


def listen(load):
    listener = socket.create_server(("127.0.0.1", 0), backlog=load.connections)
    listener.setblocking(False)
    return listener


def accept(listener):
    sock, _ = listener.accept()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    return sock


def epoll(load):
    with new_epoll() as epoll, listen(load) as listener:
        epoll.register(listener, select.EPOLLIN)

        def serve():
            socks = {}
            stalled = {}
            left = load.connections
            while left:
                for fd, _ in epoll.poll():
                    sock = socks.get(fd)
                    if sock is None:
                        sock = accept(listener)
                        socks[sock.fileno()] = sock
                        epoll.register(sock, select.EPOLLIN)
                        continue
                    data = stalled.pop(fd, None) if stalled else None
                    if data is None:
                        data = sock.recv(SIZE)
                    else:
                        epoll.modify(fd, select.EPOLLIN)
                    if not data:
                        epoll.unregister(fd)
                        del socks[fd]
                        sock.close()
                        left -= 1
                    elif (sent := send(sock, data)) != len(data):
                        stalled[fd] = data[sent:]
                        epoll.modify(fd, select.EPOLLOUT)

        return load.drive(listener.getsockname()[1], serve)


def standard_selectors(load):
    with selectors.DefaultSelector() as selector, listen(load) as listener:
        selector.register(listener, selectors.EVENT_READ)

        def serve():
            stalled = {}
            left = load.connections
            while left:
                for key, _ in selector.select():
                    sock = key.fileobj
                    if sock is listener:
                        selector.register(accept(listener), selectors.EVENT_READ)
                        continue
                    data = stalled.pop(sock, None) if stalled else None
                    if data is None:
                        data = sock.recv(SIZE)
                    else:
                        selector.modify(sock, selectors.EVENT_READ)
                    if not data:
                        selector.unregister(sock)
                        sock.close()
                        left -= 1
                    elif (sent := send(sock, data)) != len(data):
                        stalled[sock] = data[sent:]
                        selector.modify(sock, selectors.EVENT_WRITE)

        return load.drive(listener.getsockname()[1], serve)


class Echo(asyncio.Protocol):
    """One connection of `protocol`'s server; `over` is called when it has ended."""

    def __init__(self, over):
        self.over = over

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()

    def connection_lost(self, error):
        self.over()


def protocol(new_loop, load):
    with closing(new_loop()) as loop:
        over = after(load.connections, loop.stop)
        server = loop.run_until_complete(
            loop.create_server(lambda: Echo(over), "127.0.0.1", 0, backlog=load.connections)
        )
        return serve_asyncio(loop, server, load)


def streams(new_loop, load):
    with closing(new_loop()) as loop:
        over = after(load.connections, loop.stop)

        async def echo(reader, writer):
            while data := await reader.read(SIZE):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
            over()

        async def listen():
            return await asyncio.start_server(echo, "127.0.0.1", 0, backlog=load.connections)

        return serve_asyncio(loop, loop.run_until_complete(listen()), load)


def after(count, function):
    """A function that calls `function` when it is called for the last of `count` times."""

    def over():
        nonlocal count
        count -= 1
        if count == 0:
            function()

    return over


def serve_asyncio(loop, server, load):
    figure = load.drive(server.sockets[0].getsockname()[1], loop.run_forever)
    server.close()
    loop.run_until_complete(server.wait_closed())
    return figure


def gevent(load):
    try:
        from gevent import get_hub
        from gevent.event import Event
        from gevent.server import StreamServer
    except ImportError:
        raise Unavailable("not installed") from None
    done = Event()
    over = after(load.connections, done.set)

    def echo(sock, _):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        while data := sock.recv(SIZE):
            sock.sendall(data)
        over()

    server = StreamServer(("127.0.0.1", 0), echo, backlog=load.connections)
    server.start()
    try:
        return load.drive(server.server_port, done.wait)
    finally:
        server.stop()
        get_hub().destroy(destroy_loop=True)


def trio(load):
    try:
        import trio
    except ImportError:
        raise Unavailable("not installed") from None

    async def serve(listeners):
        async with trio.open_nursery() as nursery:
            over = after(load.connections, nursery.cancel_scope.cancel)

            async def echo(stream):
                while data := await stream.receive_some(SIZE):
                    await stream.send_all(data)
                over()

            await trio.serve_listeners(echo, listeners)

    listeners = trio.run(partial(trio.open_tcp_listeners, 0, host="127.0.0.1", backlog=load.connections))
    return load.drive(listeners[0].socket.getsockname()[1], partial(trio.run, serve, listeners))


def tornado(load):
    try:
        from tornado.iostream import StreamClosedError
        from tornado.tcpserver import TCPServer
    except ImportError:
        raise Unavailable("not installed") from None
    with closing(asyncio.new_event_loop()) as loop:
        over = after(load.connections, loop.stop)

        class Server(TCPServer):
            async def handle_stream(self, stream, address):
                stream.set_nodelay(True)
                try:
                    while True:
                        await stream.write(await stream.read_bytes(SIZE, partial=True))
                except StreamClosedError:
                    over()

        async def listen():
            server = Server()
            with_port = socket.create_server(("127.0.0.1", 0), backlog=load.connections)
            with_port.setblocking(False)
            server.add_sockets([with_port])
            return server, with_port.getsockname()[1]

        server, port = loop.run_until_complete(listen())
        figure = load.drive(port, loop.run_forever)
        server.stop()
        return figure


# By name: what takes a `Load`.
PEERS = {
    "select.epoll": epoll,
    "selectors": standard_selectors,
    **{name: partial(protocol, new_loop) for name, new_loop in LOOPS.items()},
    "asyncio, streams": partial(streams, LOOPS["asyncio"]),
    "gevent": gevent,
    "trio": trio,
    "tornado": tornado,
}
SERVERS = {"C": c, "metalio": metalio, **PEERS}
