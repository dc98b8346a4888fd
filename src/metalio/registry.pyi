from typing import Never, Self, final

from _typeshed import HasFileno

from metalio.interest import Interest
from metalio.poll_opt import PollOpt
from metalio.source import Source

@final
class Registry:
    def __new__(cls, impossible: Never, /) -> Self: ...
    def register(
        self, source: Source | HasFileno, token: object, interest: Interest, opts: PollOpt = PollOpt.EDGE
    ) -> None: ...
    def reregister(
        self, source: Source | HasFileno, token: object, interest: Interest, opts: PollOpt = PollOpt.EDGE
    ) -> None: ...
    def deregister(self, source: Source | HasFileno) -> None: ...
