"""LoopSender: how other threads reach an event loop."""

from types import GenericAlias

import cython
from cython.cimports.metalio.channel.sending_end import SendingEnd, deliver


@cython.final
@cython.cclass
class LoopSender(SendingEnd):
    """Sends messages to the handler of an `EventLoop`, from any thread; `EventLoop.channel()` gives it.

    Share it between threads, or give each a `clone()`.  What one thread sends is delivered in the order in which it was
    sent.  It never blocks.  To close it is not necessary.
    """

    __class_getitem__ = classmethod(GenericAlias)

    def send(self, message, /):
        """Have `Handler.notify` called with this object; any but `None` (`TypeError`).  Wakes the loop if it sleeps.

        Raises `queue.Full` (`metalio.channel.Full`) if as many as `EventLoopConfig.notify_capacity` are waiting,
        `metalio.channel.Disconnected` if the loop is closed, both with the `message`; `ValueError` if this sender is
        closed.
        """
        deliver(self, message, 0)


def new_loop_sender(queue):
    sender: LoopSender = LoopSender.__new__(LoopSender)
    with cython.critical_section(queue):
        sender.join(queue)
    return sender
