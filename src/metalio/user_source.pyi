from typing_extensions import disjoint_base

from metalio.own_source import OwnSource

@disjoint_base
class UserSource(OwnSource):
    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...
    def __del__(self) -> None: ...
