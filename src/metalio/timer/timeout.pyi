from typing import Never, final

@final
class Timeout:
    def __init__(self, impossible: Never, /) -> None: ...
