import signal
from typing import Protocol

from typing_extensions import disjoint_base

from metalio.io_source import IoSource

__all__ = ["ChildExit"]

class _HasPid(Protocol):
    @property
    def pid(self) -> int | None: ...

@disjoint_base
class ChildExit(IoSource):
    def __new__(cls, process: int | _HasPid) -> ChildExit: ...
    def __init__(self, process: int | _HasPid) -> None: ...
    @property
    def pid(self) -> int: ...
    def status(self) -> int | None: ...
    def send_signal(self, number: signal.Signals | int) -> None: ...
