"""What only Unix has: descriptors as sources, and pipes."""

from metalio.unix import pipe
from metalio.unix.source_fd import SourceFd

__all__ = ["SourceFd", "pipe"]
