"""An echo server over TCP on a processor of its own, loaded from another one.

The load is a program in C that keeps a message under way on each connection.  How busy it was is told beside each
figure: where that is near 100 %, a rate says less of the server than its processor time does.  Latencies are what a
client sees, with all connections busy.
"""

from functools import partial

from metalio.bench.case import Case
from metalio.bench.echo_load import OTHERS, Load
from metalio.bench.servers import SERVERS

SIZES = {"64 B": 64, "1 KiB": 1024, "4 KiB": 4096, "16 KiB": 16_384, "64 KiB": 65_536}
CONNECTIONS = (1, 50, 500)


def contender(server, **load):
    return server(Load(**load))


CASES = tuple(
    Case(
        title=f"echo of {name}, {connections} connection{'s' if connections > 1 else ''}",
        unit="echo/s",
        contenders={name: partial(contender, server) for name, server in SERVERS.items()},
        params={"connections": connections, "size": size, "warm_up_ms": 200, "measure_ms": 1000, "pinned": 1},
        quick={"warm_up_ms": 50, "measure_ms": 300},
        higher_is_better=True,
        others=OTHERS,
    )
    for name, size in SIZES.items()
    for connections in CONNECTIONS
)
