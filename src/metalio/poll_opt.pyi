from collections.abc import Callable
from typing import ClassVar, final

from metalio.bit_set import BitSet

@final
class PollOpt(BitSet):
    EDGE: ClassVar[PollOpt]
    LEVEL: ClassVar[PollOpt]
    ONESHOT: ClassVar[PollOpt]
    EXCLUSIVE: ClassVar[PollOpt]

    def is_edge(self) -> bool: ...
    def is_level(self) -> bool: ...
    def is_oneshot(self) -> bool: ...
    def is_exclusive(self) -> bool: ...
    def __reduce__(self) -> tuple[Callable[[int], PollOpt], tuple[int]]: ...
