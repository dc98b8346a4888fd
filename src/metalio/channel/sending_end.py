"""The end of a channel that sends: what all kinds of it have in common."""

import cython
from cython.cimports.cpython.ref import PyObject
from cython.cimports.metalio.channel.link import CLOSED, FULL, SENT, alert
from cython.cimports.metalio.channel.message_queue import MessageQueue, Waiter

from metalio._sys.errors import closed_error
from metalio.channel.errors import Disconnected, Full


@cython.cclass
class SendingEnd:
    """The base of `Sender`, `SyncSender` and `SenderCtl`.  Not for use by itself.

    The channel is disconnected when the last of its senders is closed or dropped.  The receiver hears of it: it becomes
    readable.
    """

    def __cinit__(self):
        self.shut = True

    def __init__(self):
        raise TypeError(f"cannot make a {type(self).__name__} like this: use the functions of metalio.channel")

    def __del__(self):
        self.close()

    def clone(self):
        """Another sender of the same channel, to be closed by itself.

        Raises `ValueError` if this one is closed.
        """
        end: SendingEnd = type(self).__new__(type(self))
        if self.shut:
            raise closed_error(self)
        with cython.critical_section(self.link):
            shut: cython.bint = self.shut
            if not shut:
                end.join(self.link)
        if shut:
            raise closed_error(self)
        return end

    @property
    def closed(self):
        """Whether it is closed."""
        return self.shut

    def close(self):
        """Close it; the last one disconnects the channel.  What was sent is still received.  May be called again.

        A thread that waits in its `send()` gets `ValueError`.
        """
        if self.shut:
            return
        # Made here, not in there: making a list may start a garbage collection.
        evicted: list = []
        space: cython.pointer[PyObject] = cython.NULL
        with cython.critical_section(self.link):
            if not self.shut:
                self.shut = True
                self.link.evict(self, evicted)
                self.link.senders -= 1
                if self.link.senders == 0 and not self.link.severed:
                    space = self.link.rise()
        for entry in evicted:
            cython.cast(Waiter, entry).gate.release()
        alert(space)

    def __enter__(self):
        if self.shut:
            raise closed_error(self)
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    def __repr__(self):
        return f"<{type(self).__name__} closed>" if self.shut else f"<{type(self).__name__}>"

    def join(self, link):
        """Be one of a link's senders."""
        self.link = link
        self.shut = False
        link.senders += 1
        return 0


def deliver(end, message, timeout):
    if message is None:
        raise TypeError("a message may not be None, by which try_recv() says that there is none")
    # What was never finished is shut, and has no link.
    if end.shut:
        raise closed_error(end)
    outcome: cython.int
    if timeout == 0:
        outcome = cython.cast(MessageQueue, end.link).put(end, message, None)
    else:
        outcome = cython.cast(MessageQueue, end.link).put_waiting(end, message, timeout)
    if outcome != SENT:
        refuse(end, outcome, message)
    return 0


def refuse(end, outcome, message):
    if outcome == CLOSED:
        raise closed_error(end)
    if outcome == FULL:
        raise Full("the channel is full", message)
    raise Disconnected("the receiver is gone", message)
