"""RingBuf: a buffer that is written to and read from at the same time."""

import cython
from cython.cimports.libc.string import memcpy
from cython.cimports.metalio.base_buf import BaseBuf, Storage, refuse_busy, within


@cython.final
@cython.no_gc
@cython.cclass
class RingBuf(Storage):
    """A buffer of a fixed `capacity`, in bytes: what is written last is read last, and room that has been read is free.

    `writer()` is its `MutBuf`, `reader()` its `Buf`.  Where a direction is meant anyway, as by `stream.read_buf`,
    `stream.write_buf`, `read_exact` and `write_all`, the ring itself will do.  These move what wraps around in one go:
    a stream does so in one system call (readv(2), sendmsg(2)).

    The views that it hands out are of its own memory, and stay valid, though what they show changes with the buffer.

    One thread may write to it while another reads from it.  What comes in between a transfer of the same direction
    that goes on without the GIL raises `RuntimeError`.
    """

    def reader(self):
        """What has been written and not yet read, as a `Buf`."""
        return RingBufReader.__new__(RingBufReader, self)

    def writer(self):
        """The room that is left, as a `MutBuf`."""
        return RingBufWriter.__new__(RingBufWriter, self)

    def is_empty(self):
        """Whether there is nothing to read."""
        return self.count == 0

    def is_full(self):
        """Whether there is no room to write."""
        return self.count == self.capacity

    def copy(self):
        """Another ring of the same capacity with the same bytes, which from then on knows nothing of this one."""
        parts = cython.declare(iovec[2])
        other: RingBuf = RingBuf(self.capacity)
        with cython.critical_section(self):
            self.share(parts, self.head, self.count)
            memcpy(other.base(), parts[0].iov_base, parts[0].iov_len)
            memcpy(other.base() + parts[0].iov_len, parts[1].iov_base, parts[1].iov_len)
            other.count = self.count
        return other

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def __repr__(self):
        return f"<RingBuf: {self.count} of {self.capacity}>"

    # -- For transfers ------------------------------------------------------------------------------------------------

    def share(self, parts, place, size):
        """The parts in which so many bytes lie from a place on."""
        first: cython.Py_ssize_t = self.capacity - place
        if first > size:
            first = size
        parts[0].iov_base = self.base() + place
        parts[0].iov_len = first
        parts[1].iov_base = self.base()
        parts[1].iov_len = size - first
        return 0

    def begin_fill(self, parts):
        with cython.critical_section(self):
            if self.filling:
                refuse_busy(self)
            self.filling = True
            self.restart()
            self.share(parts, self.tail(), self.capacity - self.count)
            return self.capacity - self.count

    def end_fill(self, count):
        with cython.critical_section(self):
            self.count += count
            self.filling = False
        return 0

    def begin_drain(self, parts):
        with cython.critical_section(self):
            if self.draining:
                refuse_busy(self)
            self.draining = True
            self.share(parts, self.head, self.count)
            return self.count

    def end_drain(self, count):
        with cython.critical_section(self):
            self.drop(count)
            self.draining = False
        return 0


@cython.final
@cython.no_gc
@cython.cclass
class RingBufReader(BaseBuf):
    """What can be read from a `RingBuf`.  The same as `ring.reader()`."""

    def __cinit__(self, ring: RingBuf):
        self.ring = ring

    def remaining(self):
        """How many bytes can be read."""
        return self.ring.count

    def has_remaining(self):
        """Whether there is anything to read."""
        return self.ring.count != 0

    def bytes(self):
        """What is to be read, up to where it wraps around, as a read-only `memoryview`."""
        ring: RingBuf = self.ring
        with cython.critical_section(ring):
            end: cython.Py_ssize_t = ring.head + ring.count
            return ring.readable[ring.head : end if end < ring.capacity else ring.capacity]

    def advance(self, count):
        """Go on by so many bytes, which have been read.  Raises `ValueError`, and stays, if there are not as many."""
        ring: RingBuf = self.ring
        with cython.critical_section(ring):
            if ring.draining:
                refuse_busy(ring)
            ring.drop(within(count, ring.count))

    def begin_fill(self, parts):
        raise TypeError("this is the reader of a RingBuf: take its writer()")

    def begin_drain(self, parts):
        return self.ring.begin_drain(parts)

    def end_drain(self, count):
        return self.ring.end_drain(count)

    def __repr__(self):
        return f"<RingBufReader: {self.ring.count} to read>"


@cython.final
@cython.no_gc
@cython.cclass
class RingBufWriter(BaseBuf):
    """What can be written to a `RingBuf`.  The same as `ring.writer()`."""

    def __cinit__(self, ring: RingBuf):
        self.ring = ring

    def remaining(self):
        """How many bytes there is room for."""
        return self.ring.capacity - self.ring.count

    def has_remaining(self):
        """Whether there is any room."""
        return self.ring.count < self.ring.capacity

    def mut_bytes(self):
        """The room, up to where it wraps around, as a writable `memoryview`: write here, then `advance`.

        An empty ring begins anew, so a view from before it was empty is of no more use.
        """
        ring: RingBuf = self.ring
        with cython.critical_section(ring):
            if not ring.filling:
                ring.restart()
            start: cython.Py_ssize_t = ring.tail()
            end: cython.Py_ssize_t = start + ring.capacity - ring.count
            return ring.writable[start : end if end < ring.capacity else ring.capacity]

    def advance(self, count):
        """Go on by so many bytes, which have been written.  Raises `ValueError`, and stays, if there is less room."""
        ring: RingBuf = self.ring
        with cython.critical_section(ring):
            if ring.filling:
                refuse_busy(ring)
            ring.count += within(count, ring.capacity - ring.count)

    def begin_fill(self, parts):
        return self.ring.begin_fill(parts)

    def end_fill(self, count):
        return self.ring.end_fill(count)

    def begin_drain(self, parts):
        raise TypeError("this is the writer of a RingBuf: take its reader()")

    def __repr__(self):
        return f"<RingBufWriter: room for {self.ring.capacity - self.ring.count}>"
