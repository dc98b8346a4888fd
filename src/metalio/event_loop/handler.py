"""Handler: what an event loop calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metalio.event import Event
    from metalio.event_loop.loop import EventLoop
    from metalio.event_loop.read_hint import ReadHint


class Handler:
    """The base of the objects that an `EventLoop` calls: override what you need.

    All methods are called in the thread that runs the loop, one at a time, and may do with the loop what they like:
    register and deregister, close any source, schedule and clear timeouts, send, shut it down, close it.  Only `run`
    and `run_once` are not to be called (`RuntimeError`).  What they return is ignored.  They are plain functions: one
    that is a coroutine or a generator is refused by `run` (`TypeError`).

    An exception ends the turn and propagates from `run` or `run_once`.  The loop stays usable: the next turn delivers
    what had not been delivered.  The call that raised is not repeated.

    An object of another type will do if it has `ready`, `notify`, `timeout`, `interrupted` and `tick`.  What is called
    is looked up once, as `run` or `run_once` begins.
    """

    def ready(self, loop: EventLoop, token: Any, event: Event) -> None:
        """A source is ready: `event` says for what, `token` is the object that it was registered with.

        By default calls `readable` if there is something to read, a hang-up or an error, then `writable` if there is
        room, or nothing more can be written; `writable` is left out if `readable` ended or changed the registration.
        Override it to see the event itself, for instance for `Interest.PRIORITY`, of which these two hear nothing.
        """
        loop._dispatch(self, token, event)

    def readable(self, loop: EventLoop, token: Any, hint: ReadHint) -> None:
        """There is something to read, to accept, a hang-up or an error to be seen; `hint` says which."""

    def writable(self, loop: EventLoop, token: Any) -> None:
        """There is room to write, a connection attempt has ended, or the writing side is closed."""

    def notify(self, loop: EventLoop, message: Any) -> None:
        """A message was sent by one of the senders that `EventLoop.channel` gives."""

    def timeout(self, loop: EventLoop, value: Any) -> None:
        """A timeout that was set by `EventLoop.timeout` has come; `value` is the object given there."""

    def interrupted(self, loop: EventLoop) -> None:
        """A signal has ended the waiting, and its Python handler has run.  Only in the main thread."""

    def tick(self, loop: EventLoop) -> None:
        """The end of a turn, whether anything happened in it or not."""
