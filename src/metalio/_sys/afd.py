"""Windows: polling by the driver of sockets (AFD), with completions that come through an I/O completion port.

A request asks the driver for the state of one socket, and comes back once that is one of those asked for.  So

- a request is made anew after each event.  Level: by the next poll, so that what was read meanwhile is not reported.
  Edge: at once for what has not been reported yet, and for the rest when the source says that it has been drained, as
  with poll(2); until then for what comes unasked.  Nobody can say so for a socket that is not the library's own, hence
  the `ValueError`.  Oneshot: when it is registered again.
- a request tells what was when it came back, which may have been long before a poll collects it.  So where it would do
  harm (level: what was read meanwhile is reported; oneshot: what came since is not) the state is asked for once more.
  An edge may do with it: metalio's own sockets have it made anew when they are drained.
- there is one request for a socket at a time.  One that asks for the wrong thing is taken back first, which is done at
  once, or else when it has come back.
- a foreign socket always has one, since this is how the driver tells that it was closed.

**Nothing is used after it was freed.**  The kernel writes into a request until it has come back, so operations stand in
memory of the selector's own, that is freed when it is closed, and are used again only then.  A completion carries no
address, but the index of its operation and the number of the request: so one that is still on its way while its
operation is used for another request, or another socket, is told by its number and dropped.

**Handles as keys.**  A registration is found by the handle of its socket divided by four, of which all handles are
multiples (`key_of` in table.pxd).  The kernel uses the smallest free one, so the table is no longer than there are
handles in the process.

**Groups.**  Taking a request back takes the kernel longer the more of them a handle of the driver has; so at most 32
sockets share one.

The waker is a completion that is posted to the port.  Ctrl-C ends a sleep by another way: see sigint.pxd.

**Guests.**  Other things than sockets are nodes of user space that something brings a completion for: a pipe's
operation, a wait that has ended, a signal.  It says no more than that there is something to see; the node sees for
itself.  So one that comes twice, or too late, does no harm, and a key that nobody has is passed over.
"""

import sys
import threading

import cython
from cython.cimports.cpython.mem import PyMem_RawCalloc, PyMem_RawFree, PyMem_RawRealloc
from cython.cimports.libc.errno import EEXIST, EINTR, ENOENT, ENOMEM, ENOTSOCK
from cython.cimports.libc.stdint import uint32_t, uint64_t, uintptr_t
from cython.cimports.metalio._sys.bits import (
    EDGE,
    FAILED,
    HANGUP,
    ONESHOT,
    PRIORITY,
    READ_CLOSED,
    READABLE,
    UNASKED,
    WRITABLE,
)
from cython.cimports.metalio._sys.selector import Selector
from cython.cimports.metalio._sys.sigint import attend, begin_sleep, end_sleep, find_sigint
from cython.cimports.metalio._sys.table import Record, is_edge
from cython.cimports.metalio._sys.user_space import OPEN, Node
from cython.cimports.metalio._sys.windows import (
    AFD_ABORT,
    AFD_ACCEPT,
    AFD_CONNECT_FAIL,
    AFD_DISCONNECT,
    AFD_LOCAL_CLOSE,
    AFD_RECEIVE,
    AFD_RECEIVE_EXPEDITED,
    AFD_SEND,
    Completion,
    base_socket,
    begin_poll,
    cancel,
    close_handle,
    in_kernel,
    new_port,
    open_afd,
    polled,
    post,
    state_now,
    take,
)

from metalio._sys.errors import os_error

# The keys of completions: what the driver brings, and what was posted.
_POLLED = cython.declare(uintptr_t, 0)
_RING = cython.declare(uintptr_t, 1)
_MILLISECOND = cython.declare(cython.longlong, 1_000_000)
_FOR_EVER = cython.declare(uint32_t, 0xFFFFFFFF)
# How often close() looks whether the kernel has done with the last request, and for how many milliseconds each time.
_PATIENCE = cython.declare(cython.int, 200)
_WHILE = cython.declare(uint32_t, 5)

# An interpreter that was linked in has no library to ask.
if getattr(sys, "dllhandle", 0):
    find_sigint(
        cython.cast(cython.p_void, cython.cast(uintptr_t, sys.dllhandle)),
        cython.cast(uint32_t, threading.main_thread().ident),
    )


@cython.final
@cython.cclass
class AfdSelector(Selector):
    """IOCTL_AFD_POLL and GetQueuedCompletionStatusEx."""

    name = "afd"
    system = "Windows"

    def __cinit__(self):
        self.free = self.queue = self.queue_end = -1
        # No handle has this key.
        self.wake_key = 0
        error: cython.int = new_port(cython.address(self.port))
        if error:
            raise os_error(error)
        self.grow()

    def __dealloc__(self):
        self.shut()

    # -- Registrations ------------------------------------------------------------------------------------------------

    def add(self, record):
        sock: cython.p_void
        # Whoever is registered though the driver refused it (MetalSelector does so) has no operation.
        record.position = -1
        if record.fd <= 0:
            return ENOTSOCK
        error: cython.int = base_socket(cython.cast(uintptr_t, record.fd) << 2, cython.address(sock))
        if error:
            return error
        present: Record = self.table.at(record.fd)
        if present is not None:
            if self.has_operation(present):
                operation: cython.pointer[Operation] = self.operation(cython.cast(cython.int, present.position))
                if operation.pending and not in_kernel(cython.address(operation.request)):
                    self.note_end(operation)
                if not operation.gone:
                    return EEXIST
            self.renounce(present)
        if self.free < 0:
            self.grow()
        index: cython.int = self.free
        operation = self.operation(index)
        self.free = operation.next_free
        operation.key = record.fd
        operation.sock = sock
        operation.pending = operation.outdated = operation.gone = False
        record.position = index
        error = self.ask(record)
        if error == 0 and operation.gone:
            error = ENOTSOCK
        if error:
            self.renounce(record)
        return error

    def modify(self, record):
        if not self.has_operation(record):
            return ENOENT
        operation: cython.pointer[Operation] = self.operation(cython.cast(cython.int, record.position))
        record.spent = record.hung = False
        error: cython.int = self.ask(record)
        if error == 0 and operation.gone:
            self.renounce(record)
            error = ENOENT
        return error

    def remove(self, record):
        gone: cython.bint = True
        if self.has_operation(record):
            gone = self.operation(cython.cast(cython.int, record.position)).gone
        self.renounce(record)
        return ENOENT if gone else 0

    def renew(self, record, directions):
        if record.live and not record.spent and self.state == OPEN and self.has_operation(record):
            record.armed |= record.interest & directions
            record.hung = False
            return self.ask(record)
        return 0

    def ask(self, record):
        """Have a request under way for what a record is armed for, and for nothing else."""
        index: cython.int = cython.cast(cython.int, record.position)
        operation: cython.pointer[Operation] = self.operation(index)
        record.renew_short = record.renew_blocked = is_edge(record)
        mask: uint32_t = 0
        if not record.spent and not record.hung:
            # What comes unasked.
            mask = AFD_ABORT | AFD_CONNECT_FAIL
            if record.armed & READABLE:
                mask |= AFD_RECEIVE | AFD_ACCEPT | AFD_DISCONNECT
            if record.armed & WRITABLE:
                mask |= AFD_SEND
            if record.armed & PRIORITY:
                mask |= AFD_RECEIVE_EXPEDITED
        if record.foreign:
            mask |= AFD_LOCAL_CLOSE
        if operation.pending:
            if operation.mask == mask and not operation.outdated and in_kernel(cython.address(operation.request)):
                return 0
            # One that has come back already tells what was before now.
            if not self.stop(index):
                operation.outdated = True
                return 0
        return self.begin(index, mask) if mask and not operation.gone else 0

    def begin(self, index, mask):
        operation: cython.pointer[Operation] = self.operation(index)
        operation.sequence += 1
        operation.mask = mask
        operation.turn = self.round
        context: uint64_t = cython.cast(uint64_t, operation.sequence) << 32 | cython.cast(uint32_t, index + 1)
        error: cython.int = begin_poll(
            self.groups[index // GROUP].afd,
            cython.address(operation.request),
            operation.sock,
            mask,
            cython.cast(uintptr_t, context),
        )
        operation.pending = error == 0
        if error and error != ENOMEM:
            # Closed behind our back.
            operation.gone = True
            error = 0
        return error

    def stop(self, index):
        """Take back a request; whether the kernel has done with it."""
        operation: cython.pointer[Operation] = self.operation(index)
        if in_kernel(cython.address(operation.request)):
            cancel(self.groups[index // GROUP].afd, cython.address(operation.request))
            if in_kernel(cython.address(operation.request)):
                return False
        operation.pending = operation.outdated = False
        self.note_end(operation)
        return True

    def note_end(self, operation):
        """Find out from a request that has come back whether its socket was closed behind our back."""
        found: cython.int = polled(cython.address(operation.request))
        if found == -2 or (found > 0 and found & AFD_LOCAL_CLOSE):
            # The handle may be another socket's by now, and nobody has registered that one.
            operation.gone = True
        return found

    def renounce(self, record):
        """Give up a record's operation, if it has one."""
        if not self.has_operation(record):
            return 0
        index: cython.int = cython.cast(cython.int, record.position)
        operation: cython.pointer[Operation] = self.operation(index)
        record.position = -1
        operation.key = -1
        if not operation.pending or self.stop(index):
            operation.next_free = self.free
            self.free = index
        return 0

    def has_operation(self, record):
        return record.position >= 0 and self.operation(cython.cast(cython.int, record.position)).key == record.fd

    def operation(self, index):
        return cython.address(self.groups[index // GROUP].operations[index % GROUP])

    def grow(self):
        """Open another handle of the driver, with operations for its sockets."""
        count: cython.int = self.group_count
        if count % 16 == 0:
            groups: cython.p_void = PyMem_RawRealloc(self.groups, (count + 16) * cython.sizeof(cython.pointer[Group]))
            if groups == cython.NULL:
                raise MemoryError
            self.groups = cython.cast(cython.pointer[cython.pointer[Group]], groups)
        group: cython.pointer[Group] = cython.cast(cython.pointer[Group], PyMem_RawCalloc(1, cython.sizeof(Group)))
        if group == cython.NULL:
            raise MemoryError
        error: cython.int = open_afd(self.port, _POLLED, cython.address(group.afd))
        if error:
            PyMem_RawFree(group)
            raise os_error(error, "the driver of sockets cannot be opened")
        self.groups[count] = group
        self.group_count = count + 1
        index: cython.int = (count + 1) * GROUP
        while index > count * GROUP:
            index -= 1
            operation: cython.pointer[Operation] = self.operation(index)
            operation.key = -1
            operation.next_free = self.free
            self.free = index
        return 0

    def enqueue(self, index):
        operation: cython.pointer[Operation] = self.operation(index)
        if operation.queued:
            return 0
        operation.queued = True
        operation.next_queued = -1
        if self.queue < 0:
            self.queue = index
        else:
            self.operation(self.queue_end).next_queued = index
        self.queue_end = index
        return 0

    # -- Waiting ------------------------------------------------------------------------------------------------------

    def prepare(self, events):
        events.reserve(events.capacity * cython.sizeof(Completion))
        self.round += 1
        while self.queue >= 0:
            operation: cython.pointer[Operation] = self.operation(self.queue)
            record: Record = self.table.at(operation.key)
            # Whoever drained a source meanwhile has had it armed already.
            if (
                record is not None
                and record.position == self.queue
                and (not operation.pending or operation.mask == AFD_LOCAL_CLOSE)
            ):
                error: cython.int = self.ask(record)
                if error:
                    # The next poll tries again.
                    raise os_error(error, "the driver of sockets refuses")
            self.queue = operation.next_queued
            operation.queued = False
        return 0

    def attend(self, exact):
        attend(exact)
        return 0

    def wait(self, events, timeout):
        milliseconds: uint32_t = 0
        if timeout < 0:
            milliseconds = _FOR_EVER
        elif timeout:
            # What is more than the kernel can count is waited for again.
            milliseconds = cython.cast(
                uint32_t, min((timeout + _MILLISECOND - 1) // _MILLISECOND, cython.cast(cython.longlong, _FOR_EVER) - 1)
            )
        alertable: cython.int = begin_sleep() if milliseconds else 0
        if alertable < 0:
            return -EINTR
        count: cython.int = take(
            self.port, events.scratch, cython.cast(uint32_t, events.limit), milliseconds, alertable != 0
        )
        if alertable and end_sleep() and count == 0:
            return -EINTR
        return count

    def collect(self, events, count, exact):
        completions: cython.pointer[Completion] = cython.cast(cython.pointer[Completion], events.scratch)
        position: cython.int
        most: cython.Py_ssize_t = events.limit
        while count > 0:
            for position in range(count):
                if completions[position].lpCompletionKey == _RING:
                    events.count += self.add_wake(events.entries + events.count)
                elif completions[position].lpCompletionKey != _POLLED:
                    self.notify(completions[position].lpCompletionKey)
                else:
                    self.complete(events, cython.cast(uintptr_t, completions[position].lpOverlapped))
            if count < most or events.count == events.limit:
                break
            # What was outdated has taken the place of events.
            most = events.limit - events.count
            count = take(self.port, completions, cython.cast(uint32_t, most), 0, False)
        return 0

    def complete(self, events, context):
        """A request has come back."""
        index: cython.int = cython.cast(cython.int, cython.cast(uint32_t, context)) - 1
        operation: cython.pointer[Operation] = self.operation(index)
        if not operation.pending or operation.sequence != cython.cast(uint32_t, context >> 32):
            return 0
        operation.pending = False
        if operation.key < 0:
            operation.next_free = self.free
            self.free = index
            return 0
        record: Record = self.table.at(operation.key)
        if record is None or record.position != index:
            return 0
        if operation.outdated:
            operation.outdated = False
            self.note_end(operation)
            if self.ask(record):
                self.enqueue(index)
        else:
            self.report(events, record, index)
        return 0

    def report(self, events, record, index):
        """Store one event, and take away from what the record is armed for what it has reported."""
        operation: cython.pointer[Operation] = self.operation(index)
        found: cython.int = self.note_end(operation)
        if operation.gone:
            return 0
        ready: cython.int = 0
        if found > 0:
            if found & (AFD_RECEIVE | AFD_ACCEPT):
                ready |= READABLE
            if found & AFD_RECEIVE_EXPEDITED:
                ready |= PRIORITY
            if found & AFD_SEND:
                ready |= WRITABLE
            if found & AFD_DISCONNECT:
                ready |= READABLE | READ_CLOSED
            if found & AFD_ABORT:
                ready |= READABLE | WRITABLE | READ_CLOSED | FAILED | HANGUP
            if found & AFD_CONNECT_FAIL:
                ready |= READABLE | WRITABLE | FAILED | HANGUP
        if ready and operation.turn != self.round and (not record.options & EDGE or record.options & ONESHOT):
            ready = self.bring_up_to_date(operation, ready)
        ready &= record.armed | UNASKED | (READ_CLOSED if record.armed & READABLE else 0)
        if ready:
            events.add(record.fd, record.generation, ready)
            if record.options & ONESHOT:
                record.spent = True
            elif record.options & EDGE:
                record.armed &= ~ready
                if ready & UNASKED:
                    record.armed = 0
                    record.hung = True
            if not self.sleepers and not record.spent and not (record.options & EDGE and record.armed):
                # Most often somebody reads, or writes, before the next poll, which then asks for the right thing at
                # once.  Until then all there is to know of a foreign one is whether it is closed.
                self.enqueue(index)
                if record.foreign:
                    self.begin(index, AFD_LOCAL_CLOSE)
                return 0
        # It may also have come back because the thread that made it has ended.
        if self.ask(record):
            self.enqueue(index)
        return 0

    def bring_up_to_date(self, operation, ready):
        """What a request found that was made in an earlier round may have changed, unlike what comes unasked."""
        state: cython.int = state_now(operation.sock)
        if state < 0 or ready & UNASKED:
            return ready
        ready &= READ_CLOSED
        if state & AFD_DISCONNECT:
            ready |= READ_CLOSED
        if state & AFD_RECEIVE or ready:
            ready |= READABLE
        if state & AFD_RECEIVE_EXPEDITED:
            ready |= PRIORITY
        if state & AFD_SEND:
            ready |= WRITABLE
        return ready

    # -- Guests -------------------------------------------------------------------------------------------------------

    def admit(self, key, node):
        with cython.critical_section(self.table):
            self.check()
            if self.guests is None:
                self.guests = {}
            self.guests[key] = node
        return 0

    def dismiss(self, key):
        node: object = None
        with cython.critical_section(self.table):
            if self.guests is not None:
                # It is released outside of the lock.
                node = self.guests.pop(key, None)
        return 0

    def notify(self, key):
        node: object = None if self.guests is None else self.guests.get(key)
        if node is not None and cython.cast(Node, node).notice():
            # Another thread sleeps; whether this one has room for the event is not known yet.
            self.ring()
        return 0

    # -- The bell -----------------------------------------------------------------------------------------------------

    def ring(self):
        return post(self.port, _RING)

    # -- The end ------------------------------------------------------------------------------------------------------

    def shut(self):
        number: cython.int
        index: cython.int
        left: cython.int
        completion: Completion
        if self.port == cython.NULL:
            return 0
        for index in range(self.group_count * GROUP):
            if self.operation(index).pending and in_kernel(cython.address(self.operation(index).request)):
                cancel(self.groups[index // GROUP].afd, cython.address(self.operation(index).request))
        for number in range(self.group_count):
            close_handle(self.groups[number].afd)
        for _ in range(_PATIENCE):
            left = 0
            for index in range(self.group_count * GROUP):
                if self.operation(index).pending and in_kernel(cython.address(self.operation(index).request)):
                    left += 1
            if left == 0:
                break
            take(self.port, cython.address(completion), 1, _WHILE, False)
        if left == 0:
            # Otherwise the kernel would write into what is somebody else's by then: better lose it.
            for number in range(self.group_count):
                PyMem_RawFree(self.groups[number])
        PyMem_RawFree(self.groups)
        self.groups = cython.NULL
        self.group_count = 0
        self.free = self.queue = -1
        # The nodes themselves are released by who closes.
        self.guests = None
        close_handle(self.port)
        self.port = cython.NULL
        return 0
