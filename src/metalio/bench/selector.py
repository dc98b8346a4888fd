"""`MetalSelector` beside the default selector: by itself, and under the same echo server on asyncio.

What a selector costs is a small part of what asyncio does for an echo, and what the load and the kernel do is in the
rate as well.  So the server's processor time for each echo is shown too.
"""

import selectors
from functools import partial
from itertools import repeat

from metalio.bench.case import Case
from metalio.bench.common import LOOPS, ns_each, socket_pairs
from metalio.bench.convoy import LOAD, QUICK, protocol, streams
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


def on_both(contender):
    return {
        "metalio": partial(contender, MetalSelector),
        "selectors": partial(contender, selectors.DefaultSelector),
    }


def under_asyncio(server):
    return {"metalio": partial(server, new_event_loop), "selectors": partial(server, LOOPS["asyncio"])}


def echo(server, name, size, connections):
    load = {**LOAD, "size": size, "connections": connections}
    each = f"{size:,} bytes, {connections} connection{'s' if connections > 1 else ''}"
    return (
        Case(
            title=f"asyncio, echo by a {name}, {each}",
            unit="echo/s",
            contenders=under_asyncio(server),
            params=load,
            quick=QUICK,
            higher_is_better=True,
        ),
        Case(
            title=f"asyncio, echo by a {name}, {each}, processor time",
            unit="ns of the server's processor time/echo",
            contenders=under_asyncio(server),
            params={**load, "processor": 1},
            quick=QUICK,
        ),
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
    *echo(protocol, "protocol", 64, 50),
    *echo(protocol, "protocol", 1024, 50),
    *echo(protocol, "protocol", 1024, 1),
    *echo(streams, "stream", 1024, 50),
)
