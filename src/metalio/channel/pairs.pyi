from typing import Any

from metalio.channel.receiver import Receiver
from metalio.channel.receiver_ctl import ReceiverCtl
from metalio.channel.sender import Sender
from metalio.channel.sender_ctl import SenderCtl
from metalio.channel.sync_sender import SyncSender

# Any suits whatever type of message the caller declares; a type variable would have to be declared each time.
def channel() -> tuple[Sender[Any], Receiver[Any]]: ...
def sync_channel(bound: int) -> tuple[SyncSender[Any], Receiver[Any]]: ...
def ctl_pair() -> tuple[SenderCtl, ReceiverCtl]: ...
