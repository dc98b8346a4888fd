import signal
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from typing_extensions import disjoint_base

from metalio.io_source import IoSource

__all__ = ["Signals"]

_Number: TypeAlias = signal.Signals | int

@disjoint_base
class Signals(IoSource):
    def __new__(cls, numbers: Iterable[int]) -> Signals: ...
    def __init__(self, numbers: Iterable[int]) -> None: ...
    @property
    def numbers(self) -> frozenset[_Number]: ...
    def pending(self) -> Iterator[_Number]: ...
    def reinstall(self) -> frozenset[_Number]: ...
