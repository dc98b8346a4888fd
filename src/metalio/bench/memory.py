"""What an idle connection costs the server's process: memory that is resident for it.

A server accepts connections, echoes one small message on each, and then has nothing to do.  The kernel's own memory for
a connection is the same for all, and is not counted.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

from metalio.bench.case import Case, Unavailable
from metalio.bench.servers import SERVERS


@dataclass(frozen=True)
class Idlers:
    """A load of so many connections, of which a hundred more come first: those pay for what is there only once."""

    idle: int
    first: int = 100

    def __post_init__(self):
        if sys.platform == "win32" or not os.path.exists("/proc/self/statm"):
            raise Unavailable("needs /proc")

    @property
    def connections(self):
        return self.idle + self.first

    def drive(self, port, serve, pid=None):
        """The bytes that the server's process grows by for each connection while `serve()` runs."""
        command = [sys.executable, "-m", "metalio.bench.idlers", *map(str, (port, self.first, self.idle))]
        with subprocess.Popen([*command, str(pid or os.getpid())], stdout=subprocess.PIPE, text=True) as client:
            try:
                serve()
                output, _ = client.communicate()
            finally:
                client.kill()
        if client.returncode:
            raise RuntimeError("the connections failed")
        return float(output)


def contender(server, **idlers):
    return server(Idlers(**idlers))


CASES = (
    Case(
        title="idle connections",
        unit="bytes/connection",
        contenders={name: partial(contender, server) for name, server in SERVERS.items()},
        params={"idle": 5_000},
        quick={"idle": 2_000},
    ),
)
