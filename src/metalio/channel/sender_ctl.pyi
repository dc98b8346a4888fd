from typing import Never, final

from metalio.channel.sending_end import SendingEnd

@final
class SenderCtl(SendingEnd):
    def __init__(self, impossible: Never, /) -> None: ...
    def inc(self) -> None: ...
