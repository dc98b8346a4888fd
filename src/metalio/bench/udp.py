"""A UDP echo server on a processor of its own: datagrams one by one, many in a system call, and in segments.

The load is a program in C that sends windows of datagrams, each window in one system call, compares every byte that
comes back, and then sends the next.  So a datagram costs it little: how busy it was is told beside each figure, and how
many datagrams were lost, which UDP may do.

Many in a system call is recvmmsg(2) and sendmmsg(2), up to 64 datagrams each; segments are datagrams that the kernel
receives together and takes together (UDP_GRO, UDP_SEGMENT).  The peers have neither: they are the same in all tables.
"""

import asyncio
import select
import socket
import subprocess
from contextlib import closing
from functools import partial

from metalio import Events, Interest, Poll
from metalio.bench.case import Case, Figure, Metric
from metalio.bench.client import prepare, run_client
from metalio.bench.common import LOOPS, new_epoll
from metalio.bench.native import build
from metalio.net import DatagramBatch, UdpSocket

# The longest datagram, and what those may be that come many at a time.
LARGEST = 65_536
SMALL = 2048
MANY = 64


def under_load(port, serve, sockets, window, size, warm_up_ms, measure_ms, pinned):
    """Load `port` while `serve()` runs, which ends at a datagram of one byte: a `Figure`, of datagrams a second."""
    arguments = (port, sockets, window, size, warm_up_ms, measure_ms)
    (rate, busy, echoes, lost), spent = run_client("udp_client", arguments, serve, pinned)
    details = f"load {busy:.0%} busy" + (f", {lost / (echoes + lost):.2%} lost" if lost else "")
    return Figure(rate, details, {"processor": spent * 1e9 / max(echoes, 1)})


def c(how, load):
    with subprocess.Popen([build("udp_server"), how], stdout=subprocess.PIPE, text=True) as server:
        try:
            figure = load(int(server.stdout.readline()), server.wait)
        finally:
            server.kill()
    if server.returncode:
        raise RuntimeError("the server failed")
    return figure


def metalio_single(load):
    with Poll() as poll, UdpSocket.bind("127.0.0.1:0") as sock:
        poll.registry.register(sock, None, Interest.READABLE)

        def serve():
            batch = Events()
            while True:
                poll.poll(batch)
                while (received := sock.recv_from(LARGEST)) is not None:
                    data, peer = received
                    if len(data) == 1:
                        return
                    sock.send_to(data, peer)

        return load(sock.local_addr[1], serve)


def metalio_many(size, gro, load):
    with Poll() as poll, UdpSocket.bind("127.0.0.1:0") as sock:
        sock.gro = gro
        poll.registry.register(sock, None, Interest.READABLE)

        def serve():
            batch = Events()
            datagrams = DatagramBatch(MANY, size)
            while True:
                poll.poll(batch)
                while sock.recv_many(datagrams) is not None:
                    if len(datagrams[-1]) == 1:
                        return
                    sock.send_many(datagrams)

        return load(sock.local_addr[1], serve)


def bind():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    return sock


def epoll(load):
    with new_epoll() as epoll, bind() as sock:
        epoll.register(sock, select.EPOLLIN | select.EPOLLET)

        def serve():
            buffer = memoryview(bytearray(LARGEST))
            while True:
                epoll.poll()
                try:
                    while True:
                        size, peer = sock.recvfrom_into(buffer)
                        if size == 1:
                            return
                        sock.sendto(buffer[:size], peer)
                except BlockingIOError:
                    pass

        return load(sock.getsockname()[1], serve)


class Echo(asyncio.DatagramProtocol):
    def __init__(self, loop):
        self.loop = loop

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        if len(data) == 1:
            self.loop.stop()
        else:
            self.transport.sendto(data, peer)


def protocol(new_loop, load):
    with closing(new_loop()) as loop, bind() as sock:
        port = sock.getsockname()[1]
        transport, _ = loop.run_until_complete(loop.create_datagram_endpoint(lambda: Echo(loop), sock=sock))
        figure = load(port, loop.run_forever)
        transport.close()
        loop.run_until_complete(asyncio.sleep(0))
        return figure


PEERS = {"select.epoll": epoll, **{name: partial(protocol, new_loop) for name, new_loop in LOOPS.items()}}


def contender(serve, **load):
    prepare("udp_client", load["pinned"])
    return serve(partial(under_load, **load))


CASES = tuple(
    Case(
        title=f"echo of datagrams of {size} bytes, {title}",
        unit="datagrams/s",
        contenders={
            "C": partial(contender, partial(c, how)),
            "metalio": partial(contender, serve),
            **{name: partial(contender, peer) for name, peer in PEERS.items()},
        },
        params={"sockets": 2, "window": 32, "size": size, "warm_up_ms": 200, "measure_ms": 1000, "pinned": 1},
        quick={"warm_up_ms": 50, "measure_ms": 300},
        higher_is_better=True,
        others={"processor": Metric("ns of the server's processor time/datagram")},
    )
    for size in (64, 1200)
    for how, title, serve in (
        ("single", "one by one", metalio_single),
        ("batched", "up to 64 in a system call", partial(metalio_many, SMALL, False)),
        ("segmented", "in segments", partial(metalio_many, LARGEST, True)),
    )
)
