"""Pipes: `new()` makes one, `Sender.from_file` and `Receiver.from_file` take over those of `subprocess`."""

import fcntl
import io
import os
import stat

import cython
from cython.cimports.libc.errno import EAGAIN, EINTR, errno
from cython.cimports.metalio._sys.sockets import duplicate, iovec, readv
from cython.cimports.metalio.io_source import IoSource
from cython.cimports.metalio.transfer import (
    give,
    give_buf,
    give_vector,
    take,
    take_all,
    take_buf,
    take_into,
    take_vector,
)
from cython.cimports.posix.unistd import read

from metalio._sys.errors import os_error

__all__ = ["Receiver", "Sender", "new"]


def new():
    """A new pipe, as `(Sender, Receiver)`: what is written to the one can be read from the other.

    pipe2(2), `O_NONBLOCK`, `O_CLOEXEC`.  Raises `OSError`.
    """
    sender: Sender = Sender.__new__(Sender)
    receiver: Receiver = Receiver.__new__(Receiver)
    reading: cython.int
    writing: cython.int
    if hasattr(os, "pipe2"):
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    else:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
    receiver.adopt(reading)
    sender.adopt(writing)
    return (sender, receiver)


@cython.cclass
class Sender(IoSource):
    """The end of a pipe that is written to.  Made by `new` or `from_file`.

    Writes never block: they give `None` where they would.  It can stand under `io.BufferedWriter`.  When the last
    receiver is closed a write raises `BrokenPipeError`; there is never a `SIGPIPE`.
    """

    @classmethod
    def from_file(cls, file):
        """Take over the end of a pipe that a file object has, such as the `stdin` of `subprocess.Popen`.

        The descriptor is duplicated and the file closed, so that each is closed once.  The pipe becomes non-blocking,
        also for others who have this end of it.  What the file has still to write is written first; if there is no room
        for it `BlockingIOError` is raised.  The file is left as it was where anything is raised.

        Raises `TypeError` for what is no binary file of the `io` module, `ValueError` for a closed one, one that is no
        pipe, or the other end; `OSError`.
        """
        sender: Sender = cls.__new__(cls)
        sender.adopt(_take_over(file, os.O_WRONLY))
        return sender

    def write(self, data, /):
        """Write from a buffer: how many bytes, or `None` where it would block.  write(2); never a `SIGPIPE`.

        Fewer than there are mean that no more could be written now.
        """
        return give(self, data)

    def writev(self, buffers, /):
        """Write several buffers, one after the other; as `write`.  writev(2)."""
        return give_vector(self, buffers)

    def write_buf(self, buf, /):
        """Write what is left in a `Buf`, which goes on by as much: how many bytes, or `None` where it would block.

        Less than there was means that no more could be written now.  Also takes a `RingBuf`, whose content is written
        in one system call where it wraps around.  write(2), writev(2).

        Raises `ValueError` if the buffer is empty.
        """
        return give_buf(self, buf)

    def flush(self):
        """Does nothing, since nothing is buffered here; for what expects a raw stream of the `io` module."""
        self.require()

    # What the io module asks of a raw stream.

    def readable(self):
        """No: for the buffered classes of the `io` module."""
        self.require()
        return False

    def writable(self):
        """Yes: for the buffered classes of the `io` module."""
        self.require()
        return True

    def seekable(self):
        """No: for the buffered classes of the `io` module."""
        self.require()
        return False

    def push(self, fd, data, size):
        vector: iovec
        vector.iov_base = cython.cast(cython.p_void, data)
        vector.iov_len = size
        return write_silently(fd, cython.address(vector), 1)

    def push_vector(self, fd, vector, count):
        return write_silently(fd, vector, count)


@cython.cclass
class Receiver(IoSource):
    """The end of a pipe that is read from.  Made by `new` or `from_file`.

    Reads never block: they give `None` where they would.  It can stand under `io.BufferedReader`.  When the last sender
    is closed, and all is read, there is the end of the stream.

    A pipe whose sender has made it one of packets (`O_DIRECT`) is no stream: a read ends with a packet, so a short one
    does not mean that all has been read.  Read such a pipe until `None`.
    """

    @classmethod
    def from_file(cls, file):
        """Take over the end of a pipe that a file object has, such as the `stdout` of `subprocess.Popen`.

        The descriptor is duplicated and the file closed, so that each is closed once.  The pipe becomes non-blocking,
        also for others who have this end of it.  The file is left as it was where anything is raised.

        Raises `TypeError` for what is no binary file of the `io` module, `ValueError` for a closed one, one that is no
        pipe, or the other end, and for one that has read ahead; `OSError`.
        """
        receiver: Receiver = cls.__new__(cls)
        receiver.adopt(_take_over(file, os.O_RDONLY))
        return receiver

    def read(self, size=-1):
        """Up to `size` bytes; `b""` at the end of the stream, `None` where it would block.  read(2).

        Fewer than `size` bytes mean that all there was has been read.  With a negative size the same as `readall()`.
        """
        return take(self, size)

    def readall(self):
        """All bytes up to the end of the stream, or until it would block; `None` where there are none as yet."""
        return take_all(self)

    def readinto(self, buffer, /):
        """Read into a writable buffer: how many bytes; 0 at the end of the stream, `None` where it would block.

        Fewer than fit mean that all there was has been read.  read(2).
        """
        return take_into(self, buffer)

    def readv(self, buffers, /):
        """Read into several writable buffers, one after the other; as `readinto`.  readv(2)."""
        return take_vector(self, buffers)

    def read_buf(self, buf, /):
        """Read into the room of a `MutBuf`, which goes on by as much: how many bytes.

        0 at the end of the stream, `None` where it would block.  Less than there was room for means that all there was
        has been read.  Also takes a `RingBuf`, whose room is filled in one system call where it wraps around.
        read(2), readv(2).

        Raises `ValueError` if the buffer is full.
        """
        return take_buf(self, buf)

    def flush(self):
        """Does nothing; for what expects a raw stream of the `io` module."""
        self.require()

    # What the io module asks of a raw stream.

    def readable(self):
        """Yes: for the buffered classes of the `io` module."""
        self.require()
        return True

    def writable(self):
        """No: for the buffered classes of the `io` module."""
        self.require()
        return False

    def seekable(self):
        """No: for the buffered classes of the `io` module."""
        self.require()
        return False

    def pull(self, fd, into, size, flags):
        got: cython.Py_ssize_t = read(fd, into, size)
        while got < 0 and errno == EINTR:
            got = read(fd, into, size)
        return got if got >= 0 else -errno

    def pull_vector(self, fd, vector, count):
        got: cython.Py_ssize_t = readv(fd, vector, count)
        while got < 0 and errno == EINTR:
            got = readv(fd, vector, count)
        return got if got >= 0 else -errno


# -- Files ------------------------------------------------------------------------------------------------------------


def _take_over(file, mode):
    """A descriptor for the pipe of a file object, which is closed."""
    if not isinstance(file, (io.FileIO, io.BufferedReader, io.BufferedWriter)):
        raise TypeError(f"expected the binary file of a pipe, such as the stdout of a Popen, not {type(file).__name__}")
    fd: cython.int = file.fileno()
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        raise ValueError("that file is no pipe")
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_ACCMODE not in (mode, os.O_RDWR):
        raise ValueError(f"that end of the pipe is for {'writing' if mode == os.O_RDONLY else 'reading'}")
    copy: cython.int = duplicate(fd)
    if copy < 0:
        raise os_error(-copy)
    try:
        if isinstance(file, io.BufferedReader) and _has_read_ahead(file, fd, copy):
            raise ValueError("that file has read ahead, and its data would be lost: read it first")
        os.set_blocking(copy, False)
        try:
            file.flush()
        except BaseException as error:
            os.set_blocking(copy, not flags & os.O_NONBLOCK)
            if isinstance(error, BlockingIOError):
                raise os_error(EAGAIN, "the file holds more than the pipe has room for: flush it first") from None
            raise
        file.close()
    except BaseException:
        os.close(copy)
        raise
    return copy


def _has_read_ahead(file, fd, copy):
    # peek() shows what is there, but reads when nothing is: let that be from a pipe that has ended.
    inheritable = os.get_inheritable(fd)
    empty, other = os.pipe()
    os.close(other)
    try:
        os.dup2(empty, fd, inheritable)
        try:
            return len(file.peek()) > 0
        finally:
            os.dup2(copy, fd, inheritable)
    finally:
        os.close(empty)
