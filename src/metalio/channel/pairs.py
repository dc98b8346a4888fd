"""The functions that make channels."""

import sys

import cython
from cython.cimports.metalio.channel.receiver import Receiver, new_receiver
from cython.cimports.metalio.channel.receiver_ctl import ReceiverCtl, new_receiver_ctl
from cython.cimports.metalio.channel.sender import new_sender
from cython.cimports.metalio.channel.sender_ctl import new_sender_ctl
from cython.cimports.metalio.channel.sync_sender import new_sync_sender


def channel():
    """Both ends of a new unbounded channel: `(Sender, Receiver)`."""
    receiver: Receiver = new_receiver(sys.maxsize)
    return new_sender(receiver.queue), receiver


def sync_channel(bound):
    """Both ends of a new channel in which up to `bound` messages wait: `(SyncSender, Receiver)`.

    Raises `ValueError` for a bound below 1: something has to be there for the receiver to be ready.
    """
    most: cython.Py_ssize_t = bound
    if most < 1:
        raise ValueError("the bound of a channel is at least 1")
    receiver: Receiver = new_receiver(most)
    return new_sync_sender(receiver.queue), receiver


def ctl_pair():
    """Both halves of readiness for a queue of one's own: `(SenderCtl, ReceiverCtl)`.

    Put something into the queue, then call `inc()`; take something out, then call `dec()`.  Between a first `inc()` and
    the `dec()` for all of them the receiving half is readable.
    """
    receiver: ReceiverCtl = new_receiver_ctl()
    return new_sender_ctl(receiver.tally), receiver
