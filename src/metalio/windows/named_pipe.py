"""Named pipes: `NamedPipe`."""

import cython
from cython.cimports.cpython.mem import PyMem_Free
from cython.cimports.cpython.unicode import PyUnicode_AsWideCharString
from cython.cimports.libc.errno import EAGAIN
from cython.cimports.libc.stddef import wchar_t
from cython.cimports.libc.stdint import uint32_t, uintptr_t
from cython.cimports.metalio._sys.bits import READABLE
from cython.cimports.metalio._sys.pipes import (
    PipeInfo,
    PipeNode,
    ask,
    associate,
    close_pipe,
    create_pipe,
    is_pipe,
    new_engine,
    open_pipe,
    pull_pipe,
    push_pipe,
    read_messages,
)
from cython.cimports.metalio._sys.port_source import PortSource
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

from metalio._sys.errors import WINDOWS, os_error

__all__ = ["NamedPipe"]

# PIPE_ACCESS_INBOUND, PIPE_ACCESS_OUTBOUND.
_ACCESS = {"inbound": 1, "outbound": 2, "duplex": 3}
_GENERIC_READ = cython.declare(uint32_t, 0x80000000)
_GENERIC_WRITE = cython.declare(uint32_t, 0x40000000)
_FIRST_PIPE_INSTANCE = cython.declare(uint32_t, 0x00080000)
_MESSAGES = cython.declare(uint32_t, 6)  # PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE
_REJECT_REMOTE_CLIENTS = cython.declare(uint32_t, 8)
_UNLIMITED = cython.declare(uint32_t, 255)
_PIPE_BUSY = 231


@cython.final
@cython.cclass
class PipeSource(PortSource):
    """What is registered of a `NamedPipe`."""

    def pipe(self):
        return cython.cast(PipeNode, self.node)

    def attach(self, selector):
        if self.port_of is selector:
            return 0
        error: cython.int = 1
        if self.port_of is None:
            with cython.critical_section(selector.table):
                selector.check()
                error = associate(self.pipe().engine.handle, selector.port, self.key)
        if error:
            raise FileExistsError(
                "a pipe belongs to the completion port of the Poll that it was first registered with, for good: it "
                "cannot be registered with another one"
            )
        self.port_of = selector
        return 0

    def want(self, interest):
        return self.pipe().want(interest & READABLE != 0)

    def detach(self):
        return self.pipe().want(False)


@cython.cclass
class NamedPipe(IoSource):
    r"""An end of a named pipe: a server's instance (`create`), or a client (`open`).

    Operations on it never block.  It is a source: readable when there is something to read, or the end of the stream;
    writable when there is a connection, and what was written last is on its way.  It may be used from several threads.

    One instance has one client at a time.  A server makes as many of one name as it is to have clients at a time, and
    another one after each that has connected.

    Reading goes ahead of the program (16 KiB) once it is registered for reading, or `read` has been called; what is
    written is copied.  So `write` may have taken what the peer never gets, if either of them is closed.

    It can be registered with one `Poll` only, also after it was deregistered (`FileExistsError`).  Until it is, the
    system takes back what is under way when the thread that began it ends: then a write is lost, and the next call says
    so (`winerror` 995).
    """

    @classmethod
    def create(cls, name, access="duplex", *, message=False, first=False, instances=None, remote=False, size=65536):
        r"""A new instance of the pipe of this name, which begins with `\\.\pipe\`; then `connect()`.

        `access` is what this end may do: `"inbound"` reads, `"outbound"` writes, `"duplex"` both; all instances of a
        name have to agree in it.  `message` has it keep to the bounds of messages.  `first` refuses a name that there
        is already (`PermissionError`), so that nobody else is taken for this server.  `instances` is how many there may
        be (1 to 254; `None`: no limit), which the first one decides.  `remote` admits clients of other machines.
        `size` is how many bytes the kernel takes in advance, in each direction.

        Its security is the system's default: full access for this user and administrators, reading for everybody.
        The handle is not inherited by children.

        CreateNamedPipe.  Raises `OSError`; `ValueError`.
        """
        pipe: NamedPipe = cls.__new__(cls)
        mode: uint32_t = _access(access)
        kind: uint32_t = (_MESSAGES if message else 0) | (0 if remote else _REJECT_REMOTE_CLIENTS)
        most: uint32_t = _UNLIMITED
        if instances is not None:
            if not 1 <= instances <= 254:
                raise ValueError(f"a pipe has from 1 to 254 instances, or None for no limit, not {instances}")
            most = instances
        room: uint32_t = size
        handle: cython.p_void = cython.NULL
        wide: cython.pointer[wchar_t] = _wide(name)
        error: cython.int = create_pipe(
            wide, mode | (_FIRST_PIPE_INSTANCE if first else 0), kind, most, room, cython.address(handle)
        )
        PyMem_Free(wide)
        if error:
            raise os_error(WINDOWS + error)
        info: PipeInfo
        info.server = True
        info.connected = False
        info.messages = message
        info.access = mode
        pipe.own(handle, cython.address(info))
        return pipe

    @classmethod
    def open(cls, name, access="duplex", *, message=False):
        r"""A client of the pipe of this name: `\\.\pipe\…`, or `\\machine\pipe\…`.  It is connected.

        `access` and `message` are as for `create`, as seen from this end: the other end of an inbound pipe is outbound.

        CreateFile; the server may learn who the client is, but not act in its name.  Raises `FileNotFoundError` if
        there is none of this name; `OSError` with the `winerror` 231 (`ERROR_PIPE_BUSY`) if all its instances have a
        client, and then it is worth trying again later; `ValueError` for what is no pipe.
        """
        pipe: NamedPipe = cls.__new__(cls)
        mode: uint32_t = _access(access)
        rights: uint32_t = (_GENERIC_READ if mode & 1 else 0) | (_GENERIC_WRITE if mode & 2 else 0)
        handle: cython.p_void = cython.NULL
        wide: cython.pointer[wchar_t] = _wide(name)
        error: cython.int = open_pipe(wide, rights, cython.address(handle))
        PyMem_Free(wide)
        if error == _PIPE_BUSY:
            raise os_error(WINDOWS + error, "all its instances have a client; try again later")
        if error:
            raise os_error(WINDOWS + error)
        if not is_pipe(handle):
            close_pipe(handle)
            raise ValueError(f"{name!r} is no pipe")
        if message:
            error = read_messages(handle)
            if error:
                close_pipe(handle)
                raise os_error(WINDOWS + error, "this pipe has no messages")
        info: PipeInfo
        info.server = False
        info.connected = True
        info.messages = message
        info.access = mode
        pipe.own(handle, cython.address(info))
        return pipe

    @classmethod
    def from_handle(cls, handle):
        """Take over the handle of a pipe, which has to be open for overlapped operations.

        From here on it belongs to this object, unless it raises.  No operation may be under way, and it may not have
        been given to a completion port; such as one of asyncio's.  Raises `ValueError` for what is no such handle.
        """
        pipe: NamedPipe = cls.__new__(cls)
        number: uintptr_t = handle
        found: cython.p_void = cython.cast(cython.p_void, number)
        info: PipeInfo
        ask(found, cython.address(info))
        if not info.is_pipe:
            raise ValueError("that is no pipe")
        if info.overlapped == 0:
            raise ValueError("that pipe was not opened for overlapped operations, so it would block")
        pipe.own(found, cython.address(info))
        return pipe

    def connect(self):
        """Wait for a client, of a server's instance: `True` if there is one, `None` if there is none as yet.

        Then there is an event once it has come (writable, whatever the access); `connect()` then is `True`, and goes on
        being so until `disconnect()`, also when the client has gone.

        ConnectNamedPipe.  Raises `OSError`, `ValueError` for a client.
        """
        with cython.critical_section(self):
            self.require()
            self.check_server()
            error: cython.int = self.node.connect()
            self.settle()
        if error == EAGAIN:
            return None
        if error:
            raise os_error(error)
        return True

    def disconnect(self):
        """Be rid of the client, so that `connect()` can wait for another one.

        What either has not read yet is lost: wait until the client says that it has all, or closes its end.

        DisconnectNamedPipe.  Raises `OSError`, `ValueError` for a client.
        """
        with cython.critical_section(self):
            self.require()
            self.check_server()
            error: cython.int = self.node.disconnect()
            self.deferred = self.deferred_out = 0
            self.settle()
        if error:
            raise os_error(error)

    def read(self, size=-1):
        """Up to `size` bytes; `b""` at the end of the stream, `None` where it would block.  ReadFile.

        Fewer than `size` bytes mean that all there was has been read.  With a negative size the same as `readall()`.

        With messages: of one message, whose rest the next call gives (`message_complete` tells); with a negative size
        all of it.  Then less means nothing: read until `None`.  A message of no bytes is passed over.
        """
        self.require()
        try:
            return self.read_message() if size < 0 and self.node.engine.messages else take(self, size)
        finally:
            self.settle()

    def readall(self):
        """All bytes up to the end of the stream, or until it would block; `None` where there are none as yet."""
        try:
            return take_all(self)
        finally:
            self.settle()

    def readinto(self, buffer, /):
        """Read into a writable buffer: how many bytes; 0 at the end of the stream, `None` where it would block."""
        try:
            return take_into(self, buffer)
        finally:
            self.settle()

    def readv(self, buffers, /):
        """Read into several writable buffers, one after the other; as `readinto`."""
        try:
            return take_vector(self, buffers)
        finally:
            self.settle()

    def read_buf(self, buf, /):
        """Read into the room of a `MutBuf` or a `RingBuf`, which goes on by as much: how many bytes; as `readinto`.

        Raises `ValueError` if the buffer is full.
        """
        try:
            return take_buf(self, buf)
        finally:
            self.settle()

    def write(self, data, /):
        """Write from a buffer: how many bytes, or `None` where it would block: the last ones are still on their way.

        Fewer than there are mean that no more could be written now.  They are copied; 64 KiB at a time, or the whole
        message.  WriteFile.  Raises `BrokenPipeError` if the peer has gone; that may also be told by the next call.
        """
        try:
            return give(self, data)
        finally:
            self.settle()

    def writev(self, buffers, /):
        """Write several buffers, one after the other; as `write`.  With messages each is one."""
        try:
            return give_vector(self, buffers)
        finally:
            self.settle()

    def write_buf(self, buf, /):
        """Write what is left in a `Buf` or a `RingBuf`, which goes on by as much: how many bytes; as `write`.

        Raises `ValueError` if the buffer is empty.
        """
        try:
            return give_buf(self, buf)
        finally:
            self.settle()

    @property
    def message_complete(self):
        """Whether the last read has reached the end of a message.  Never where there are no messages."""
        with cython.critical_section(self):
            self.require()
            return self.node.engine.complete

    def take_error(self):
        """The error of an operation that has ended, as an `OSError`, or `None`.  It is told once, here or elsewhere."""
        with cython.critical_section(self):
            self.require()
            error: cython.int = self.node.take_error()
            self.settle()
        return os_error(error) if error else None

    def flush(self):
        """Does nothing: nobody can wait for it here.  For what expects a raw stream of the `io` module."""
        self.require()

    def readable(self):
        """Whether this end reads: for the buffered classes of the `io` module."""
        with cython.critical_section(self):
            self.require()
            return self.node.engine.inbound

    def writable(self):
        """Whether this end writes: for the buffered classes of the `io` module."""
        with cython.critical_section(self):
            self.require()
            return self.node.engine.outbound

    def seekable(self):
        """No: for the buffered classes of the `io` module."""
        self.require()
        return False

    def __repr__(self):
        return f"<{type(self).__name__} closed>" if self.fd < 0 else f"<{type(self).__name__} handle={self.fd:#x}>"

    def __dealloc__(self):
        # For a subclass whose finaliser forgot this one's; it is no socket, as the base would have it.
        self.fd = -1
        if self.node is not None and self.node.engine != cython.NULL:
            self.node.shut()

    # -- What lies beneath --------------------------------------------------------------------------------------------

    def own(self, handle, info):
        """Take over a handle."""
        source: PipeSource = PipeSource.__new__(PipeSource)
        source.node = PipeNode.__new__(PipeNode)
        source.pipe().engine = new_engine(handle, info)
        self.source = source
        self.node = source.pipe()
        self.adopt(cython.cast(cython.int, cython.cast(uintptr_t, handle)))
        return 0

    def check_server(self):
        if not self.node.engine.server:
            raise ValueError("this is the client's end of a pipe")
        return 0

    def read_message(self):
        pieces: list = []
        while True:
            piece = take(self, 65536)
            if not piece:
                return b"".join(pieces) if pieces else piece
            pieces.append(piece)
            if self.node.engine.complete:
                return b"".join(pieces)

    def settle(self):
        """Have the node say what is ready after a transfer."""
        if self.fd >= 0:
            self.node.refresh()
        return 0

    def surrender(self):
        fd: cython.int = -1
        # The base asks once more at the very end, when there are no fields any more.
        if self.fd >= 0:
            fd = self.fd
            self.fd = -1
            self.source.close()
        return fd

    def close_descriptor(self, fd):
        self.node.shut()
        return 0

    def enter(self, selector, token, interest, options):
        self.require()
        return self.source.enter(selector, token, interest, options)

    def change(self, selector, token, interest, options):
        self.require()
        return self.source.change(selector, token, interest, options)

    def leave(self, selector):
        self.require()
        return self.source.leave(selector)

    def pull(self, fd, into, size, flags):
        return pull_pipe(self.node.engine, cython.cast(cython.p_char, into), size)

    def push(self, fd, data, size):
        return push_pipe(self.node.engine, cython.cast(cython.p_const_char, data), size)

    def pull_vector(self, fd, vector, count):
        moved: cython.Py_ssize_t = 0
        index: cython.int
        for index in range(count):
            if vector[index].iov_len == 0:
                continue
            got: cython.Py_ssize_t = self.pull(fd, vector[index].iov_base, vector[index].iov_len, 0)
            if got < 0:
                return moved if moved else got
            moved += got
            if cython.cast(cython.size_t, got) < vector[index].iov_len or self.node.engine.complete:
                break
        return moved

    def push_vector(self, fd, vector, count):
        moved: cython.Py_ssize_t = 0
        index: cython.int
        for index in range(count):
            if vector[index].iov_len == 0:
                continue
            sent: cython.Py_ssize_t = self.push(fd, vector[index].iov_base, vector[index].iov_len)
            if sent < 0:
                return moved if moved else sent
            moved += sent
            if cython.cast(cython.size_t, sent) < vector[index].iov_len:
                break
        return moved


@cython.cfunc
@cython.exceptval(0)
def _access(access) -> uint32_t:
    if not isinstance(access, str):
        raise TypeError(f"access is a string, not {type(access).__name__}")
    if access not in _ACCESS:
        raise ValueError(f'access is "duplex", "inbound" or "outbound", not {access!r}')
    return _ACCESS[access]


@cython.cfunc
def _wide(name) -> cython.pointer[wchar_t]:
    """The name for the system, to be freed."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a pipe is a string, not {type(name).__name__}")
    if not name.startswith("\\\\"):
        raise ValueError(f"the name of a pipe begins with \\\\.\\pipe\\, unlike {name!r}")
    # Without a place for its size it refuses a null character.
    return PyUnicode_AsWideCharString(name, cython.NULL)
