"""UnixStream: a connection between processes of one machine.

The kernel never joins what carried descriptors with what comes behind it: a read of a Unix stream stops there, and is
short while there is more to be read.  (With `SO_PASSCRED` it also stops where another process has written.)  No edge
tells of the rest, so a short read would not end the drain.  What is done about it:

- On Linux such a read sets `MSG_CTRUNC`, as it throws the descriptors away (or the credentials, of which it is said
  whether there are any or not).  But recvmsg(2), which tells that, costs a fifth more than recv(2).
- So a stream reads by recv(2) as long as its reads are full, when it does not matter, and by recvmsg(2) after one was
  short; where it guessed wrong, or recvmsg(2) said `MSG_CTRUNC`, it asks how much is left (`FIONREAD`).
- If something is left the registration is renewed, and the next poll reports it.

All of that is for edge-triggered registrations; others get recv(2) and no more.
"""

import warnings

import cython
from cython.cimports.cpython.buffer import PyBuffer_Release
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.cpython.exc import PyErr_SetObject, PyErr_WriteUnraisable
from cython.cimports.libc.errno import EAFNOSUPPORT, EAGAIN, EBADF, EINPROGRESS, EINTR, ENOSYS, ENOTCONN, errno
from cython.cimports.libc.limits import INT_MAX
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.metalio._sys.address import read_path
from cython.cimports.metalio._sys.bits import PRIORITY, READABLE, WRITABLE
from cython.cimports.metalio._sys.sockets import (
    AF_UNIX,
    CMSG_DATA,
    CMSG_FIRSTHDR,
    CMSG_LEN,
    CMSG_NXTHDR,
    CMSG_SPACE,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    MSG_NOSIGNAL,
    SCM_RIGHTS,
    SOCK_STREAM,
    SOL_SOCKET,
    WINDOWS,
    Address,
    cmsghdr,
    connect,
    iovec,
    msghdr,
    open_pair,
    open_socket,
    recvmsg,
    sendmsg,
)
from cython.cimports.metalio._sys.table import ALWAYS, Record, is_edge
from cython.cimports.metalio.net.socket import take_over
from cython.cimports.metalio.net.stream import Stream
from cython.cimports.metalio.own_source import own_methods
from cython.cimports.metalio.transfer import borrow, refuse

from metalio._sys.errors import os_error
from metalio.net.peer_cred import PeerCred

# How many descriptors go with one message: SCM_MAX_FD of Linux.
_MOST_FDS = cython.declare(cython.Py_ssize_t, 253)
# As in metalio.transfer: what is copied with the GIL held, and what one system call is asked for.
_LARGE = cython.declare(cython.Py_ssize_t, 65536)
_MOST = cython.declare(cython.Py_ssize_t, 1 << 30)


@cython.cclass
class UnixStream(Stream):
    """A connection over a Unix socket.  Made by `connect`, `pair`, `from_socket`, or `UnixListener.accept`.

    Reads and writes never block: they give `None` where they would.  It can stand under `io.BufferedReader`.

    `send_fds` and `recv_fds` pass open descriptors along.  Every other way of reading throws away, as the kernel does,
    the descriptors that come with what it reads.
    """

    @classmethod
    def connect(cls, path):
        """Connect to a path, or on Linux to an abstract address: `b"\\0name"`.  socket(2), connect(2).

        It is connected when this returns, or there is an `OSError`.  When as many connections wait as the listener lets
        wait, Linux does not queue another but says `EAGAIN`: that is a `BlockingIOError`, and nothing tells when there
        is room, so try again after a while.  Raises `TypeError` or `ValueError` for what is no path.

        On Windows the connection may still be under way: it is writable once it is there, or has failed (`take_error`).
        A Windows without Unix sockets, which came with Windows 10 1803, raises `OSError` (`WSAEAFNOSUPPORT`).
        """
        address: Address
        read_path(path, cython.address(address))
        stream: UnixStream = cls.__new__(cls)
        stream.adopt(open_stream())
        try:
            if connect(stream.fd, cython.address(address.any), address.size) < 0 and errno != EINPROGRESS:
                error: cython.int = errno
                raise os_error(error, "the listener's backlog is full: try again later" if error == EAGAIN else None)
        except BaseException:
            stream.close()
            raise
        return stream

    @classmethod
    def pair(cls):
        """Two streams that are connected with each other (socketpair(2)).  Raises `OSError`.

        Windows has no such pairs: there it raises `NotImplementedError`.
        """
        if WINDOWS:
            raise NotImplementedError("Windows has no pairs of Unix sockets: bind a UnixListener and connect to it")
        fds = cython.declare(cython.int[2])
        one: UnixStream = cls.__new__(cls)
        other: UnixStream = cls.__new__(cls)
        error: cython.int = open_pair(AF_UNIX, SOCK_STREAM, fds)
        if error:
            raise os_error(error)
        one.adopt(fds[0])
        other.adopt(fds[1])
        return (one, other)

    @classmethod
    def from_socket(cls, sock):
        """Take over a `socket.socket`, which is detached.  It becomes non-blocking.

        Raises `TypeError` for what is none, `ValueError` if it is not a Unix stream socket.
        """
        stream: UnixStream = cls.__new__(cls)
        stream.adopt(take_over(sock, (AF_UNIX,), SOCK_STREAM))
        return stream

    @property
    def peer_cred(self):
        """Who is at the other end, as `PeerCred(pid, uid, gid)` (`SO_PEERCRED`).

        It is the process that connected, listened or made the pair, even if another has the descriptor by now.  A pid
        of 0 is one that cannot be seen from here.  What the platform does not tell is -1: the pid on FreeBSD, NetBSD
        and DragonFly BSD (getpeereid(3); macOS has `LOCAL_PEERPID`), all but the pid on Windows
        (`SIO_AF_UNIX_GETPEERPID`).  Raises `OSError` (`ENOTCONN`) if there is no peer, `NotImplementedError` where the
        platform has nothing like it.
        """
        cred: Cred
        memset(cython.address(cred), 0, cython.sizeof(Cred))
        error: cython.int
        with cython.critical_section(self):
            self.require()
            error = read_peer_cred(self.fd, cython.address(cred))
        if error == ENOSYS:
            raise NotImplementedError("this platform does not tell who is at the other end of a socket")
        if error:
            raise os_error(error, "there is no peer" if error == ENOTCONN else None)
        return PeerCred(cred.pid, cred.uid, cred.gid)

    # -- Descriptors --------------------------------------------------------------------------------------------------

    def send_fds(self, data, fds):
        """Write from a buffer as `write` does, and have descriptors go with the first byte: how many bytes, or `None`.

        `fds` are up to 253 descriptors, or objects with a `fileno()`; one may come twice.  They are duplicated: close
        your own as you like.  Fewer bytes than there are mean that no more could be written now, but the descriptors
        are on their way: send the rest by `write()`.  With `None` neither were sent.

        sendmsg(2), `SCM_RIGHTS`; never a `SIGPIPE`.  Raises `ValueError` for no data at all or too many descriptors,
        `OSError`: `EBADF` for one that is not open, `ETOOMANYREFS` where too many are on their way;
        `NotImplementedError` on Windows.
        """
        require_descriptors()
        view: Py_buffer
        control = cython.declare(cython.size_t[256])
        numbers = cython.declare(cython.int[253])
        message: msghdr
        vector: iovec
        # Kept until they are sent, or what fileno() told of could be closed by then.
        held: list = list(fds)
        count: cython.Py_ssize_t = len(held)
        if count > _MOST_FDS:
            raise ValueError(f"at most {_MOST_FDS} descriptors go with one message, not {count}")
        index: cython.Py_ssize_t
        for index in range(count):
            numbers[index] = _number(held[index])
        memset(cython.address(message), 0, cython.sizeof(msghdr))
        message.msg_iov = cython.address(vector)
        message.msg_iovlen = 1
        if count:
            size: cython.size_t = count * cython.sizeof(cython.int)
            memset(control, 0, cython.sizeof(control))
            message.msg_control = control
            message.msg_controllen = CMSG_SPACE(size)
            header: cython.pointer[cmsghdr] = CMSG_FIRSTHDR(cython.address(message))
            header.cmsg_level = SOL_SOCKET
            header.cmsg_type = SCM_RIGHTS
            header.cmsg_len = CMSG_LEN(size)
            memcpy(CMSG_DATA(header), numbers, size)
        borrow(data, cython.address(view), False)
        try:
            if view.len == 0:
                raise ValueError("descriptors go with data: send at least one byte")
            vector.iov_base = view.buf
            vector.iov_len = view.len
            with cython.critical_section(self):
                self.require()
                return self.send_message(cython.address(message), view.len)
        finally:
            PyBuffer_Release(cython.address(view))

    def recv_fds(self, size, max_fds=253):
        """Read up to `size` bytes, and the descriptors that come with them: `(bytes, [descriptor, …])`, or `None`.

        `(b"", [])` is the end of the stream.  What carried descriptors ends with the bytes that it came with: more may
        follow at once.  The descriptors are this process's own, are not inherited by what it executes, and are to be
        closed by the caller.

        More than `max_fds` (0 to 253), or than the process may have open, are discarded with a `RuntimeWarning`; data
        and the other descriptors are returned all the same.  Where warnings are errors that one goes to
        `sys.unraisablehook`, since raising it would lose them.

        recvmsg(2), `SCM_RIGHTS`, `MSG_CMSG_CLOEXEC`.  Raises `ValueError` for a size below 1, `NotImplementedError` on
        Windows.
        """
        require_descriptors()
        wanted: cython.Py_ssize_t = size
        most: cython.Py_ssize_t = max_fds
        if wanted < 1:
            raise ValueError("descriptors come with data: read at least one byte")
        if most < 0 or most > _MOST_FDS:
            raise ValueError(f"max_fds is a number from 0 to {_MOST_FDS}, not {max_fds}")
        small = cython.declare(cython.char[65536])
        large: bytes = None
        vector: iovec
        vector.iov_base = small
        vector.iov_len = wanted if wanted < _MOST else _MOST
        if wanted > _LARGE:
            large = PyBytes_FromStringAndSize(cython.NULL, vector.iov_len)
            vector.iov_base = PyBytes_AS_STRING(large)
        # Room for more than the most descriptors: what a smaller one would cut off is not told apart from what the
        # kernel rounds up to, and credentials may stand before them.
        control = cython.declare(cython.size_t[256])
        message: msghdr
        memset(cython.address(message), 0, cython.sizeof(msghdr))
        message.msg_iov = cython.address(vector)
        message.msg_iovlen = 1
        message.msg_control = control
        message.msg_controllen = cython.sizeof(control)
        numbers = cython.declare(cython.int[512])
        count: cython.Py_ssize_t = 0
        with cython.critical_section(self):
            self.require()
            if self.deferred:
                error: cython.int = self.deferred
                self.deferred = 0
                raise os_error(error)
            got: cython.Py_ssize_t = self.receive_message(cython.address(message), wanted > _LARGE)
            if got < 0:
                return refuse(self, -got, READABLE | PRIORITY)
            # From here to the end the descriptors are ours, and nothing may get in between.
            count = _descriptors(cython.address(message), numbers)
            kept: cython.Py_ssize_t = count if count < most else most
            discarded: cython.bint = count > kept or message.msg_flags & MSG_CTRUNC
            try:
                _close_from(numbers, kept, count)
                count = kept
                if got < cython.cast(cython.Py_ssize_t, vector.iov_len):
                    if message.msg_controllen or message.msg_flags & MSG_CTRUNC or not TELLS_TRUNCATION:
                        self.doubtful = True
                    self.renew_short(READABLE | PRIORITY)
                fds: list = [numbers[index] for index in range(kept)]
                data: bytes = large
                if large is None or got < len(large):
                    data = PyBytes_FromStringAndSize(cython.cast(cython.p_char, vector.iov_base), got)
                result: tuple = (data, fds)
                if discarded:
                    _warn(self, kept)
                return result
            except BaseException:
                _close_from(numbers, 0, count)
                raise

    # -- How the bytes are moved --------------------------------------------------------------------------------------

    def send_message(self, message, size):
        sent: cython.Py_ssize_t
        fd: cython.int = self.fd
        if self.deferred_out:
            sent = -self.deferred_out
            self.deferred_out = 0
        elif size <= _LARGE:
            sent = _send(fd, message)
        else:
            self.pin()
            with cython.nogil:
                sent = _send(fd, message)
            self.unpin()
        if sent >= 0:
            if sent < size:
                self.renew_short(WRITABLE)
            return sent
        if sent == -EBADF:
            raise os_error(EBADF, "one of the descriptors is not open")
        if sent == -ETOOMANYREFS:
            raise os_error(ETOOMANYREFS, "too many descriptors are on their way and not yet received")
        return refuse(self, -sent, WRITABLE)

    def receive_message(self, message, large):
        got: cython.Py_ssize_t
        fd: cython.int = self.fd
        if not large:
            return self.receive(fd, message, MSG_CMSG_CLOEXEC)
        self.pin()
        with cython.nogil:
            got = self.receive(fd, message, MSG_CMSG_CLOEXEC)
        self.unpin()
        return got

    def receive(self, fd, message, flags):
        room: cython.size_t = message.msg_controllen
        got: cython.Py_ssize_t = recvmsg(fd, message, flags)
        while got < 0 and errno == EINTR:
            message.msg_controllen = room
            got = recvmsg(fd, message, flags)
        return got if got >= 0 else -errno

    def pull(self, fd, into, size, flags):
        got: cython.Py_ssize_t
        asked: cython.Py_ssize_t = size
        if flags or not self.wary:
            got = Stream.pull(self, fd, into, size, flags)
            if got > 0 and got < asked and flags == 0:
                self.doubtful = True
            return got
        vector: iovec
        vector.iov_base = into
        vector.iov_len = size
        message: msghdr
        memset(cython.address(message), 0, cython.sizeof(msghdr))
        message.msg_iov = cython.address(vector)
        message.msg_iovlen = 1
        got = self.receive(fd, cython.address(message), 0)
        if got == asked:
            self.wary = False
        elif got > 0 and message.msg_flags & MSG_CTRUNC:
            self.doubtful = True
        return got

    def pull_vector(self, fd, vector, count):
        message: msghdr
        memset(cython.address(message), 0, cython.sizeof(msghdr))
        message.msg_iov = vector
        message.msg_iovlen = count
        got: cython.Py_ssize_t = self.receive(fd, cython.address(message), 0)
        if got > 0 and (message.msg_flags & MSG_CTRUNC or not TELLS_TRUNCATION):
            self.doubtful = True
        return got

    def renew_short(self, directions):
        record: Record = self.record
        if record is None or not is_edge(record):
            return 0
        if record.renew_short == ALWAYS:
            return self.renew(directions)
        if directions & READABLE:
            self.wary = TELLS_TRUNCATION
            # Whoever finds this set looks after it was set.  So it does not matter which of several threads that is.
            if self.doubtful:
                self.doubtful = False
                if unread(self.fd) != 0:
                    return self.renew(directions)
        return 0


own_methods(UnixStream)


def open_stream():
    """A new descriptor."""
    fd: cython.int = open_socket(AF_UNIX, SOCK_STREAM)
    if fd < 0:
        hint = "Unix sockets came with Windows 10 1803" if WINDOWS and -fd == EAFNOSUPPORT else None
        raise os_error(-fd, hint)
    return fd


@cython.cfunc
@cython.exceptval(-1)
def require_descriptors() -> cython.int:
    if WINDOWS:
        raise NotImplementedError("Windows does not pass descriptors over Unix sockets: see socket.socket.share()")
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _number(entry) -> cython.int:
    """The number of a descriptor that is to be sent."""
    number = entry
    if not isinstance(number, int):
        fileno = getattr(entry, "fileno", None)
        if fileno is None:
            raise TypeError(f"a descriptor is an int or has a fileno(); {type(entry).__name__} is neither")
        number = fileno()
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"a descriptor is an int, not {type(number).__name__}")
    if not 0 <= number <= INT_MAX:
        raise ValueError(f"{number} is no descriptor")
    return number


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _send(fd: cython.int, message: cython.pointer[msghdr]) -> cython.Py_ssize_t:
    sent: cython.Py_ssize_t = sendmsg(fd, message, MSG_NOSIGNAL)
    while sent < 0 and errno == EINTR:
        sent = sendmsg(fd, message, MSG_NOSIGNAL)
    return sent if sent >= 0 else -errno


@cython.cfunc
@cython.exceptval(check=False)
def _descriptors(message: cython.pointer[msghdr], numbers: cython.pointer[cython.int]) -> cython.Py_ssize_t:
    """Take the descriptors out of a message: how many."""
    count: cython.Py_ssize_t = 0
    size: cython.size_t
    header: cython.pointer[cmsghdr] = CMSG_FIRSTHDR(message)
    while header != cython.NULL:
        size = header.cmsg_len - CMSG_LEN(0)
        if header.cmsg_level == SOL_SOCKET and header.cmsg_type == SCM_RIGHTS:
            memcpy(cython.address(numbers[count]), CMSG_DATA(header), size)
            count += size // cython.sizeof(cython.int)
        elif header.cmsg_level == SOL_SOCKET and header.cmsg_type == SCM_PIDFD:
            # Not one that was sent, but it has been made for us.
            pidfd: cython.int = -1
            memcpy(cython.address(pidfd), CMSG_DATA(header), cython.sizeof(cython.int))
            if pidfd >= 0:
                close_fd(pidfd)
        header = CMSG_NXTHDR(message, header)
    index: cython.Py_ssize_t
    for index in range(count):
        close_on_exec(numbers[index])
    return count


@cython.cfunc
@cython.exceptval(check=False)
def _close_from(numbers: cython.pointer[cython.int], first: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
    index: cython.Py_ssize_t
    for index in range(first, end):
        close_fd(numbers[index])
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _warn(stream: UnixStream, kept: cython.Py_ssize_t) -> cython.int:
    try:
        warnings.warn(
            f"descriptors were discarded: {kept} were received, and more had been sent than max_fds allows or than "
            "this process may have open",
            RuntimeWarning,
            stacklevel=1,
        )
    except Exception as error:
        PyErr_SetObject(type(error), error)
        PyErr_WriteUnraisable(stream)
    return 0
