"""The library's own sources that own a descriptor."""

import warnings

import cython
from cython.cimports.libc.errno import EMFILE, ENFILE, ENOBUFS, ENOMEM, EOPNOTSUPP
from cython.cimports.metalio._sys.selector import Selector
from cython.cimports.metalio._sys.sockets import close_socket
from cython.cimports.metalio._sys.table import ALWAYS, Record, is_edge, new_record
from cython.cimports.metalio.own_source import OwnSource

from metalio._sys.errors import closed_error, os_error


@cython.cclass
class IoSource(OwnSource):
    """The base of metalio's own sources: sockets and pipes.  Not for use by itself.

    A source owns its descriptor.  `close()` deregisters it and closes the descriptor; a source that is dropped
    unclosed does the same with a `ResourceWarning`.  It may be used from several threads, though what each of
    them gets of a stream is then up to chance.
    """

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        # For a subclass whose finaliser forgot this one's.
        fd: cython.int = self.surrender()
        if fd >= 0:
            close_socket(fd)

    def __init__(self):
        raise TypeError(f"cannot make a {type(self).__name__} like this: use one of its class methods")

    def __del__(self):
        if self.fd >= 0:
            try:
                if warnings is not None:
                    warnings.warn(f"unclosed {self!r}", ResourceWarning, 2, source=self)
            finally:
                self.close()

    @property
    def closed(self):
        """Whether it is closed."""
        return self.fd < 0

    def fileno(self):
        """The descriptor.  It stays this object's own.  Raises `ValueError` once it is closed."""
        self.require()
        return self.fd

    def close(self):
        """Deregister it, drop its token and close the descriptor (close(2)).  May be called again.

        A transfer that is under way in another thread is let finish first.
        """
        fd: cython.int = -1
        with cython.critical_section(self):
            fd = self.surrender()
            if self.users and fd >= 0:
                self.fd = -2 - fd
                fd = -1
        if fd >= 0:
            self.close_descriptor(fd)

    def __repr__(self):
        return f"<{type(self).__name__} closed>" if self.fd < 0 else f"<{type(self).__name__} fd={self.fd}>"

    # -- For subclasses -----------------------------------------------------------------------------------------------

    def require(self):
        if self.fd < 0:
            raise closed_error(self)
        return 0

    def adopt(self, fd):
        self.fd = fd
        return 0

    def surrender(self):
        """End the registration, and give up the descriptor, which is returned; -1 if there is none."""
        fd: cython.int = -1
        record: Record = self.record
        selector: Selector = self.selector
        if self.fd >= 0:
            fd = self.fd
            self.fd = -1
        self.record = None
        self.selector = None
        if record is not None:
            selector.leave(record, True)
        return fd

    def enter(self, selector, token, interest, options):
        with cython.critical_section(self):
            if self.fd < 0:
                raise closed_error(self)
            if self.record is not None and self.record.live:
                self.refuse_second(selector)
            record: Record = new_record(self.fd, token, interest, options, False)
            # Before it is entered, since what is released then may run code that closes this very source.
            self.record = record
            self.selector = selector
            try:
                selector.enter(record)
            except BaseException:
                self.record = None
                self.selector = None
                raise
        return 0

    def change(self, selector, token, interest, options):
        with cython.critical_section(self):
            self.check_registered(selector)
            record: Record = self.record
            selector.change(record, token, interest, options)
        return 0

    def leave(self, selector):
        with cython.critical_section(self):
            self.check_registered(selector)
            record: Record = self.record
            self.record = None
            self.selector = None
            selector.leave(record, False)
        return 0

    def renew_short(self, directions):
        record: Record = self.record
        if record is not None and record.renew_short == ALWAYS:
            self.renew(directions)
        return 0

    def renew_blocked(self, directions):
        record: Record = self.record
        if record is not None and record.renew_blocked:
            self.renew(directions)
        return 0

    def renew_exhausted(self, error, directions):
        """After an error that passes and lost nothing: what is waiting has to be reported again."""
        record: Record = self.record
        if record is not None and error in (EMFILE, ENFILE, ENOBUFS, ENOMEM) and is_edge(record):
            self.renew(directions)
        return 0

    def renew(self, directions):
        error: cython.int
        selector: Selector = self.selector
        with cython.critical_section(selector.table):
            error = selector.renew(self.record, directions)
        if error:
            raise os_error(error)
        return 0

    def pin(self):
        self.users += 1
        return 0

    def unpin(self):
        self.users -= 1
        if self.users == 0 and self.fd < -1:
            fd: cython.int = -2 - self.fd
            self.fd = -1
            self.close_descriptor(fd)
        return 0

    def close_descriptor(self, fd):
        if self.lingers:
            with cython.nogil:
                close_socket(fd)
        else:
            close_socket(fd)
        return 0

    # -- What subclasses bring that move bytes ------------------------------------------------------------------------

    def pull(self, fd, into, size, flags):
        return -EOPNOTSUPP

    def push(self, fd, data, size):
        return -EOPNOTSUPP

    def pull_vector(self, fd, vector, count):
        return -EOPNOTSUPP

    def push_vector(self, fd, vector, count):
        return -EOPNOTSUPP
