"""What only Windows has: named pipes as sources."""

import sys

if sys.platform != "win32":
    raise NotImplementedError("metalio.windows is what only Windows has: on Unix see metalio.unix.pipe")

from metalio.windows.named_pipe import NamedPipe

__all__ = ["NamedPipe"]
