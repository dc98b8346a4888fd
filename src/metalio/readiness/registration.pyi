from typing import Never, final

from metalio.readiness.set_readiness import SetReadiness
from metalio.user_source import UserSource

@final
class Registration(UserSource):
    def __init__(self, impossible: Never, /) -> None: ...
    @staticmethod
    def new() -> tuple[Registration, SetReadiness]: ...
