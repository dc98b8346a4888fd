"""Where sources are registered."""

import cython
from cython.cimports.cpython.long import PyLong_AsLongAndOverflow
from cython.cimports.libc.limits import INT_MAX
from cython.cimports.metalio._sys.selector import Selector
from cython.cimports.metalio._sys.table import Record, key_of, new_record
from cython.cimports.metalio.interest import Interest
from cython.cimports.metalio.own_source import OwnSource
from cython.cimports.metalio.poll_opt import PollOpt

from metalio._sys.errors import registration_error
from metalio.poll_opt import PollOpt as _PollOpt

_EDGE = _PollOpt.EDGE
_ENOENT = 2


@cython.final
@cython.cclass
class Registry:
    """Registers sources with a `Poll`, whose `registry` it is.  Safe to use from any thread, also while it polls.

    A source is one of the library's own, or any object with a `fileno()` (a `socket.socket`, a file, a pidfd …), or a
    `metalio.unix.SourceFd`, or an object with the three methods of `metalio.Source`.
    """

    def __cinit__(self, selector=None):
        if not isinstance(selector, Selector):
            raise TypeError("cannot make a Registry: it is the registry of a Poll")
        self.selector = selector

    def register(self, source, token, interest, opts=_EDGE):
        """Watch a source for `interest` (epoll_ctl(2): `EPOLL_CTL_ADD`).

        Its events will carry `token`, the very object.  The token is released when the source is closed (one of the
        library's own), deregistered, or the poll is closed.

        Raises `FileExistsError` if it is registered already, here or (one of the library's own) elsewhere; `ValueError`
        if it or the poll is closed, or the selector cannot do what `opts` asks of such a source; `PermissionError` for
        what never blocks, such as a regular file; `NotImplementedError` for what the platform lacks.
        """
        if isinstance(source, OwnSource) and _is_our_own(source):
            cython.cast(OwnSource, source).enter(self.selector, token, _interest_bits(interest), _option_bits(opts))
        elif _has_methods(source):
            _check(interest, opts)
            source.register(self, token, interest, opts)
        else:
            bits: cython.int = _interest_bits(interest)
            options: cython.int = _option_bits(opts)
            record: Record = new_record(_descriptor(source), token, bits, options, True)
            self.selector.enter(record)

    def reregister(self, source, token, interest, opts=_EDGE):
        """Replace token, interest and options of a registration, and arm it anew (`EPOLL_CTL_MOD`).

        What is ready at that moment is reported by the next poll; an event that was on its way for the old registration
        is dropped.  Raises `FileNotFoundError` if it is not registered, and what `register` raises.
        """
        if isinstance(source, OwnSource) and _is_our_own(source):
            self.selector.check()
            cython.cast(OwnSource, source).change(self.selector, token, _interest_bits(interest), _option_bits(opts))
        elif _has_methods(source):
            _check(interest, opts)
            source.reregister(self, token, interest, opts)
        else:
            self.selector.change(self._find(source), token, _interest_bits(interest), _option_bits(opts))

    def deregister(self, source):
        """Watch a source no longer (`EPOLL_CTL_DEL`), and release its token.  An event on its way is dropped.

        Raises `FileNotFoundError` if it is not registered, `ValueError` if it or the poll is closed.
        """
        if isinstance(source, OwnSource) and _is_our_own(source):
            self.selector.check()
            cython.cast(OwnSource, source).leave(self.selector)
        elif _has_methods(source):
            source.deregister(self)
        else:
            self.selector.leave(self._find(source), False)

    # What the methods of Source that the library's own sources have come down to, for subclasses that override them.

    def _register(self, source, token, interest, opts):
        _own(source).enter(self.selector, token, _interest_bits(interest), _option_bits(opts))

    def _reregister(self, source, token, interest, opts):
        self.selector.check()
        _own(source).change(self.selector, token, _interest_bits(interest), _option_bits(opts))

    def _deregister(self, source):
        self.selector.check()
        _own(source).leave(self.selector)

    def _find(self, source):
        fd: cython.int = _descriptor(source)
        record: Record = None
        self.selector.check()
        with cython.critical_section(self.selector.table):
            record = self.selector.table.at(key_of(fd))
        if record is None or not record.foreign:
            # Another thread may have closed the poll meanwhile.
            self.selector.check()
            raise registration_error(_ENOENT)
        return record

    def __repr__(self):
        return f"<Registry of a Poll on {self.selector.name}>"


def new_registry(selector):
    return Registry.__new__(Registry, selector)


@cython.cfunc
@cython.inline
def _own(source) -> OwnSource:
    if not isinstance(source, OwnSource):
        raise TypeError(f"not a source of metalio's own: {type(source).__name__}")
    return cython.cast(OwnSource, source)


@cython.cfunc
@cython.inline
def _is_our_own(source) -> cython.bint:
    # A subclass made in Python may have methods of its own for this.
    return not is_heap_type(source)


@cython.cfunc
def _has_methods(source) -> cython.bint:
    return hasattr(source, "register") and hasattr(source, "reregister") and hasattr(source, "deregister")


@cython.cfunc
@cython.exceptval(-1)
def _interest_bits(interest) -> cython.int:
    if not isinstance(interest, Interest):
        raise TypeError(f"expected an Interest such as Interest.READABLE, not {type(interest).__name__}")
    return cython.cast(Interest, interest).bits


@cython.cfunc
@cython.exceptval(-1)
def _option_bits(opts) -> cython.int:
    if not isinstance(opts, PollOpt):
        raise TypeError(f"expected a PollOpt such as PollOpt.LEVEL, not {type(opts).__name__}")
    return cython.cast(PollOpt, opts).bits


@cython.cfunc
@cython.exceptval(-1)
def _check(interest, opts) -> cython.int:
    _interest_bits(interest)
    _option_bits(opts)
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _descriptor(source) -> cython.int:
    fileno = getattr(source, "fileno", None)
    if fileno is None:
        if isinstance(source, int):
            raise TypeError("a number is not a source: wrap a descriptor in metalio.unix.SourceFd(fd)")
        raise TypeError(f"{type(source).__name__} is not a source: it has neither fileno() nor the methods of Source")
    number = fileno()
    if not isinstance(number, int):
        raise TypeError(f"fileno() of {type(source).__name__} gave {type(number).__name__}, not an int")
    overflow: cython.int = 0
    fd: cython.long = PyLong_AsLongAndOverflow(number, cython.address(overflow))
    if overflow or fd > INT_MAX:
        raise ValueError(f"fileno() of {type(source).__name__} gave {number}, which is no descriptor")
    if fd < 0:
        raise ValueError(f"this {type(source).__name__} is closed (its fileno() is {fd})")
    return fd
