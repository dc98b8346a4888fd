"""What the ends of a channel raise."""

import queue
from typing import Any


class Disconnected(Exception):
    """The other side of a channel is gone: the receiver, or the last of the senders.

    `message` is what could not be sent; `None` where nothing was to be.
    """

    def __init__(self, text: str = "", message: Any = None) -> None:
        super().__init__(text)
        self.message = message


class Full(queue.Full):
    """A bounded channel has no room.  `message` is what could not be sent."""

    def __init__(self, text: str = "", message: Any = None) -> None:
        super().__init__(text)
        self.message = message
