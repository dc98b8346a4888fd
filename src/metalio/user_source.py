"""The library's own sources that are made ready by the program itself, without the kernel."""

import cython
from cython.cimports.metalio._sys.selector import Selector
from cython.cimports.metalio._sys.table import new_record
from cython.cimports.metalio.own_source import OwnSource

from metalio._sys.errors import closed_error


@cython.cclass
class UserSource(OwnSource):
    """The base of `Registration`, `Receiver` and `Timer`.  Not for use by itself.

    It owns no descriptor.  `close()`, or dropping it, deregisters it and drops its token and an event on its way.
    """

    def __del__(self):
        self.close()

    @property
    def closed(self):
        """Whether it is closed."""
        return self.shut

    def close(self):
        """Deregister it and drop its token.  May be called again."""
        selector: Selector = None
        with cython.critical_section(self):
            if not self.shut:
                self.shut = True
                selector = self.selector
                self.selector = None
                if selector is not None:
                    selector.leave_node(self.node)
                self.finish()

    def __repr__(self):
        return f"<{type(self).__name__} closed>" if self.shut else f"<{type(self).__name__}>"

    # -- For subclasses -----------------------------------------------------------------------------------------------

    def finish(self):
        """It is being closed, and deregistered already."""
        return 0

    def require(self):
        # Without a node it was never finished.
        if self.shut or self.node is None:
            raise closed_error(self)
        return 0

    def enter(self, selector, token, interest, options):
        with cython.critical_section(self):
            self.require()
            if self.entering or (self.record is not None and self.record.live):
                self.refuse_second(selector)
            # Waiting for the lock of the poll lets go of this one.
            self.entering = True
            self.selector = selector
            self.record = new_record(-1, token, interest, options, False)
            try:
                selector.enter_node(self.node, self.record)
            except BaseException:
                self.selector = None
                self.record = None
                raise
            finally:
                self.entering = False
            if self.shut:
                # By another thread, or a finaliser that ran meanwhile.
                self.selector = None
                selector.leave_node(self.node)
                raise closed_error(self)
        return 0

    def change(self, selector, token, interest, options):
        with cython.critical_section(self):
            self.check_registered(selector)
            selector.change_node(self.node, token, interest, options)
        return 0

    def leave(self, selector):
        with cython.critical_section(self):
            self.check_registered(selector)
            self.selector = None
            selector.leave_node(self.node)
        return 0
