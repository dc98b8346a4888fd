"""Linux: a process by its pidfd."""

import errno
import os
import signal

# Whether the child of a fork has the descriptor as well.
INHERITED = True


class Process:
    """A process that stays the same one, whatever becomes of its number.

    Each platform has a class like this.  `fd` becomes readable when the process ends, and belongs to whoever made
    this; it is open as long as one of the methods runs.
    """

    # What is registered in place of the descriptor, where that cannot be polled.
    source = None

    def __init__(self, number):
        if not hasattr(os, "pidfd_open"):
            raise NotImplementedError("ChildExit needs pidfd_open(2), which this platform does not have")
        try:
            self.fd = os.pidfd_open(number)
        except OverflowError:
            raise ValueError(f"{number} is not the number of a process") from None
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EPERM):
                # The system call has no such error of its own: it is a sandbox that says EPERM.
                raise NotImplementedError(
                    "ChildExit needs pidfd_open(2), and this kernel is too old, or a sandbox denies it: "
                    f"{error.strerror}"
                ) from None
            raise
        # What status() has seen: it can be asked for again once the process is gone.
        self.known = None

    def status(self):
        """As `ChildExit.status`."""
        if self.known is None:
            result = os.waitid(os.P_PIDFD, self.fd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if result is not None:
                self.known = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        return self.known

    def send_signal(self, number):
        """As `ChildExit.send_signal`."""
        signal.pidfd_send_signal(self.fd, number)
