"""More sockets than select(2) takes of Windows, which is 512 and the limit of asyncio's selector loop there."""

import asyncio
import selectors
import sys
from contextlib import ExitStack, contextmanager

import pytest
from util import socket_pair

from metalio.selectors import MetalSelector

CLIENTS = 600


@contextmanager
def room_for_descriptors(count):
    """Allow so many, where a process has a limit that it can raise."""
    if sys.platform == "win32":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"a process may have {hard} descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count if soft == resource.RLIM_INFINITY else max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(sys.platform != "win32", reason="the limit of select(2) is another one elsewhere")
def test_the_limit_of_the_stock_one():
    with (
        ExitStack() as stack,
        selectors.SelectSelector() as selector,
        pytest.raises(ValueError, match="too many file descriptors"),
    ):
        for _ in range(CLIENTS):
            for sock in socket_pair():
                selector.register(stack.enter_context(sock), selectors.EVENT_READ)
        selector.select(0)


def test_select(selector):
    with room_for_descriptors(2 * CLIENTS + 100), ExitStack() as stack:
        metal = stack.enter_context(MetalSelector(selector=selector))
        pairs = [[stack.enter_context(sock) for sock in socket_pair()] for _ in range(CLIENTS)]
        for number, (one, other) in enumerate(pairs):
            metal.register(one, selectors.EVENT_READ, number)
            metal.register(other, selectors.EVENT_WRITE, -1 - number)
        for _, other in pairs:
            other.send(b"x")
        found = set()
        while len(found) < 2 * CLIENTS:
            ready = metal.select(30)
            assert ready
            found.update(key.data for key, _ in ready)
        assert found == set(range(-CLIENTS, CLIENTS))


def test_asyncio(selector):
    async def echo(reader, writer):
        writer.write(await reader.readexactly(8))
        await writer.drain()
        await reader.read()
        writer.close()

    async def call(port, number, all_here):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        # So that all are connected at once.
        await all_here.wait()
        message = b"%08d" % number
        writer.write(message)
        assert await reader.readexactly(8) == message
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=CLIENTS)
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(50):
            all_here = Barrier(CLIENTS)
            await asyncio.gather(*(call(port, number, all_here) for number in range(CLIENTS)))
        server.close()
        await server.wait_closed()

    with (
        room_for_descriptors(2 * CLIENTS + 100),
        asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(MetalSelector(selector=selector))) as runner,
    ):
        runner.run(main())


class Barrier:
    """Lets nobody go on before so many have come."""

    def __init__(self, count):
        self.left = count
        self.open = asyncio.Event()

    async def wait(self):
        self.left -= 1
        if self.left == 0:
            self.open.set()
        await self.open.wait()
