"""Timeout: what a timeout is cancelled by."""

import cython


@cython.final
@cython.freelist(1024)
@cython.cclass
class Timeout:
    """A timeout that was scheduled by `Timer.set_timeout`, for `Timer.cancel_timeout`.

    It is 32 bytes, refers to nothing, and needs not be kept: a timeout goes off whether it is or not.
    """

    def __init__(self):
        raise TypeError("cannot make a Timeout like this: use Timer.set_timeout()")

    def __repr__(self):
        return f"<Timeout {self.number}>"


def new_timeout():
    return Timeout.__new__(Timeout)
