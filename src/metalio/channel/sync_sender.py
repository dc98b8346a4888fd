"""SyncSender: the sending end of a bounded channel."""

from types import GenericAlias

import cython
from cython.cimports.metalio.channel.sending_end import SendingEnd, deliver


@cython.final
@cython.cclass
class SyncSender(SendingEnd):
    """Sends messages to the receiver of `sync_channel(bound)`, and waits while there are `bound` of them.

    Share it between threads, or give each a `clone()` of its own; the messages of one thread arrive in the order in
    which it sent them.  `close()`, or dropping it, is the end of it; that of the last sender disconnects the channel.
    """

    __class_getitem__ = classmethod(GenericAlias)

    def send(self, message, /, timeout=None):
        """Send a message, which is any object but `None`, as soon as there is room.  From any thread.

        It waits for `timeout` seconds at the most; `None` waits for ever, 0 not at all.  Those who wait get their turn
        in the order in which they came.  The GIL is released.  After a signal its Python handler runs, and then waiting
        goes on (PEP 475); if the handler raises, nothing was sent.

        Not in the thread that polls the receiver: nobody would make room.

        Raises `Full` when the time is over; `Disconnected` if the receiver is gone, also while this waits; `TypeError`
        for `None`; `ValueError` if this sender is closed, also while this waits, and for a timeout that is negative or
        not a number; `OSError` if the poll cannot be woken, and then the message waits all the same.
        """
        limit: cython.double = -1
        if timeout is not None:
            limit = timeout
            if not limit >= 0:
                raise ValueError(f"a timeout is a number of seconds from 0 on, or None: {timeout!r}")
        deliver(self, message, limit)

    def try_send(self, message, /):
        """Send a message if there is room and nobody waits for it; raises `Full` if not, and else what `send` does.

        From any thread, and from a signal handler.
        """
        deliver(self, message, 0)


def new_sync_sender(link):
    sender: SyncSender = SyncSender.__new__(SyncSender)
    sender.join(link)
    return sender
