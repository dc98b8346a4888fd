"""The standard library's `selectors.BaseSelector` on a selector of metalio's: what `metalio.selectors` is made of.

The token of a registration is what `select()` reports of it, made beforehand: the pair of its `SelectorKey` and the
events that it was registered for.  So an event allocates nothing, unless it is about one of two directions.

Descriptors are closed without anybody being told, and their numbers used again.  That is found out by asking the
kernel, in these places:

- `register()` of a number that is registered: the kernel knows it, or it is another file by now.
- `modify()`: if the kernel does not know it the new file is added.
- Where `modify()` replaces data alone the kernel is not asked, since that has to be cheap, but by the next `select()`.
- `unregister()`, and an event that belongs to nobody: see the selectors in `_sys`.
"""

import warnings
from collections.abc import Mapping
from selectors import SelectorKey

import cython
from cython.cimports.cpython.long import PyLong_AsLongAndOverflow
from cython.cimports.libc.errno import ENOENT
from cython.cimports.libc.limits import INT_MAX
from cython.cimports.libc.math import ceil
from cython.cimports.metalio._sys.bits import LEVEL, READ_CLOSED, READABLE, WRITABLE
from cython.cimports.metalio._sys.selector import Selector
from cython.cimports.metalio._sys.table import Record, Table, descriptor_of_key, key_of, new_record, take_token
from cython.cimports.metalio._sys.user_space import FORKED, OPEN
from cython.cimports.metalio.events import Events, Ready

from metalio._sys import make_selector

_READ = cython.declare(cython.int, 1)  # selectors.EVENT_READ
_WRITE = cython.declare(cython.int, 2)  # selectors.EVENT_WRITE
_BOTH = cython.declare(cython.int, 3)
# From here on, three hundred years, a wait is for ever.
_FOR_EVER = cython.declare(cython.double, 9e18)

# A SelectorKey is a tuple, whose own __new__ is written in Python.
_new_tuple = tuple.__new__


@cython.cclass
class SelectorBase:
    """The methods of `MetalSelector`."""

    def __init__(self, selector=None):
        self.selector = make_selector(selector)
        self.selector_name = selector
        self.map = KeyMap(self)
        self.doubtful = {}

    def __del__(self):
        selector: Selector = self.selector
        if selector is not None:
            try:
                if selector.state == OPEN and warnings is not None:
                    warnings.warn(f"unclosed {self!r}", ResourceWarning, 2, source=self)
            finally:
                selector.close()

    def register(self, fileobj, events, data=None):
        """Watch a file object, or a descriptor, for `EVENT_READ`, `EVENT_WRITE` or both; its `SelectorKey`.

        Raises `KeyError` if it is registered, `ValueError` for other events or what has no descriptor, and `OSError` if
        the kernel refuses it: `PermissionError` for what never blocks, such as a regular file.

        epoll_ctl(2): `EPOLL_CTL_ADD`.
        """
        interest: cython.int = interest_of(events)
        selector: Selector = self.open()
        fd: cython.int
        try:
            fd = descriptor_of(fileobj)
        except ValueError:
            if search(selector.table, fileobj) is None:
                raise
            raise KeyError(f"{fileobj!r} is already registered") from None
        key = _new_tuple(SelectorKey, (fileobj, fd, events, data))
        enter(selector, key, interest)
        return key

    def unregister(self, fileobj):
        """Watch a file object no longer; its `SelectorKey`.  It may have been closed.

        Raises `KeyError` if it is not registered, `ValueError` if it has no descriptor and is not registered.

        epoll_ctl(2): `EPOLL_CTL_DEL`.
        """
        selector: Selector = self.present()
        record: Record = find(selector, fileobj)
        pair: tuple = pair_of(selector, record)
        if pair is None:
            raise _not_registered(fileobj)
        selector.leave(record, True)
        return pair[0]

    def modify(self, fileobj, events, data=None):
        """Replace events and data; the new `SelectorKey`.

        Where the events stay the same the kernel is not called.  Raises what `register` and `unregister` raise; if it
        is an `OSError` the file object is registered no longer.

        epoll_ctl(2): `EPOLL_CTL_MOD`.
        """
        interest: cython.int = interest_of(events)
        selector: Selector = self.present()
        record: Record = find(selector, fileobj)
        pair: tuple = pair_of(selector, record)
        if pair is None:
            raise _not_registered(fileobj)
        known = pair[0]
        # Another object under a number may be another file, and then it is not the data alone that is replaced.
        same: cython.bint = known[0] is fileobj or isinstance(fileobj, int)
        number: cython.int = descriptor_of_key(record.fd)
        key = _new_tuple(SelectorKey, (known[0], number, events, data))
        if same and interest == record.interest:
            self.replace(selector, record, (key, pair[1]))
            return key
        try:
            selector.change(record, (key, _mask(interest)), interest, LEVEL)
        except FileNotFoundError:
            if not same:
                key = _new_tuple(SelectorKey, (fileobj, number, events, data))
            enter(selector, key, interest)
        except OSError:
            selector.leave(record, True)
            raise
        return key

    def select(self, timeout=None):
        """Wait until something is ready, or `timeout` seconds have passed: a list of `(key, events)` of all that is.

        `None` waits for ever; 0 or less does not wait.  A hang-up or an error counts as whatever was registered.  After
        a signal its Python handler runs, and then waiting goes on (PEP 475) unless the handler raises.

        epoll_wait(2), or epoll_pwait2(2) for a timeout below 100 ms that is not a whole number of milliseconds; longer
        ones are rounded up.  The GIL is released only to sleep.
        """
        nanoseconds: cython.longlong = nanoseconds_of(timeout)
        selector: Selector = self.open()
        if self.doubtful:
            self.settle_doubts(selector)
        events: Events = self.take_events(selector.table.size + 1)
        try:
            count: cython.int = selector.select(events, nanoseconds, False)
            if not events.contended:
                # Nobody fights for the GIL: to give it up costs less than a look that is in vain.
                events.hot = False
            return report(selector.table, events) if count else []
        finally:
            with cython.critical_section(self):
                self.spare = events

    def get_key(self, fileobj):
        """The `SelectorKey` of a file object.

        Raises `KeyError` if it is not registered, `ValueError` if it has no descriptor, `RuntimeError` if the selector
        is closed.
        """
        if self.map is None:
            raise RuntimeError("Selector is closed")
        pair: tuple = self.look_up(fileobj)
        if pair is None:
            raise _not_registered(fileobj)
        return pair[0]

    def get_map(self):
        """A live, read-only mapping of file objects and descriptors to `SelectorKey`; `None` if it is closed."""
        with cython.critical_section(self):
            return self.map

    def close(self):
        """End all registrations and close the selector's descriptors.  May be called again."""
        selector: Selector = self.selector
        if selector is not None:
            selector.close()
            with cython.critical_section(self):
                keys = self.map
                self.map = None
                self.doubtful.clear()

    @property
    def closed(self):
        """Whether it is closed."""
        return self.map is None

    def __repr__(self):
        name = type(self).__name__
        selector: Selector = self.selector
        if selector is None:
            return f"<{name} without a selector>"
        return f"<{name} on {selector.name}{' closed' if self.map is None else ''}>"

    def fileno_if_any(self):
        """A function that gives the descriptor of the selector, or `None` if it has none."""
        selector: Selector = self.present()
        if selector is not None and selector.state == OPEN and selector.descriptor() < 0:
            return None
        return self.number

    def number(self):
        selector: Selector = self.open()
        return selector.descriptor()

    # -- Registrations ------------------------------------------------------------------------------------------------

    def present(self):
        """The selector, which may be closed, or `None` if there never was one."""
        if self.selector is not None and self.selector.state == FORKED:
            self.revive()
        return self.selector

    def open(self):
        selector: Selector = self.present()
        if selector is None or selector.state != OPEN:
            raise ValueError("this selector is closed")
        return selector

    def revive(self):
        """In the child of a fork: a kernel's set of its own, with the same registrations."""
        parents: Selector = self.selector
        selector: Selector = make_selector(self.selector_name)
        for entry in parents.table.records:
            record: Record = entry
            if record is not None:
                place(selector, new_record(descriptor_of_key(record.fd), record.token, record.interest, LEVEL, True))
        self.doubtful.clear()
        self.selector = selector
        parents.close()
        return 0

    def look_up(self, fileobj):
        """The token of what is registered, or `None`."""
        selector: Selector = self.present()
        return pair_of(selector, find(selector, fileobj))

    def replace(self, selector, record, pair):
        """Replace the token of a record, and nothing else."""
        before: tuple = None
        asleep: cython.bint = False
        with cython.critical_section(selector.table):
            if record.live:
                before = take_token(record)
                record.token = pair
                selector.table.note(record)
                asleep = selector.sleepers != 0
        if asleep:
            # Another thread is in select() already.
            self.confirm(selector, record)
        elif before is not None:
            with cython.critical_section(self):
                self.doubtful[record.fd] = record
        return 0

    def settle_doubts(self, selector):
        with cython.critical_section(self):
            doubtful: list = list(self.doubtful.values())
            self.doubtful.clear()
        for record in doubtful:
            self.confirm(selector, record)
        return 0

    def confirm(self, selector, record):
        """If a record's descriptor is another file by now, watch that."""
        fresh: Record = new_record(descriptor_of_key(record.fd), None, record.interest, LEVEL, True)
        with cython.critical_section(selector.table):
            if selector.state == OPEN and record.live and selector.modify(record) == ENOENT:
                selector.table.drop(record)
                fresh.token = take_token(record)
                place(selector, fresh)
        return 0

    def take_events(self, least):
        events: Events = None
        with cython.critical_section(self):
            events = self.spare
            self.spare = None
        if events is None or events.capacity < least:
            events = Events(max(64, least + (least >> 2)))
        return events


@cython.cclass
class KeyMapBase:
    """The methods of `KeyMap`."""

    def __cinit__(self, selector: SelectorBase):
        self.selector = selector

    def __getitem__(self, fileobj):
        pair: tuple = self.selector.look_up(fileobj)
        if pair is None:
            raise _not_registered(fileobj)
        return pair[0]

    def get(self, fileobj, default=None):
        """The `SelectorKey` of a file object, or `default`."""
        pair: tuple = self.selector.look_up(fileobj)
        return default if pair is None else pair[0]

    def __contains__(self, fileobj):
        return self.selector.look_up(fileobj) is not None

    def __len__(self):
        selector: Selector = self.selector.selector
        return 0 if selector is None else selector.table.count

    def __iter__(self):
        descriptors: list = []
        selector: Selector = self.selector.selector
        if selector is None:
            return iter(descriptors)
        table: Table = selector.table
        with cython.critical_section(table):
            for entry in table.records:
                record: Record = entry
                if record is not None:
                    descriptors.append(descriptor_of_key(record.fd))
        return iter(descriptors)


class KeyMap(KeyMapBase, Mapping):
    """What is registered with a `MetalSelector`: `SelectorKey` by file object or descriptor.  Read-only, and live."""

    __slots__ = ()


def enter(selector, key, interest):
    """Register a key's descriptor."""
    try:
        selector.enter(new_record(key[1], (key, _mask(interest)), interest, LEVEL, True))
    except FileExistsError:
        raise KeyError(f"{key[0]!r} (FD {key[1]}) is already registered") from None
    return 0


def find(selector, fileobj):
    """The record of a file object, or `None`."""
    if selector is None:
        return None
    try:
        fd: cython.int = descriptor_of(fileobj)
    except ValueError:
        # It may have been closed since it was registered.
        record: Record = search(selector.table, fileobj)
        if record is None:
            raise
        return record
    with cython.critical_section(selector.table):
        return selector.table.at(key_of(fd))


def search(table, fileobj):
    with cython.critical_section(table):
        for entry in table.records:
            record: Record = entry
            if record is not None:
                pair: tuple = record.token
                if pair is not None and pair[0][0] is fileobj:
                    return record
    return None


def pair_of(selector, record):
    """The token of a record, if that is still registered."""
    if record is None:
        return None
    with cython.critical_section(selector.table):
        return record.token if record.live else None


def report(table, events):
    """What an answer of the kernel's means to who knows of two directions only, and is told of the rest by both."""
    result: list = []
    entry: cython.pointer[Ready]
    index: cython.Py_ssize_t = 0
    with cython.critical_section(table):
        # Nothing of the table is kept from one event to the next: a pair that is made may start a garbage collection,
        # whose finalisers may register.
        while index < events.count:
            entry = cython.address(events.entries[index])
            index += 1
            if (
                entry.key >= cython.cast(cython.size_t, table.size)
                or table.slots[entry.key].generation != entry.generation
            ):
                continue
            ready: cython.int = entry.ready
            mask: cython.int = 0
            if ready & ~WRITABLE:
                mask = _READ
            if ready & ~(READABLE | READ_CLOSED):
                mask |= _WRITE
            pair: tuple = cython.cast(tuple, cython.cast(object, table.slots[entry.key].token))
            wanted: cython.int = pair[1]
            mask &= wanted
            if mask == wanted:
                result.append(pair)
            elif mask:
                result.append((pair[0], mask))
    return result


def place(selector, record):
    """Enter a record under a number that is free.  What the kernel refuses is not watched, but stays registered."""
    displaced: Record = None
    with cython.critical_section(selector.table):
        record.generation = selector.table.next_generation()
        selector.add(record)
        displaced = selector.table.put(record)
    if displaced is not None:
        take_token(displaced)
    return 0


@cython.cfunc
@cython.inline
def _mask(interest: cython.int) -> object:
    return (interest & READABLE) | (_WRITE if interest & WRITABLE else 0)


def interest_of(events):
    overflow: cython.int = 0
    bits: cython.long = 0
    if isinstance(events, int):
        bits = PyLong_AsLongAndOverflow(events, cython.address(overflow))
    elif events:
        raise TypeError(f"events are an int, not {type(events).__name__}")
    if not bits or bits & ~_BOTH:
        raise ValueError(f"Invalid events: {events!r}")
    return (READABLE if bits & _READ else 0) | (WRITABLE if bits & _WRITE else 0)


def descriptor_of(fileobj):
    number = fileobj
    if not isinstance(fileobj, int):
        try:
            number = int(fileobj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fileobj!r}") from None
    overflow: cython.int = 0
    fd: cython.long = PyLong_AsLongAndOverflow(number, cython.address(overflow))
    if fd < 0:
        if overflow <= 0:
            raise ValueError(f"Invalid file descriptor: {number}")
        fd = INT_MAX
    # No system has so many; the kernel will say so.
    return cython.cast(cython.int, min(fd, INT_MAX))


def nanoseconds_of(timeout):
    if timeout is None:
        return -1
    seconds: cython.double = timeout
    if seconds <= 0:
        return 0
    if seconds != seconds:
        raise ValueError("a timeout is a number of seconds, or None: not nan")
    nanoseconds: cython.double = ceil(seconds * 1e9)
    return -1 if nanoseconds >= _FOR_EVER else cython.cast(cython.longlong, nanoseconds)


@cython.cfunc
def _not_registered(fileobj):
    return KeyError(f"{fileobj!r} is not registered")
