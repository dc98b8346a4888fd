"""SenderCtl: the sending half of readiness for a queue of one's own."""

import cython
from cython.cimports.cpython.ref import PyObject
from cython.cimports.metalio.channel.link import CLOSED, SENT, SEVERED, Tally, alert
from cython.cimports.metalio.channel.sending_end import SendingEnd, refuse

from metalio._sys.errors import closed_error


@cython.final
@cython.cclass
class SenderCtl(SendingEnd):
    """Announces what a thread has put into a queue of one's own.  `ctl_pair()` makes one.

    Share it between threads, or give each a `clone()` of its own.  `close()`, or dropping it, is the end of it; that of
    the last one makes the `ReceiverCtl` readable.
    """

    def inc(self):
        """Count one more.  Call it after putting something into the queue.  From any thread, and from a signal handler.

        A system call is made only if a poll sleeps, and for the first of a batch.

        Raises `Disconnected` if the receiving half is gone, `ValueError` if this one is closed, `OSError` if the poll
        cannot be woken.
        """
        if self.shut:
            raise closed_error(self)
        space: cython.pointer[PyObject] = cython.NULL
        outcome: cython.int = SENT
        with cython.critical_section(self.link):
            if self.shut:
                outcome = CLOSED
            elif self.link.severed:
                outcome = SEVERED
            else:
                cython.cast(Tally, self.link).pending += 1
                space = self.link.rise()
        alert(space)
        if outcome != SENT:
            refuse(self, outcome, None)


def new_sender_ctl(link):
    sender: SenderCtl = SenderCtl.__new__(SenderCtl)
    sender.join(link)
    return sender
