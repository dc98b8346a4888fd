"""Receiver: the end of a channel that is polled."""

from types import GenericAlias

import cython
from cython.cimports.cpython.ref import PyObject
from cython.cimports.metalio._sys.native import set_next, take_over
from cython.cimports.metalio.channel.link import CLOSED, SENT
from cython.cimports.metalio.channel.message_queue import new_message_queue
from cython.cimports.metalio.user_source import UserSource

from metalio._sys.errors import closed_error
from metalio.channel.errors import Disconnected


@cython.final
@cython.cclass
class Receiver(UserSource):
    """The receiving end of `channel()` or `sync_channel(bound)`, and a source: readable while there are messages.

    Under `EDGE` drain it: receive until there is none, and the next message is an event again.  A message that comes
    while others are left is an edge too.  Under `LEVEL` it is reported as long as there is a message, or the end has
    not been heard.

    `close()`, or dropping it, deregisters it, disconnects the channel, and releases the messages that nobody has
    received.  It may be used from any thread; each message goes to one of them.
    """

    __class_getitem__ = classmethod(GenericAlias)

    def __cinit__(self):
        self.queue = new_message_queue(0)
        self.node = self.queue.node

    def __init__(self):
        raise TypeError("cannot make a Receiver like this: use channel() or sync_channel()")

    @cython.always_allow_keywords(False)
    def try_recv(self):
        """The next message, or `None` if there is none for now.

        Raises `Disconnected` once all senders are gone and their messages received; `ValueError` if it is closed.
        """
        message: cython.pointer[PyObject] = self.take()
        return None if message == cython.NULL else take_over(message)

    def drain(self):
        """An iterator over the messages that are there, and those that come meanwhile.  It ends where `try_recv` gives
        `None`, and raises what that raises.

        Each message is received when the iterator gives it: those that are left, if a loop is left early, are still
        there.
        """
        return Drain.__new__(Drain, self)

    def close(self):
        """Deregister it, disconnect the channel, and release what was not received.  May be called again."""
        UserSource.close(self)
        # Not in finish(), where a lock is held: what a message does in the end is the caller's code.
        with cython.critical_section(self):
            left: list = self.left
            self.left = None

    def finish(self):
        self.left = self.queue.sever()
        return 0

    def take(self):
        outcome: cython.int = SENT
        message: cython.pointer[PyObject] = self.queue.take(cython.address(outcome))
        if message == cython.NULL and outcome != SENT:
            if outcome == CLOSED:
                raise closed_error(self)
            raise Disconnected("all senders are gone")
        return message


@cython.final
@cython.freelist(8)
@cython.cclass
class Drain:
    """Gives a message each."""

    def __cinit__(self, receiver: Receiver):
        self.receiver = receiver

    def __iter__(self):
        return self

    def __next__(self):
        message: cython.pointer[PyObject] = self.step()
        if message == cython.NULL:
            raise StopIteration
        return take_over(message)

    def step(self):
        """The next message, as a reference of the caller's; `NULL` after the last."""
        message: cython.pointer[PyObject] = cython.NULL
        if not self.over:
            message = self.receiver.take()
            self.over = message == cython.NULL
        return message


def new_receiver(bound):
    receiver: Receiver = Receiver.__new__(Receiver)
    receiver.queue.bound = bound
    return receiver


def next_message(drain):
    return drain.step()


# The end of a loop then costs nothing: a __next__ method can only end it by an exception, traceback and all.
set_next(Drain, cython.cast(cython.p_void, next_message))
