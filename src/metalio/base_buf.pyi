from typing_extensions import disjoint_base

@disjoint_base
class BaseBuf: ...

@disjoint_base
class Storage(BaseBuf):
    def __new__(cls, capacity: int) -> Storage: ...
    @property
    def capacity(self) -> int: ...
