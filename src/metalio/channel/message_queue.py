"""The messages of a channel, and those who wait to send one.

Senders append to one list, and the receiver empties another from its end; when that is empty they are exchanged, and
what has come is turned round.  Lists keep their memory when they are emptied, so nothing is allocated once they are as
long as the batches are; what a burst has made long is given back when all of it was received.  The garbage collector
sees everything.

A bounded channel is fair: who finds it full stands in line, and each place that becomes free is given to the first one
there, before anybody else can take it.  The place, not the message, is handed over: the waiter stores its message by
itself.  So if a signal handler raises meanwhile nothing was sent, and the place goes to the next.
"""

import _thread
import threading

import cython
from cython.cimports.cpython.ref import PyObject
from cython.cimports.metalio._sys.native import Section, lock, unlock
from cython.cimports.metalio.channel.link import CLOSED, FULL, SENT, SEVERED, alert

# The places that an empty list may keep.
_KEEP = cython.declare(cython.Py_ssize_t, 4096)
_LONGEST = cython.declare(cython.double, threading.TIMEOUT_MAX)
_new_gate = _thread.allocate_lock


@cython.final
@cython.cclass
class Waiter:
    """A thread that waits for a place."""


@cython.final
@cython.cclass
class MessageQueue(Link):
    """What senders and the receiver of a channel have in common."""

    def __cinit__(self):
        self.incoming = []
        self.outgoing = []
        self.waiters = []

    # -- Sending ------------------------------------------------------------------------------------------------------

    def put(self, end, message, waiter):
        section: Section
        space: cython.pointer[PyObject] = cython.NULL
        outcome: cython.int = FULL
        lock(cython.address(section), self)
        try:
            if end.shut:
                outcome = CLOSED
            elif self.severed:
                outcome = SEVERED
            elif self.room() > 0:
                push(
                    cython.cast(cython.pointer[PyObject], self.incoming),
                    cython.cast(cython.pointer[PyObject], message),
                )
                space = self.rise()
                outcome = SENT
            elif waiter is not None:
                self.waiters.append(waiter)
        finally:
            unlock(cython.address(section))
        if space != cython.NULL:
            alert(space)
        return outcome

    def put_waiting(self, end, message, timeout):
        """The same, but wait for so many seconds until there is room; for ever, if that is negative."""
        waiter: Waiter = Waiter.__new__(Waiter)
        waiter.end = end
        waiter.state = WAITING
        waiter.gate = _new_gate()
        waiter.gate.acquire()
        outcome: cython.int = self.put(end, message, waiter)
        if outcome != FULL:
            return outcome
        try:
            # Lets go of the GIL, and runs the handlers of signals.
            waiter.gate.acquire(True, -1 if timeout < 0 or timeout > _LONGEST else timeout)
        except BaseException:
            self.leave(waiter, None)
            raise
        return self.leave(waiter, message)

    def leave(self, waiter, message):
        """The end of waiting: an Outcome.  Without a message, a place is passed on."""
        following: Waiter = None
        space: cython.pointer[PyObject] = cython.NULL
        outcome: cython.int = waiter.state
        with cython.critical_section(self):
            outcome = waiter.state
            if outcome == WAITING:
                self.strike(waiter)
                outcome = FULL
            elif outcome == ADMITTED:
                self.reserved -= 1
                outcome = SEVERED if self.severed else CLOSED if waiter.end.shut else FULL
                try:
                    if outcome == FULL and message is not None:
                        self.incoming.append(message)
                        space = self.rise()
                        outcome = SENT
                finally:
                    if outcome != SENT:
                        following = self.admit()
        if following is not None:
            following.gate.release()
        alert(space)
        return outcome

    def admit(self):
        """Give a free place to the first of those who wait, whom the caller has to wake outside the lock."""
        if not self.waiters or self.room() <= 0:
            return None
        waiter: Waiter = cython.cast(Waiter, self.waiters.pop(0))
        waiter.state = ADMITTED
        self.reserved += 1
        return waiter

    def strike(self, waiter):
        self.waiters.remove(waiter)
        return 0

    def dismiss(self, end, state, dismissed):
        """Move those out of the line who wait on this end, or everybody.  The lock is held."""
        for entry in self.waiters:
            if end is None or cython.cast(Waiter, entry).end is end:
                cython.cast(Waiter, entry).state = state
                dismissed.append(entry)
        for entry in dismissed:
            self.waiters.remove(entry)
        return 0

    def evict(self, end, evicted):
        return self.dismiss(end, CLOSED, evicted)

    # -- Receiving ----------------------------------------------------------------------------------------------------

    def take_last(self, outcome):
        """What take() does, in all cases."""
        section: Section
        message: cython.pointer[PyObject] = cython.NULL
        waiter: Waiter = None
        lock(cython.address(section), self)
        try:
            if size(cython.cast(cython.pointer[PyObject], self.outgoing)) == 0:
                self.exchange()
            if size(cython.cast(cython.pointer[PyObject], self.outgoing)):
                message = pop(cython.cast(cython.pointer[PyObject], self.outgoing))
                if (
                    size(cython.cast(cython.pointer[PyObject], self.outgoing)) == 0
                    and size(cython.cast(cython.pointer[PyObject], self.incoming)) == 0
                ):
                    self.drained()
                if size(cython.cast(cython.pointer[PyObject], self.waiters)):
                    waiter = self.admit()
            elif self.severed:
                outcome[0] = CLOSED
            elif self.senders == 0:
                # The end has been heard.
                self.node.mark(0)
                outcome[0] = SEVERED
            else:
                outcome[0] = SENT
        finally:
            unlock(cython.address(section))
        if waiter is not None:
            waiter.gate.release()
        return message

    def exchange(self):
        self.incoming, self.outgoing = self.outgoing, self.incoming
        reverse(cython.cast(cython.pointer[PyObject], self.outgoing))
        return 0

    def drained(self):
        """The last message was taken."""
        if self.senders:
            self.node.mark(0)
        if allocated(cython.cast(cython.pointer[PyObject], self.outgoing)) > _KEEP:
            self.outgoing.clear()
        if allocated(cython.cast(cython.pointer[PyObject], self.incoming)) > _KEEP:
            self.incoming.clear()
        return 0

    def sever(self):
        fresh: list = [[], []]
        left: list = []
        dismissed: list = []
        with cython.critical_section(self):
            self.severed = True
            left = [self.incoming, self.outgoing]
            self.incoming, self.outgoing = fresh
            self.dismiss(None, SEVERED, dismissed)
        for entry in dismissed:
            cython.cast(Waiter, entry).gate.release()
        return left


def new_message_queue(bound):
    queue: MessageQueue = MessageQueue.__new__(MessageQueue)
    queue.bound = bound
    return queue
