"""Sources that are made ready by the program itself, and the queue in which they wait for a poll.

A source is a `Node`.  Whoever makes it ready (a producer, in any thread) pushes it onto a stack; the poll takes the
whole stack at once, turns it round, and appends it to its chain, from which events are gathered in turn.  A node is in
at most one of the two, so queuing allocates nothing, and a source that is made ready often is queued once.

**Nothing is lost.**  A node's state is one word that is only ever changed by compare-and-swap: what it is ready for,
what it is armed for, and QUEUED.  Whoever sets QUEUED, and nobody else, pushes the node.  A poll clears QUEUED by the
same swap that tells it what the node is ready for.  So a producer that finds QUEUED set has changed the word before
that swap, and the poll sees its readiness; one that finds it clear queues the node again.  The swap is done even where
it changes nothing, since it also publishes what the producer did before: all of it is sequentially consistent, and an
operation on the word synchronises with every later one.

**Nobody oversleeps.**  The head of the stack also says whether a poll sleeps: it is NULL (empty), the newest of a stack
of nodes, or the mark ASLEEP.  A poll turns NULL into ASLEEP before it sleeps, and does not sleep if it finds nodes.  A
producer that replaces ASLEEP rings, once; those that come after it find a node there, and need not.  There is no moment
between looking and sleeping, because it is one swap.

**Several polls at once** take turns under the lock of the table; only producers come without it.  ASLEEP stands there
as long as one of them sleeps.  A ring wakes one of them.  If that one cannot take all that is ready, or another one
came before it, whoever leaves nodes in the chain rings for the next sleeper.

**Lifetime.**  Stack and chain borrow their nodes, which `nodes` keeps alive until they are neither registered nor
queued. A producer may be between its swap and its push, which is a few instructions; who has to know that there is none
(to close, or to move a node to another poll) disarms the nodes, so that nobody begins, and waits until all that are
QUEUED have turned up.  With a GIL that is never.
"""

import cython
from cython.cimports.cpython.ref import PyObject
from cython.cimports.libc.errno import ENOENT
from cython.cimports.libc.stdint import INT64_MAX
from cython.cimports.metalio._sys.bits import EDGE, EXCLUSIVE, ONESHOT
from cython.cimports.metalio._sys.clock import now
from cython.cimports.metalio._sys.native import load, load_pointer, swap_if, swap_pointer_if
from cython.cimports.metalio._sys.table import USER, Record, Table, check_request, take_token

from metalio._sys.errors import os_error, registration_error


@cython.cclass
class Node:
    """A source of user space, as its poll sees it."""

    def __cinit__(self):
        self.index = -1
        self.deadline = INT64_MAX

    def set(self, readiness):
        space: cython.pointer[PyObject] = self.mark(readiness)
        if space != cython.NULL:
            cython.cast(UserSpace, space).alert()
        return 0

    def mark(self, readiness):
        state: cython.int = load(cython.address(self.state))
        after: cython.int = 0
        while True:
            after = (state & ~READY) | readiness
            if after & (after >> ARMED) & READY:
                after |= QUEUED
            if swap_if(cython.address(self.state), cython.address(state), after):
                break
        if after & ~state & QUEUED:
            space: cython.pointer[PyObject] = self.space
            if cython.cast(UserSpace, space).push(self):
                return space
        return cython.NULL

    def readiness(self):
        return load(cython.address(self.state)) & READY

    def queued(self):
        return (load(cython.address(self.state)) & QUEUED) != 0

    def arm(self, interest):
        """Arm it for this from now on, or disarm it (0); whether it has to be pushed."""
        state: cython.int = load(cython.address(self.state))
        after: cython.int = 0
        while True:
            after = (state & ~(READY << ARMED)) | interest << ARMED
            if after & interest:
                after |= QUEUED
            if swap_if(cython.address(self.state), cython.address(state), after):
                return (after & ~state & QUEUED) != 0

    def notice(self):
        return False

    def expire(self, moment):
        return 0

    def reschedule(self):
        if self.space != cython.NULL:
            cython.cast(UserSpace, self.space).reschedule()
        return 0

    def change_space(self, space):
        """Belong to another poll from now on; it is disarmed."""
        if self.space != cython.NULL:
            cython.cast(UserSpace, self.space).settle(self)
        if self.spaces is None:
            self.spaces = []
        if space not in self.spaces:
            self.spaces.append(space)
        self.space = cython.cast(cython.pointer[PyObject], space)
        return 0


@cython.cclass
class UserSpace:
    """The half of a selector that has to do with user space; whoever waits in the kernel is the other half."""

    def __cinit__(self):
        self.table = Table.__new__(Table)
        self.alarm = INT64_MAX

    def check(self):
        """Raise if it is not open."""
        return 0

    def ring(self):
        """Wake a sleeper; 0, or the number of an error."""
        return ENOENT

    def set_clock(self, deadline):
        """Make the poll's own descriptor readable at that time; the lock is held."""
        return 0

    # -- Registrations ------------------------------------------------------------------------------------------------

    def enter_node(self, node, record):
        _check(record.interest, record.options)
        if node.space != cython.cast(cython.pointer[PyObject], self):
            node.change_space(self)
        alert: cython.bint = False
        with cython.critical_section(self.table):
            self.check()
            if self.nodes is None:
                self.table.users = Table.__new__(Table)
                self.vacant = []
                self.timed = []
                self.nodes = []
            index: cython.Py_ssize_t = self.find_place(node)
            if node.timed:
                self.timed.append(node)
            if index == len(self.nodes):
                self.nodes.append(node)
            elif node.index < 0:
                self.nodes[index] = node
                self.vacant.pop()
            node.index = index
            record.fd = cython.cast(cython.int, index)
            record.generation = self.table.next_generation()
            self.table.users.put(record)
            node.record = record
            alert = node.arm(record.interest) and self.push(node)
        if alert:
            self.alert()
        if node.timed:
            self.reschedule()
        return 0

    def change_node(self, node, token, interest, options):
        _check(interest, options)
        alert: cython.bint = False
        error: cython.int = 0
        old = token
        with cython.critical_section(self.table):
            self.check()
            record: Record = node.record
            if record is None or not record.live:
                error = ENOENT
            else:
                record.interest = interest
                record.options = options
                record.generation = self.table.next_generation()
                old = take_token(record)
                record.token = token
                self.table.users.note(record)
                alert = node.arm(interest) and self.push(node)
        if error:
            raise registration_error(error)
        if alert:
            self.alert()
        return 0

    def leave_node(self, node):
        """Whether it was registered."""
        token: object = None
        was: cython.bint = False
        with cython.critical_section(self.table):
            record: Record = node.record
            if record is not None and record.live:
                was = True
                self.table.users.drop(record)
                token = take_token(record)
                node.arm(0)
                if node.timed:
                    self.timed = [entry for entry in self.timed if entry is not node]
                    self.alarm = self.earliest()
                self.discharge(node)
        return was

    def find_place(self, node):
        """Where a node is to go, with room in the table for it."""
        index: cython.Py_ssize_t = -1
        # Making room may run finalisers, which may come here as well.
        while True:
            index = node.index
            if index < 0:
                index = self.vacant[-1] if self.vacant else len(self.nodes)
            if index < self.table.users.size:
                return index
            self.table.users.grow(index + 1 + (index >> 3))
            self.check()

    def discharge(self, node):
        """Let go of a node, if it is neither registered nor queued."""
        if node.index < 0 or node.record.live or node.queued():
            return 0
        index: cython.Py_ssize_t = node.index
        node.index = -1
        self.vacant.append(index)
        self.nodes[index] = None
        return 0

    def settle(self, node):
        """Have a disarmed node in neither stack nor chain."""
        while node.queued():
            with cython.critical_section(self.table):
                self.take()
                left: cython.Py_ssize_t = self.waiting
                while left:
                    left -= 1
                    first: cython.pointer[PyObject] = self.first
                    self.first = cython.cast(Node, first).next
                    self.waiting -= 1
                    if first == cython.cast(cython.pointer[PyObject], node):
                        _clear(node)
                    else:
                        self.append(first)
                self.discharge(node)
        return 0

    def close_nodes(self):
        """End all registrations; what is to be released is returned.  The lock is held."""
        if self.nodes is None:
            return []
        released: list = self.table.users.clear()
        queued: cython.Py_ssize_t = 0
        entry: object
        for entry in self.nodes:
            if entry is not None:
                cython.cast(Node, entry).arm(0)
                cython.cast(Node, entry).index = -1
                queued += cython.cast(Node, entry).queued()
        self.take()
        while self.waiting < queued:
            self.take()
        for entry in self.nodes:
            if entry is not None:
                _clear(cython.cast(Node, entry))
        self.head = self.first = self.last = cython.NULL
        self.waiting = 0
        self.alarm = INT64_MAX
        released.append((self.nodes, self.timed, self.forgotten))
        self.forgotten = None
        self.nodes = []
        self.vacant = []
        self.timed = []
        return released

    def forget_nodes(self):
        """In the child of a fork, where all threads but this one are gone."""
        self.sleepers = 0
        self.head = self.first = self.last = cython.NULL
        self.waiting = 0
        self.alarm = INT64_MAX
        if self.nodes is None:
            return 0
        for entry in self.nodes:
            if entry is not None:
                node: Node = entry
                node.state &= READY
                node.index = -1
                node.record.live = False
        # Not to be released here, and no more of this poll's business: they may be registered with another one.
        self.forgotten = [self.nodes, self.timed]
        self.nodes = []
        self.vacant = []
        self.timed = []
        return 0

    # -- The queue ----------------------------------------------------------------------------------------------------

    def push(self, node):
        """Queue a node; whether somebody has to be woken."""
        asleep: cython.pointer[PyObject] = cython.cast(cython.pointer[PyObject], self)
        head: cython.p_void = load_pointer(cython.address(self.head))
        while True:
            node.next = cython.NULL if head == asleep else cython.cast(cython.pointer[PyObject], head)
            if swap_pointer_if(cython.address(self.head), cython.address(head), cython.cast(cython.p_void, node)):
                return head == asleep

    def alert(self):
        error: cython.int = 0
        with cython.critical_section(self.table):
            # Closing wakes them by itself.
            if self.state == OPEN:
                error = self.ring()
        if error:
            raise os_error(error)
        return 0

    def has_ready(self):
        if self.first != cython.NULL:
            return True
        head: cython.p_void = load_pointer(cython.address(self.head))
        return head != cython.NULL and head != cython.cast(cython.p_void, self)

    def take(self):
        """Append the stack to the chain; the lock is held, as it is for all that follows."""
        asleep: cython.p_void = cython.cast(cython.p_void, self)
        head: cython.p_void = load_pointer(cython.address(self.head))
        while True:
            if head == cython.NULL or head == asleep:
                return 0
            if swap_pointer_if(
                cython.address(self.head),
                cython.address(head),
                asleep if self.sleepers or self.nested else cython.NULL,
            ):
                break
        # Newest first: turn it round.
        node: cython.pointer[PyObject] = cython.cast(cython.pointer[PyObject], head)
        newest: cython.pointer[PyObject] = node
        newer: cython.pointer[PyObject] = cython.NULL
        while node != cython.NULL:
            older: cython.pointer[PyObject] = cython.cast(Node, node).next
            cython.cast(Node, node).next = newer
            newer = node
            node = older
            self.waiting += 1
        if self.first == cython.NULL:
            self.first = newer
        else:
            cython.cast(Node, self.last).next = newer
        self.last = newest
        return 0

    def append(self, node):
        cython.cast(Node, node).next = cython.NULL
        if self.first == cython.NULL:
            self.first = node
        else:
            cython.cast(Node, self.last).next = node
        self.last = node
        self.waiting += 1
        return 0

    def room(self, events):
        """How many events the kernel may store, so that both kinds of sources get through."""
        self.take()
        if self.waiting == 0:
            return events.capacity
        if events.capacity == 1:
            self.turn = not self.turn
            return self.turn
        return events.capacity - min(self.waiting, events.capacity // 2)

    def gather(self, events):
        """Append events of the nodes that are ready."""
        self.take()
        # What is put back is for the next poll.
        left: cython.Py_ssize_t = self.waiting
        while left > 0 and self.first != cython.NULL and events.count < events.capacity:
            left -= 1
            node: Node = cython.cast(Node, self.first)
            self.first = node.next
            self.waiting -= 1
            record: Record = node.record
            state: cython.int = load(cython.address(node.state))
            ready: cython.int = 0
            while True:
                ready = state & (state >> ARMED) & READY
                if ready and not record.options & (EDGE | ONESHOT):
                    # As long as it is ready it remains queued, and its producers have nothing to do.
                    self.append(cython.cast(cython.pointer[PyObject], node))
                    break
                after: cython.int = state & ~QUEUED
                if ready and record.options & ONESHOT:
                    after &= READY
                if swap_if(cython.address(node.state), cython.address(state), after):
                    break
            if ready:
                events.add(cython.cast(cython.uint, record.fd) | USER, record.generation, ready)
            else:
                self.discharge(node)
        if self.first != cython.NULL and (self.sleepers or self.nested):
            self.ring()
        return 0

    def fall_asleep(self):
        """Have producers ring from now on; whether there is nothing that forbids to sleep."""
        if self.first != cython.NULL:
            return False
        asleep: cython.p_void = cython.cast(cython.p_void, self)
        head: cython.p_void = load_pointer(cython.address(self.head))
        while head != asleep:
            if head != cython.NULL:
                return False
            if swap_pointer_if(cython.address(self.head), cython.address(head), asleep):
                break
        self.sleepers += 1
        return True

    def wake_up(self):
        self.sleepers -= 1
        if self.sleepers == 0 and not self.nested:
            # Or else there are nodes by now.
            asleep: cython.p_void = cython.cast(cython.p_void, self)
            swap_pointer_if(cython.address(self.head), cython.address(asleep), cython.NULL)
        return 0

    def nest(self):
        """From now on somebody else may wait for this poll, on its own descriptor: ring as if a thread slept."""
        with cython.critical_section(self.table):
            if not self.nested:
                self.nested = True
                head: cython.p_void = cython.NULL
                swap_pointer_if(cython.address(self.head), cython.address(head), cython.cast(cython.p_void, self))
                if self.has_ready():
                    self.ring()
                self.set_clock(self.alarm)
        return 0

    # -- Deadlines ----------------------------------------------------------------------------------------------------

    def reschedule(self):
        """A node's deadline has changed.

        The node is asked only now: so whichever of two threads that changed it comes last finds what was set last.
        """
        error: cython.int = 0
        with cython.critical_section(self.table):
            if self.state == OPEN and self.nodes is not None:
                before: cython.longlong = self.alarm
                self.alarm = self.earliest()
                if self.alarm < before and self.sleepers:
                    # All of them: the one that hears of it first may have left before it is time.
                    self.instance += 1
                    error = self.ring()
                if self.nested:
                    self.set_clock(self.alarm)
        if error:
            raise os_error(error)
        return 0

    def earliest(self):
        earliest: cython.longlong = INT64_MAX
        for entry in self.timed:
            earliest = min(earliest, cython.cast(Node, entry).deadline)
        return earliest

    def expire(self):
        """Have the nodes whose deadline has passed do what is due.  No lock is held."""
        moment: cython.longlong = now()
        if moment < self.alarm:
            return 0
        index: cython.Py_ssize_t = 0
        while True:
            node: Node = None
            with cython.critical_section(self.table):
                if index < len(self.timed):
                    node = cython.cast(Node, self.timed[index])
            if node is None:
                break
            index += 1
            if node.deadline <= moment:
                node.expire(moment)
        with cython.critical_section(self.table):
            self.alarm = self.earliest()
            if self.nested:
                self.set_clock(self.alarm)
        return 0


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _clear(node: Node) -> cython.int:
    state: cython.int = load(cython.address(node.state))
    while not swap_if(cython.address(node.state), cython.address(state), state & ~QUEUED):
        pass
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _check(interest: cython.int, options: cython.int) -> cython.int:
    check_request(interest, options)
    if options & EXCLUSIVE:
        raise ValueError("EXCLUSIVE is for descriptors that several polls share, not for sources of user space")
    return 0
