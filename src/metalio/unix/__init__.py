"""What only Unix has: descriptors as sources, and pipes."""

import sys

if sys.platform == "win32":
    raise NotImplementedError(
        "metalio.unix is what only Unix has: on Windows sources are sockets, or have a fileno() of one"
    )

from metalio.unix import pipe
from metalio.unix.source_fd import SourceFd

__all__ = ["SourceFd", "pipe"]
