from types import TracebackType
from typing import Self

from typing_extensions import disjoint_base

from metalio.interest import Interest
from metalio.poll_opt import PollOpt
from metalio.registry import Registry

@disjoint_base
class OwnSource:
    def register(self, registry: Registry, token: object, interest: Interest, opts: PollOpt) -> None: ...
    def reregister(self, registry: Registry, token: object, interest: Interest, opts: PollOpt) -> None: ...
    def deregister(self, registry: Registry) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
