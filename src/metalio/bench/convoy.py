"""An echo server of 1 KiB messages, alone and beside a CPU-bound Python thread.

Whoever lets go of the GIL in a non-blocking call may wait for it as long as the other thread's switch interval.

Alone, a fast server is faster than the load: it then waits, and all fast servers look alike.  The processor time that
an echo takes tells them apart.

Beside the thread, figures spread more than elsewhere, and most for those who let go often.  The thread takes the GIL
from them where a processor is free to run it at once, and misses it where none is; and with few processors, whether
one is free depends on how fast the echoes go.  So the same server does a hundred echoes a second or many thousands.
"""

from functools import partial

from metalio.bench.case import Case
from metalio.bench.echo import contender
from metalio.bench.echo_load import OTHERS
from metalio.bench.servers import PEERS, SERVERS, metalio

LOAD = {"size": 1024, "warm_up_ms": 200, "measure_ms": 1500}
QUICK = {"warm_up_ms": 50, "measure_ms": 300}

CASES = (
    Case(
        title="echo of 1 KiB, 50 connections",
        unit="echo/s",
        contenders={name: partial(contender, server) for name, server in SERVERS.items()},
        params={**LOAD, "connections": 50},
        quick=QUICK,
        higher_is_better=True,
        others=OTHERS,
    ),
    *(
        Case(
            title=f"echo of 1 KiB, {connections} connections, beside a CPU-bound thread",
            unit="echo/s",
            contenders={name: partial(contender, server) for name, server in {"metalio": metalio, **PEERS}.items()},
            params={**LOAD, "connections": connections, "spinners": 1},
            quick=QUICK,
            higher_is_better=True,
        )
        for connections in (50, 500)
    ),
)
