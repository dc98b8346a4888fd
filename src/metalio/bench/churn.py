"""What coming and going costs: register and deregister a socket; accept, register, deregister, close a connection.

The sockets are each contender's own.  Connections are made by the same thread, in batches, before the clock starts.
"""

import select
import selectors
import socket
import struct
from contextlib import closing, contextmanager
from functools import partial
from itertools import repeat

from metalio import Events, Interest, Poll
from metalio.bench.case import Case
from metalio.bench.common import LAPS, LOOPS, clock_ns, closing_all, new_epoll, ns_each, socket_pairs, stream_pair
from metalio.bench.native import run as run_native
from metalio.net import TcpListener

# Closes by a reset: a connection in TIME_WAIT would keep its port, and they would run out.
RESET = struct.pack("ii", 1, 0)


def c_register(count):
    return run_native("register", count, LAPS)


def metalio_register(count):
    with Poll() as poll, closing_all(list(stream_pair())) as (stream, _):
        register, deregister, readable = poll.registry.register, poll.registry.deregister, Interest.READABLE

        def run(count):
            for _ in repeat(None, count):
                register(stream, stream, readable)
                deregister(stream)
            return count

        return ns_each(run, count)


def epoll_register(count):
    with new_epoll() as epoll, socket_pairs(1) as ((sock, _),):
        register, unregister, readable = epoll.register, epoll.unregister, select.EPOLLIN

        def run(count):
            for _ in repeat(None, count):
                register(sock, readable)
                unregister(sock)
            return count

        return ns_each(run, count)


def selectors_register(count):
    with selectors.DefaultSelector() as selector, socket_pairs(1) as ((sock, _),):
        register, unregister, readable = selector.register, selector.unregister, selectors.EVENT_READ

        def run(count):
            for _ in repeat(None, count):
                register(sock, readable, sock)
                unregister(sock)
            return count

        return ns_each(run, count)


def loop_register(new_loop, count):
    with closing(new_loop()) as loop, socket_pairs(1) as ((sock, _),):
        add_reader, remove_reader = loop.add_reader, loop.remove_reader

        def ready(token):
            pass

        def run(count):
            for _ in repeat(None, count):
                add_reader(sock, ready, sock)
                remove_reader(sock)
            return count

        return ns_each(run, count)


@contextmanager
def clients(address, count):
    """`count` connections to `address`, waiting to be accepted."""
    with closing_all([]) as socks:
        for _ in range(count):
            sock = socket.socket()
            socks.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.connect(address)
        yield


def ns_a_connection(address, serve, connections, batches):
    """The quickest of `batches` of `serve()`, which takes `connections` connections and lets them go."""
    figures = []
    for _ in range(batches):
        with clients(address, connections):
            begin = clock_ns()
            serve()
            figures.append((clock_ns() - begin) / connections)
    return min(figures)


@contextmanager
def listening(backlog):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(backlog)
        listener.setblocking(False)
        yield listener


def accept_all(listener):
    """Accept as the `socket` module does it: until an exception says that there is no more."""
    while True:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        yield sock


def c_accept(connections, batches):
    return run_native("accept", connections, batches)


def metalio_accept(connections, batches):
    with Poll() as poll, TcpListener.bind("127.0.0.1:0", backlog=connections) as listener:
        register, deregister, readable = poll.registry.register, poll.registry.deregister, Interest.READABLE
        register(listener, listener, readable)
        batch = Events()

        def serve():
            streams = []
            while len(streams) < connections:
                poll.poll(batch)
                for event in batch:
                    while (accepted := event.token.accept()) is not None:
                        stream, _ = accepted
                        register(stream, stream, readable)
                        streams.append(stream)
            for stream in streams:
                deregister(stream)
                stream.close()

        return ns_a_connection(listener.local_addr, serve, connections, batches)


def epoll_accept(connections, batches):
    with new_epoll() as epoll, listening(connections) as listener:
        epoll.register(listener, select.EPOLLIN)
        table = {listener.fileno(): listener}

        def serve():
            socks = []
            while len(socks) < connections:
                for fd, _ in epoll.poll():
                    for sock in accept_all(table[fd]):
                        epoll.register(sock, select.EPOLLIN)
                        table[sock.fileno()] = sock
                        socks.append(sock)
            for sock in socks:
                epoll.unregister(sock)
                del table[sock.fileno()]
                sock.close()

        return ns_a_connection(listener.getsockname(), serve, connections, batches)


def selectors_accept(connections, batches):
    with selectors.DefaultSelector() as selector, listening(connections) as listener:
        selector.register(listener, selectors.EVENT_READ, listener)

        def serve():
            socks = []
            while len(socks) < connections:
                for key, _ in selector.select():
                    for sock in accept_all(key.data):
                        selector.register(sock, selectors.EVENT_READ, sock)
                        socks.append(sock)
            for sock in socks:
                selector.unregister(sock)
                sock.close()

        return ns_a_connection(listener.getsockname(), serve, connections, batches)


def loop_accept(new_loop, connections, batches):
    with closing(new_loop()) as loop, listening(connections) as listener:
        socks = []

        def ready(token):
            pass

        def accept(token):
            for sock in accept_all(token):
                loop.add_reader(sock, ready, sock)
                socks.append(sock)
            if len(socks) == connections:
                loop.stop()

        def serve():
            loop.run_forever()
            for sock in socks:
                loop.remove_reader(sock)
                sock.close()
            socks.clear()

        loop.add_reader(listener, accept, listener)
        figure = ns_a_connection(listener.getsockname(), serve, connections, batches)
        loop.remove_reader(listener)
        return figure


CASES = (
    Case(
        title="register and deregister a socket",
        unit="ns/pair of calls",
        contenders={
            "C": c_register,
            "metalio": metalio_register,
            "select.epoll": epoll_register,
            "selectors": selectors_register,
            **{name: partial(loop_register, new_loop) for name, new_loop in LOOPS.items()},
        },
        params={"count": 20_000},
        quick={"count": 4_000},
    ),
    Case(
        title="accept, register, deregister and close a TCP connection",
        unit="ns/connection",
        contenders={
            "C": c_accept,
            "metalio": metalio_accept,
            "select.epoll": epoll_accept,
            "selectors": selectors_accept,
            **{name: partial(loop_accept, new_loop) for name, new_loop in LOOPS.items()},
        },
        params={"connections": 200, "batches": 30},
        quick={"batches": 5},
    ),
)
