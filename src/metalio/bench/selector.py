"""`MetalSelector` beside the default selector: by itself, and below the same program on asyncio.

What a selector costs is a small part of what asyncio and the kernel do for an echo, and less than what one process
differs from the next.  So loops on both are also measured in one process, by turns.
"""

import asyncio
import selectors
from contextlib import closing, contextmanager
from functools import partial
from itertools import repeat
from statistics import median

from metalio.bench.case import Case
from metalio.bench.common import LOOPS, clock_ns, ns_each, socket_pairs
from metalio.bench.convoy import LOAD, QUICK
from metalio.bench.echo_load import OTHERS, Load
from metalio.bench.servers import Echo, protocol, streams
from metalio.selectors import MetalSelector, new_event_loop

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


def select(new_selector, descriptors, events):
    with new_selector() as selector, socket_pairs(descriptors) as ends:
        for reader, writer in ends:
            writer.send(b"e")
            selector.register(reader, READ, reader)

        def run(count):
            done = 0
            while done < count:
                ready = selector.select(0)
                for key, mask in ready:
                    if key.data is None or mask != READ:
                        raise RuntimeError(f"{key!r} is not what was registered")
                if len(ready) != descriptors:
                    raise RuntimeError(f"{len(ready)} ready descriptors instead of {descriptors}")
                done += len(ready)
            return done

        return ns_each(run, events)


def register(new_selector, count):
    with new_selector() as selector, socket_pairs(1) as ((sock, _),):
        register, unregister = selector.register, selector.unregister

        def run(count):
            for _ in repeat(None, count):
                register(sock, READ, sock)
                unregister(sock)
            return count

        return ns_each(run, count)


def modify_events(new_selector, count):
    with new_selector() as selector, socket_pairs(1) as ((sock, _),):
        selector.register(sock, READ, sock)
        modify = selector.modify

        def run(count):
            for _ in repeat(None, count):
                modify(sock, READ | WRITE, sock)
                modify(sock, READ, sock)
            return 2 * count

        return ns_each(run, count)


def modify_data(new_selector, count):
    with new_selector() as selector, socket_pairs(1) as ((sock, other),):
        selector.register(sock, READ, sock)
        modify = selector.modify

        def run(count):
            for _ in repeat(None, count):
                modify(sock, READ, other)
                modify(sock, READ, sock)
            return 2 * count

        return ns_each(run, count)


class Caller(asyncio.Protocol):
    """Sends a message, waits for its echo, compares every byte, and sends the next one."""

    def __init__(self, number, size, over):
        self.number = number
        self.size = size
        self.over = over

    def connection_made(self, transport):
        self.transport = transport
        self.received = b""
        self.call()

    def call(self):
        # Another one each time, so that an old echo cannot pass for the right one.
        self.number += 1
        self.sent = (b"%d " % self.number).ljust(self.size, b"x")
        self.transport.write(self.sent)

    def data_received(self, data):
        self.received += data
        if len(self.received) >= len(self.sent):
            if self.received != self.sent:
                raise SystemExit("the echo is not what was sent")
            self.received = b""
            self.over()
            self.call()


@contextmanager
def echoing(new_loop, connections, size):
    """A function that makes so many echoes, with both ends of all connections in one loop: nothing sleeps."""
    with closing(new_loop()) as loop, socket_pairs(connections) as pairs:
        left = 0

        def over():
            nonlocal left
            left -= 1
            if left == 0:
                loop.stop()

        async def connect():
            for number, (one, other) in enumerate(pairs):
                await loop.connect_accepted_socket(lambda: Echo(int), one)
                caller = Caller(number << 32, size, over)
                transports.append((await loop.connect_accepted_socket(lambda caller=caller: caller, other))[0])

        async def disconnect():
            for transport in transports:
                transport.close()
            # Each end is told in a turn of its own, and the other one is read to its end.
            while selector.get_map().keys() - idle:
                await asyncio.sleep(0)

        def run(count):
            nonlocal left
            left = count
            loop.run_forever()

        transports = []
        selector = loop._selector
        idle = set(selector.get_map())
        loop.run_until_complete(connect())
        yield run
        loop.run_until_complete(disconnect())


def by_turns(new_loop, connections, size, echoes, turns):
    """The processor time of an echo, in units of its time on the default selector: both in this process, by turns.

    They differ by a few percent, and processes differ by more than that.
    """

    def time(run):
        begin = clock_ns()
        run(echoes)
        return clock_ns() - begin

    with echoing(new_loop, connections, size) as this, echoing(LOOPS["asyncio"], connections, size) as default:
        this(echoes)
        default(echoes)
        ratios = []
        for turn in range(turns):
            order = (this, default) if turn % 2 else (default, this)
            times = {run: time(run) for run in order}
            ratios.append(times[this] / times[default])
        return median(ratios)


def on_both(contender):
    return {
        "metalio": partial(contender, MetalSelector),
        "selectors": partial(contender, selectors.DefaultSelector),
    }


def below_asyncio(contender):
    return {"metalio": partial(contender, new_event_loop), "selectors": partial(contender, LOOPS["asyncio"])}


def echo_by_turns(connections):
    return Case(
        title=f"asyncio, echo of 64 bytes, by turns with the default selector, {connections} active",
        unit="processor time/echo, in units of the default selector's",
        contenders=below_asyncio(by_turns),
        params={"connections": connections, "size": 64, "echoes": 1_500, "turns": 40},
        quick={"turns": 6},
    )


def echo(server, name):
    def serve(new_loop, **load):
        return server(new_loop, Load(**load))

    return Case(
        title=f"asyncio, echo of 1 KiB by a {name}, 50 connections",
        unit="echo/s",
        contenders=below_asyncio(serve),
        params={**LOAD, "connections": 50},
        quick=QUICK,
        higher_is_better=True,
        others=OTHERS,
    )


CASES = (
    Case(
        title="select() of 256 ready descriptors",
        unit="ns/event",
        contenders=on_both(select),
        params={"descriptors": 256, "events": 250_000},
        quick={"events": 50_000},
    ),
    *(
        Case(title=title, unit=unit, contenders=on_both(contender), params={"count": 20_000}, quick={"count": 4_000})
        for title, unit, contender in (
            ("register and unregister a socket", "ns/pair of calls", register),
            ("modify events", "ns/call", modify_events),
            ("modify data alone", "ns/call", modify_data),
        )
    ),
    echo_by_turns(1),
    echo_by_turns(50),
    echo(protocol, "protocol"),
    echo(streams, "stream"),
)
