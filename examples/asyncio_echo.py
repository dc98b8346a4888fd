"""An echo server on asyncio, with the loop on metalio: sends back each line that a client writes.

    python examples/asyncio_echo.py [127.0.0.1:7005]

Nothing but the loop factory is metalio's.  The rest is any asyncio program: streams, TLS, subprocesses, signals and
threads work as they do without it.
"""

import asyncio
import contextlib
import signal
import sys

from metalio.selectors import new_event_loop

LONGEST_LINE = 65536
connections: dict = {}  # of a task, its writer


async def echo(reader, writer):
    connections[asyncio.current_task()] = writer
    try:
        # A line that is too long is a ValueError.
        with contextlib.suppress(ConnectionError, ValueError):
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
    finally:
        writer.close()
        del connections[asyncio.current_task()]


async def main(host, port):
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stopped.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stopped.set))
    server = await asyncio.start_server(echo, host, port, limit=LONGEST_LINE)
    print("listening on", *server.sockets[0].getsockname()[:2], flush=True)
    await stopped.wait()
    server.close()
    for writer in connections.values():
        writer.close()
    await asyncio.gather(*connections)


if __name__ == "__main__":
    host, _, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7005").rpartition(":")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(host, int(port)))
