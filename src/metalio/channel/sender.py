"""Sender: the sending end of an unbounded channel."""

from types import GenericAlias

import cython
from cython.cimports.metalio.channel.sending_end import SendingEnd, deliver


@cython.final
@cython.cclass
class Sender(SendingEnd):
    """Sends messages to the receiver of `channel()`.  It never waits.

    Share it between threads, or give each a `clone()` of its own; the messages of one thread arrive in the order in
    which it sent them.  `close()`, or dropping it, is the end of it; that of the last sender disconnects the channel.
    """

    __class_getitem__ = classmethod(GenericAlias)

    def send(self, message, /):
        """Send a message, which is any object but `None`.  From any thread, and from a signal handler.

        A system call is made only if a poll sleeps, and for the first message of a batch.  Whatever a thread did before
        it sent a message is visible to the thread that receives it.

        Raises `Disconnected` if the receiver is gone, `TypeError` for `None`, `ValueError` if this sender is closed;
        `OSError` if the poll cannot be woken, and then the message waits all the same.
        """
        deliver(self, message, 0)

    def try_send(self, message, /):
        """The same as `send`, for programs that take either kind of sender."""
        self.send(message)


def new_sender(link):
    sender: Sender = Sender.__new__(Sender)
    sender.join(link)
    return sender
