"""ByteBuf: a buffer that is written, then read, then written again."""

import cython
from cython.cimports.libc.string import memmove
from cython.cimports.metalio.base_buf import Storage, refuse_busy, within


@cython.final
@cython.no_gc
@cython.cclass
class ByteBuf(Storage):
    """A buffer of a fixed `capacity`, in bytes, that is either written to or read from; at first it is written to.

    While it is written to it is a `MutBuf`: `remaining()` is what there is room for.  After `flip()` it is a `Buf`:
    `remaining()` is what was written and has not been read.  Another `flip()` has it written to again, behind what was
    left unread; `clear()` forgets that.

    The views that it hands out are of its own memory, and stay valid, though what they show changes with the buffer.

    It is for one thread at a time.  Used from several it stays in order, but what is whose is then up to chance; what
    comes in between a transfer without the GIL raises `RuntimeError`.
    """

    def is_reading(self):
        """Whether it is being read from, as after `flip()`."""
        return self.reading

    def remaining(self):
        """How many bytes can be written, or read, before it has to be flipped."""
        return self.end - self.start if self.reading else self.capacity - self.end

    def has_remaining(self):
        """Whether `remaining()` is more than 0."""
        return self.start < self.end if self.reading else self.end < self.capacity

    def bytes(self):
        """What is to be read, as a read-only `memoryview`.  Raises `ValueError` while it is written to."""
        with cython.critical_section(self):
            self.check(True)
            return self.readable[self.start : self.end]

    def mut_bytes(self):
        """Where to write, as a writable `memoryview`; then `advance`.  Raises `ValueError` while it is read from."""
        with cython.critical_section(self):
            self.check(False)
            return self.writable[self.end :]

    def advance(self, count):
        """Go on by so many bytes, which have been written, or read.

        Raises `ValueError`, and stays where it is, if it is negative or more than remain.
        """
        with cython.critical_section(self):
            if self.busy:
                refuse_busy(self)
            if self.reading:
                self.start += within(count, self.end - self.start)
            else:
                self.end += within(count, self.capacity - self.end)

    def flip(self):
        """From writing to reading what was written; from reading to writing behind what has not been read.

        The latter moves unread bytes to the front, so that all the room there is lies behind them.
        """
        with cython.critical_section(self):
            if self.busy:
                refuse_busy(self)
            if self.reading and self.start:
                memmove(self.base(), self.base() + self.start, self.end - self.start)
                self.end -= self.start
                self.start = 0
            self.reading = not self.reading

    def clear(self):
        """Forget what is in it, and write to it from the beginning."""
        with cython.critical_section(self):
            if self.busy:
                refuse_busy(self)
            self.start = self.end = 0
            self.reading = False

    def __repr__(self):
        what = "to read" if self.reading else "written"
        return f"<ByteBuf: {self.end - self.start} {what} of {self.capacity}>"

    # -- For transfers ------------------------------------------------------------------------------------------------

    def check(self, reading):
        if self.reading is not reading:
            if reading:
                raise ValueError("this ByteBuf is being written to: flip() it first")
            raise ValueError("this ByteBuf is being read from: flip() or clear() it first")
        return 0

    def begin_fill(self, parts):
        with cython.critical_section(self):
            self.check(False)
            if self.busy:
                refuse_busy(self)
            self.busy = True
            parts[0].iov_base = self.base() + self.end
            parts[0].iov_len = self.capacity - self.end
            parts[1].iov_len = 0
            return self.capacity - self.end

    def end_fill(self, count):
        with cython.critical_section(self):
            self.end += count
            self.busy = False
        return 0

    def begin_drain(self, parts):
        with cython.critical_section(self):
            self.check(True)
            if self.busy:
                refuse_busy(self)
            self.busy = True
            parts[0].iov_base = self.base() + self.start
            parts[0].iov_len = self.end - self.start
            parts[1].iov_len = 0
            return self.end - self.start

    def end_drain(self, count):
        with cython.critical_section(self):
            self.start += count
            self.busy = False
        return 0
