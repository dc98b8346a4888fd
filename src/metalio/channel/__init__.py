"""Channels: messages from any thread to one that polls.

`channel()` and `sync_channel(bound)` give two ends, of which the receiver is a source; `ctl_pair()` gives the same
readiness for a queue of one's own.
"""

from metalio.channel.errors import Disconnected, Full
from metalio.channel.pairs import channel, ctl_pair, sync_channel
from metalio.channel.receiver import Receiver
from metalio.channel.receiver_ctl import ReceiverCtl
from metalio.channel.sender import Sender
from metalio.channel.sender_ctl import SenderCtl
from metalio.channel.sync_sender import SyncSender

__all__ = [
    "Disconnected",
    "Full",
    "Receiver",
    "ReceiverCtl",
    "Sender",
    "SenderCtl",
    "SyncSender",
    "channel",
    "ctl_pair",
    "sync_channel",
]
