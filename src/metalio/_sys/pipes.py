"""Windows: readiness of named pipes, made of operations that complete.

A pipe is always read ahead of its reader: an operation reads into the engine's own memory, and when it has ended there
is something to read.  What is written is copied, and an operation writes the copy; until it has ended there is no room.
`Engine` is that memory, with a lock of its own, since completions are seen to by polls, and transfers may run without
the GIL.  What is done under the lock takes no other lock, and does not wait for the GIL.

**When an operation has ended** is told by the status in its request, which the kernel stores after everything else.  A
completion only says that it is time to look (`_sys/afd.py`), so none has to be matched with its operation, and it does
not matter whether one comes for what was done at once, or comes after the pipe was closed.

**No event is lost.**  What the node has been told is in `shown`.  Whoever takes away readiness, by reading all there is
or by filling the pipe, takes it out of `shown` before the lock is given up; whoever finds, under the lock, that there
is readiness which is not in `shown`, tells the node, and that is an edge.  When an operation is left under way a
completion comes for it, and brings somebody here.

**Nothing is used after it was freed.**  The kernel writes to an engine's memory until its operations have ended.
Closing cancels them, which is done at once or nearly so.  What has not ended then is not waited for: the engine is put
aside, and freed when another one is closed and it is found to have ended.  In the worst case it is lost, on purpose.
"""

import cython
from cython.cimports.cpython.mem import PyMem_RawCalloc, PyMem_RawFree, PyMem_RawRealloc
from cython.cimports.libc.errno import EAGAIN, ENOMEM
from cython.cimports.libc.stdint import uint32_t
from cython.cimports.libc.string import memcpy
from cython.cimports.metalio._sys.bits import FAILED, HANGUP, READABLE, UNASKED, WRITABLE
from cython.cimports.metalio._sys.native import load, swap_if
from cython.cimports.metalio._sys.user_space import READY, Node, UserSpace

# The numbers of Windows' own errors go from here on, among those of the C library; sources keep them in 15 bits.
_WINDOWS = cython.declare(cython.int, 1 << 14)

_FILE_READ_DATA = cython.declare(uint32_t, 1)
_FILE_WRITE_DATA = cython.declare(uint32_t, 2)

# What was closed while operations were under way.
_graves = cython.declare(cython.pointer[Engine], cython.NULL)
_graves_lock = cython.declare(Lock)


@cython.final
@cython.cclass
class PipeNode(Node):
    """A pipe, as its poll sees it."""

    def __dealloc__(self):
        engine: cython.pointer[Engine] = self.engine
        if engine != cython.NULL:
            self.shut()
            self.engine = cython.NULL
            _bury(engine)

    def arm(self, interest):
        return Node.arm(self, interest | UNASKED if interest else 0)

    def notice(self):
        lock_it(cython.address(self.engine.lock))
        woken: cython.bint = self.show()
        unlock_it(cython.address(self.engine.lock))
        return woken

    def refresh(self):
        if self.notice():
            cython.cast(UserSpace, self.space).alert()
        return 0

    def show(self):
        """Have the node say what is ready; the lock is held.  Whether somebody has to be woken."""
        engine: cython.pointer[Engine] = self.engine
        _see(engine)
        ready: cython.int = _ready(engine)
        gained: cython.int = ready & ~engine.shown
        engine.shown = ready
        if gained:
            return self.mark(ready) != cython.NULL
        # Whatever there is less than before is no event.
        state: cython.int = load(cython.address(self.state))
        while not swap_if(cython.address(self.state), cython.address(state), state & ~(READY & ~ready)):
            pass
        return False

    def want(self, reading):
        lock_it(cython.address(self.engine.lock))
        self.engine.eager = reading
        unlock_it(cython.address(self.engine.lock))
        return self.refresh()

    def connect(self):
        engine: cython.pointer[Engine] = self.engine
        lock_it(cython.address(engine.lock))
        _see(engine)
        if not (engine.connect_error or engine.connected):
            engine.connect_wanted = True
            _see(engine)
        error: cython.int = EAGAIN
        if engine.connect_error:
            error = _WINDOWS + engine.connect_error
            engine.connect_error = 0
        elif engine.connected:
            error = 0
        unlock_it(cython.address(engine.lock))
        return error

    def disconnect(self):
        engine: cython.pointer[Engine] = self.engine
        lock_it(cython.address(engine.lock))
        cancel_all(engine.handle)
        error: cython.int = disconnect_pipe(engine.handle)
        if error:
            error += _WINDOWS
        engine.connecting.abandoned = engine.connecting.begun
        engine.reading.abandoned = engine.reading.begun
        engine.writing.abandoned = engine.writing.begun
        engine.connected = engine.connect_wanted = engine.ended = engine.more = engine.complete = False
        engine.first = engine.last = 0
        engine.connect_error = engine.read_error = engine.write_error = 0
        unlock_it(cython.address(engine.lock))
        return error

    def take_error(self):
        engine: cython.pointer[Engine] = self.engine
        lock_it(cython.address(engine.lock))
        _see(engine)
        error: cython.int = engine.connect_error or engine.write_error or engine.read_error
        if engine.connect_error:
            engine.connect_error = 0
        elif engine.write_error:
            engine.write_error = 0
        else:
            engine.read_error = 0
        unlock_it(cython.address(engine.lock))
        return _WINDOWS + error if error else 0

    def shut(self):
        """Close the handle."""
        engine: cython.pointer[Engine] = self.engine
        lock_it(cython.address(engine.lock))
        handle: cython.p_void = engine.handle
        engine.handle = cython.NULL
        engine.connected = engine.connect_wanted = False
        if handle != cython.NULL:
            cancel_all(handle)
            close_pipe(handle)
        unlock_it(cython.address(engine.lock))
        return 0


# -- Engines ----------------------------------------------------------------------------------------------------------


def new_engine(handle, info):
    engine: cython.pointer[Engine] = cython.cast(cython.pointer[Engine], PyMem_RawCalloc(1, cython.sizeof(Engine)))
    if engine == cython.NULL:
        raise MemoryError
    engine.handle = handle
    engine.server = info.server != 0
    engine.connected = info.connected or not info.server
    engine.messages = info.messages != 0
    engine.inbound = info.access & _FILE_READ_DATA != 0
    engine.outbound = info.access & _FILE_WRITE_DATA != 0
    return engine


@cython.cfunc
@cython.exceptval(check=False)
def _bury(engine: cython.pointer[Engine]) -> cython.int:
    """Free what nobody uses any more, of this one and those before it."""
    global _graves
    left: cython.pointer[Engine] = cython.NULL
    lock_it(cython.address(_graves_lock))
    engine.next = _graves
    while engine != cython.NULL:
        following: cython.pointer[Engine] = engine.next
        if _in_kernel(cython.address(engine.connecting)) or (
            _in_kernel(cython.address(engine.reading)) or _in_kernel(cython.address(engine.writing))
        ):
            engine.next = left
            left = engine
        else:
            PyMem_RawFree(engine.ahead)
            PyMem_RawFree(engine.out)
            PyMem_RawFree(engine)
        engine = following
    _graves = left
    unlock_it(cython.address(_graves_lock))
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _in_kernel(operation: cython.pointer[PipeOperation]) -> cython.bint:
    size: uint32_t = 0
    return operation.begun and result_of(cython.address(operation.request), cython.address(size)) < 0


# -- Operations; the lock is held -------------------------------------------------------------------------------------


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _see(engine: cython.pointer[Engine]) -> cython.int:
    """See what has ended, and begin what is to be under way all the time."""
    size: uint32_t = 0
    error: cython.int = 0
    if _ended(cython.address(engine.connecting), cython.address(error), cython.address(size)):
        _note_connection(engine, error)
    if engine.connect_wanted and not engine.connecting.begun and engine.handle != cython.NULL:
        engine.connect_wanted = False
        error = begin_connect(engine.handle, cython.address(engine.connecting.request))
        if error:
            _note_connection(engine, error)
        else:
            engine.connecting.begun = True
            if _ended(cython.address(engine.connecting), cython.address(error), cython.address(size)):
                _note_connection(engine, error)
    if _ended(cython.address(engine.writing), cython.address(error), cython.address(size)) and error:
        engine.write_error = error
    if _ended(cython.address(engine.reading), cython.address(error), cython.address(size)):
        _note_read(engine, error, size)
    if engine.eager:
        _read_ahead(engine)
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _ended(
    operation: cython.pointer[PipeOperation], error: cython.p_int, size: cython.pointer[uint32_t]
) -> cython.bint:
    """Whether an operation has ended just now, in a way that somebody wants to know of."""
    if not operation.begun:
        return False
    error[0] = result_of(cython.address(operation.request), size)
    if error[0] < 0:
        return False
    operation.begun = False
    abandoned: cython.bint = operation.abandoned
    operation.abandoned = False
    return not abandoned


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _note_connection(engine: cython.pointer[Engine], error: cython.int) -> cython.int:
    # A client that has come and gone already may have written something.
    if error in (0, ERROR_PIPE_CONNECTED, ERROR_NO_DATA):
        engine.connected = True
    elif error == ERROR_OPERATION_ABORTED:
        # Only because the thread that began it has ended.
        engine.connect_wanted = engine.handle != cython.NULL
    else:
        engine.connect_error = error
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _note_read(engine: cython.pointer[Engine], error: cython.int, size: uint32_t) -> cython.int:
    if error in (0, ERROR_MORE_DATA):
        # Of nothing, somebody has written nothing, which is no end.
        engine.first = 0
        engine.last = size
        engine.more = error == ERROR_MORE_DATA
    elif error in (ERROR_BROKEN_PIPE, ERROR_PIPE_NOT_CONNECTED):
        engine.ended = True
    elif error != ERROR_OPERATION_ABORTED:
        engine.read_error = error
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _read_ahead(engine: cython.pointer[Engine]) -> cython.int:
    """Have something to read, or an operation under way that waits for it."""
    error: cython.int = 0
    size: uint32_t = 0
    while (
        engine.first == engine.last
        and engine.connected
        and engine.inbound
        and not (engine.reading.begun or engine.ended or engine.read_error)
    ):
        if engine.ahead == cython.NULL:
            engine.ahead = cython.cast(cython.p_char, PyMem_RawRealloc(cython.NULL, AHEAD))
            if engine.ahead == cython.NULL:
                return ENOMEM
        error = begin_read(engine.handle, cython.address(engine.reading.request), engine.ahead, AHEAD)
        if error:
            _note_read(engine, error, 0)
            if error == ERROR_OPERATION_ABORTED:
                break
        else:
            engine.reading.begun = True
            if _ended(cython.address(engine.reading), cython.address(error), cython.address(size)):
                _note_read(engine, error, size)
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _ready(engine: cython.pointer[Engine]) -> cython.int:
    ready: cython.int = 0
    if engine.handle == cython.NULL:
        return 0
    if engine.first != engine.last:
        ready = READABLE
    if engine.read_error:
        ready |= READABLE | FAILED
    if engine.ended:
        ready |= READABLE | HANGUP
    if engine.connect_error or engine.write_error:
        ready |= READABLE | WRITABLE | FAILED
    elif engine.connected and not engine.writing.begun:
        ready |= WRITABLE
    return ready


# -- Transfers --------------------------------------------------------------------------------------------------------


def pull_pipe(engine, into, size):
    moved: cython.size_t = 0
    lock_it(cython.address(engine.lock))
    error: cython.int = _unusable(engine, engine.inbound)
    engine.complete = False
    while error == 0 and moved < size:
        if engine.first == engine.last:
            error = _read_ahead(engine)
            if engine.first == engine.last:
                break
        count: cython.size_t = min(cython.cast(cython.size_t, engine.last - engine.first), size - moved)
        memcpy(into + moved, engine.ahead + engine.first, count)
        moved += count
        engine.first += cython.cast(uint32_t, count)
        if engine.first == engine.last and engine.messages and not engine.more:
            engine.complete = True
            break
        # Not for long at a time: a poll may be waiting for it.
        unlock_it(cython.address(engine.lock))
        lock_it(cython.address(engine.lock))
    if error == 0 and moved == 0:
        if engine.read_error:
            error = _WINDOWS + engine.read_error
            engine.read_error = 0
        elif not engine.ended:
            error = EAGAIN
    if engine.eager:
        _read_ahead(engine)
    engine.shown &= _ready(engine)
    unlock_it(cython.address(engine.lock))
    return cython.cast(cython.Py_ssize_t, moved) if moved or error == 0 else -error


def push_pipe(engine, data, size):
    moved: cython.size_t = 0
    lock_it(cython.address(engine.lock))
    error: cython.int = _unusable(engine, engine.outbound)
    if error == 0 and engine.write_error:
        error = _WINDOWS + engine.write_error
        engine.write_error = 0
    while error == 0 and moved < size and not engine.writing.begun:
        # A message has to be written by one operation.
        count: cython.size_t = size if engine.messages else min(size - moved, CHUNK)
        error = _write(engine, data + moved, count)
        if error == 0:
            moved += count
        unlock_it(cython.address(engine.lock))
        lock_it(cython.address(engine.lock))
    if error and moved:
        # For the next call; what it is for now, is known by then.
        if error > _WINDOWS:
            engine.write_error = error - _WINDOWS
    elif error == 0 and moved == 0:
        error = EAGAIN
    engine.shown &= _ready(engine)
    unlock_it(cython.address(engine.lock))
    return cython.cast(cython.Py_ssize_t, moved) if moved else -error


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _unusable(engine: cython.pointer[Engine], allowed: cython.bint) -> cython.int:
    """See to what has ended; then the number of an error if there is no connection, or not in this direction."""
    _see(engine)
    if not allowed:
        return _WINDOWS + ERROR_ACCESS_DENIED
    if not engine.connected:
        return EAGAIN if engine.connecting.begun or engine.connect_wanted else _WINDOWS + ERROR_PIPE_LISTENING
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _write(engine: cython.pointer[Engine], data: cython.p_const_char, size: cython.size_t) -> cython.int:
    """Begin to write a copy; 0 or the number of an error."""
    error: cython.int = 0
    done: uint32_t = 0
    if size > 0x7FFFFFFF:
        return ENOMEM
    if engine.out_size < size or engine.out_size > CHUNK:
        copy: cython.p_void = PyMem_RawRealloc(engine.out, size)
        if copy == cython.NULL:
            return ENOMEM
        engine.out = cython.cast(cython.p_char, copy)
        engine.out_size = size
    memcpy(engine.out, data, size)
    error = begin_write(engine.handle, cython.address(engine.writing.request), engine.out, cython.cast(uint32_t, size))
    if error == 0:
        engine.writing.begun = True
        _ended(cython.address(engine.writing), cython.address(error), cython.address(done))
    if error <= 0:
        return 0
    # To Python only the one means a broken pipe.
    return _WINDOWS + (ERROR_BROKEN_PIPE if error == ERROR_PIPE_NOT_CONNECTED else error)
