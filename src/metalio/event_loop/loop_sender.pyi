from types import GenericAlias
from typing import Any, Generic, Never, TypeVar, final

from metalio.channel.sending_end import SendingEnd

_T = TypeVar("_T")

@final
class LoopSender(SendingEnd, Generic[_T]):
    def __init__(self, impossible: Never, /) -> None: ...
    @classmethod
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def send(self, message: _T, /) -> None: ...
