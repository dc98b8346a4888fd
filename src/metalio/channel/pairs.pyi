from typing import TypeVar

from metalio.channel.receiver import Receiver
from metalio.channel.receiver_ctl import ReceiverCtl
from metalio.channel.sender import Sender
from metalio.channel.sender_ctl import SenderCtl
from metalio.channel.sync_sender import SyncSender

_T = TypeVar("_T")

def channel() -> tuple[Sender[_T], Receiver[_T]]: ...
def sync_channel(bound: int) -> tuple[SyncSender[_T], Receiver[_T]]: ...
def ctl_pair() -> tuple[SenderCtl, ReceiverCtl]: ...
