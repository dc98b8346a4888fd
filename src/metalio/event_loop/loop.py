"""EventLoop: a poll, a channel and a timer, and the loop around them."""

import warnings

import cython
from cython.cimports.cpython.pythread import PyThread_get_thread_ident
from cython.cimports.cpython.ref import Py_DECREF, PyObject
from cython.cimports.metalio._sys.bits import FAILED, HANGUP, READ_CLOSED, READABLE, WRITABLE, WRITE_CLOSED
from cython.cimports.metalio._sys.native import Section, claim, lock, release, take_over, unlock
from cython.cimports.metalio._sys.user_space import FORKED
from cython.cimports.metalio.channel.message_queue import MessageQueue
from cython.cimports.metalio.event import Event
from cython.cimports.metalio.event_loop.callbacks import Callbacks, callbacks_of
from cython.cimports.metalio.event_loop.loop_sender import new_loop_sender
from cython.cimports.metalio.events import Events, EventsIterator
from cython.cimports.metalio.poll import nanoseconds
from cython.cimports.metalio.timer.wheel import Wheel

from metalio._sys.errors import closed_error
from metalio.channel import sync_channel
from metalio.event_loop.config import EventLoopConfig
from metalio.event_loop.read_hint import ReadHint
from metalio.interest import Interest
from metalio.poll_opt import PollOpt

_READABLE = Interest.READABLE
_LEVEL = PollOpt.LEVEL
_EDGE = PollOpt.EDGE
_DEFAULTS = EventLoopConfig()

# By the bits of a hint.
_HINTS = cython.declare(tuple, tuple([ReadHint(bits) for bits in range(8)]))
_DATA = cython.declare(cython.int, ReadHint.DATA.value)
_HUP = cython.declare(cython.int, ReadHint.HUP.value)
_ERROR = cython.declare(cython.int, ReadHint.ERROR.value)

# The token of the loop's own sources.
_OWN = object()


@cython.cfunc
@cython.exceptval(check=False)
def _messages(queue: MessageQueue) -> cython.Py_ssize_t:
    """How many messages there are."""
    count: cython.Py_ssize_t = 0
    section: Section
    lock(cython.address(section), queue)
    count = queue.count()
    unlock(cython.address(section))
    return count


@cython.final
@cython.cclass
class EventLoop:
    """Waits for readiness, messages, timeouts and signals, and calls a handler for each.

    `config` is an `EventLoopConfig`; `selector` names the selector as for `Poll`.  See `Handler` for what is called.

    A turn is: wait for events, at most for `io_poll_timeout`; `ready` for each event; `notify` for the messages that
    are there, at most `messages_per_tick`; `timeout` for what is due; `tick`.  A message that is sent, or a timeout
    that is set, while those are delivered is for the next turn.  So is everything that an exception left undelivered:
    then the next turn goes on with that, without waiting.  An event of a registration that has ended or changed
    meanwhile is dropped, in whichever turn.

    The senders that `channel()` gives, `shutdown()` and `is_running()` are for any thread; the rest is for the thread
    that runs the loop, or for any while none does (else `RuntimeError`).  One thread may prepare it and another run it.

    It owns descriptors: close it, or use it as a context manager.  As a `Poll` it is unusable in a child process.
    """

    def __cinit__(self, config=_DEFAULTS, *, selector=None):
        if not isinstance(config, EventLoopConfig):
            raise TypeError(f"expected an EventLoopConfig, not {type(config).__name__}")
        self.io_poll_timeout = nanoseconds(config.io_poll_timeout)
        self.messages_per_tick = config.messages_per_tick
        if self.messages_per_tick < 1:
            raise ValueError(f"messages_per_tick is at least 1: {config.messages_per_tick!r}")
        self.events = Events()
        self.iterator = EventsIterator.__new__(EventsIterator)
        self.timer = Timer(tick=config.timer_tick, slots=config.timer_wheel_size, capacity=config.timer_capacity)
        sender, self.receiver = sync_channel(config.notify_capacity)
        with sender:
            self.sender = new_loop_sender(self.receiver.queue)
        self.bell = Registration.new()[0]
        self.poll = Poll(selector=selector)
        # It is the loop that warns of not having been closed.
        self.poll.done = True
        self.open = True
        self.registry = self.poll.registry
        self.registry.register(self.receiver, _OWN, _READABLE, _LEVEL)
        self.registry.register(self.timer, _OWN, _READABLE, _LEVEL)
        self.registry.register(self.bell, _OWN, _READABLE, _EDGE)

    def __del__(self):
        if self.open:
            try:
                if self.poll.selector.state != FORKED and warnings is not None:
                    warnings.warn(f"unclosed {self!r}", ResourceWarning, 2, source=self)
            finally:
                self.close()

    # -- Sources ------------------------------------------------------------------------------------------------------

    def register(self, source, token, interest=_READABLE, opts=_LEVEL):
        """Have the handler called for a source, with `token`.  The same as `Registry.register`, but level-triggered by
        default: as long as a source is ready it is reported in every turn, so a callback need not drain it.
        """
        self.require_thread()
        self.registry.register(source, token, interest, opts)

    def reregister(self, source, token, interest=_READABLE, opts=_LEVEL):
        """Replace token, interest and options of a registration (`Registry.reregister`).

        What is ready is reported by the next turn; an event that was on its way is dropped.
        """
        self.require_thread()
        self.registry.reregister(source, token, interest, opts)

    def deregister(self, source):
        """Watch a source no longer (`Registry.deregister`).  An event on its way is dropped."""
        self.require_thread()
        self.registry.deregister(source)

    # -- Messages and timeouts ----------------------------------------------------------------------------------------

    def channel(self):
        """A `LoopSender`, whose messages the handler gets by `notify`."""
        self.require_thread()
        return self.sender.clone()

    def timeout(self, value, delay):
        """Have `Handler.timeout` called with `value` after `delay` seconds; what this returns is for `clear_timeout`.

        Never too early, and about `timer_tick` late at the most, if the turn is not held up.  A negative delay counts
        as 0, and comes after the callback has returned.  Raises `TimerFull` if `timer_capacity` are pending,
        `TypeError` for a value of `None`.
        """
        self.require_thread()
        return self.timer.set_timeout(delay, value)

    def clear_timeout(self, timeout):
        """Call a timeout off, and release its value.  `False` if it has been delivered or called off already."""
        self.require_thread()
        return self.timer.cancel_timeout(timeout) is not None

    # -- Running ------------------------------------------------------------------------------------------------------

    def run(self, handler):
        """Make turns until `shutdown()` or `close()` is called; returns `handler`.  May be called again.

        Raises what a callback raises, `KeyboardInterrupt`, and `OSError` from the selector; `RuntimeError` if the loop
        is running already, in this or in another thread, or belongs to the parent of this process; `ValueError` if it
        is closed; `TypeError` for what is no `Handler`.
        """
        self.begin()
        try:
            calls: Callbacks = callbacks_of(handler)
            while self.turn(calls, self.io_poll_timeout):
                pass
        finally:
            self.end()
        return handler

    def run_once(self, handler, timeout=None):
        """Make one turn; whether to go on, which is `False` after `shutdown()` or `close()`.

        It waits for `timeout` seconds at the most; 0 does not wait; `None` is what `io_poll_timeout` says.  Raises what
        `run` raises.
        """
        self.begin()
        try:
            limit: cython.longlong = self.io_poll_timeout if timeout is None else nanoseconds(timeout)
            return self.turn(callbacks_of(handler), limit)
        finally:
            self.end()

    def shutdown(self):
        """Have `run` return when the turn is finished; what is left over is for the next run.

        From any thread, and from a signal handler.  If the loop is not running it counts for the next run, which makes
        one turn without waiting; so it does if the turn is ended by an exception.
        """
        with cython.critical_section(self):
            if not self.open:
                return
            self.stopping = True
        self.bell.node.set(READABLE)

    def is_running(self):
        """Whether `run` or `run_once` is under way and nobody has shut the loop down."""
        return self.busy != 0 and not self.stopping

    # -- The turn -----------------------------------------------------------------------------------------------------

    def turn(self, calls, timeout):
        if self.index >= self.events.count:
            self.wait(calls, timeout)
        self.deliver_events(calls)
        self.deliver_messages(calls)
        self.deliver_timeouts(calls)
        if calls.tick is not None and self.open:
            calls.tick(self)
        if not self.stopping:
            return True
        # Before the next turn looks at `stopping`: so a shutdown() that comes meanwhile is heard.
        self.stopping = False
        self.bell.node.set(0)
        return False

    def wait(self, calls, timeout):
        interrupted: cython.bint = False
        self.index = 0
        try:
            self.poll.selector.select(self.events, 0 if self.stopping else timeout, True)
        except InterruptedError:
            interrupted = True
        # Not among the handlers of an exception: it is none for the callback.
        if interrupted and calls.interrupted is not None and self.open:
            calls.interrupted(self)
        return 0

    def deliver_events(self, calls):
        token: cython.pointer[PyObject]
        event: object = None
        ready: cython.int = 0
        try:
            while self.index < self.events.count:
                self.index += 1
                token = self.events.token_at(self.index - 1)
                if token == cython.NULL:
                    continue
                if token == cython.cast(cython.pointer[PyObject], _OWN):
                    Py_DECREF(cython.cast(object, token))
                    continue
                ready = self.events.entries[self.index - 1].ready
                if calls.ready is None:
                    self.dispatch(calls.readable, calls.writable, take_over(token), ready, True)
                else:
                    event = take_over(self.iterator.give(token, ready))
                    self.current = cython.cast(cython.pointer[PyObject], event)
                    calls.ready(self, cython.cast(Event, event).tag, event)
        finally:
            self.current = cython.NULL
            self.iterator.release()
        return 0

    def dispatch(self, readable, writable, token, ready, current):
        hint: cython.int = 0
        if readable is not None and ready & (READABLE | HANGUP | READ_CLOSED | FAILED):
            if ready & READABLE:
                hint = _DATA
            if ready & (HANGUP | READ_CLOSED):
                hint |= _HUP
            if ready & FAILED:
                hint |= _ERROR
            readable(self, token, _HINTS[hint])
            if current and self.events.is_stale(self.index - 1):
                return 0
        if writable is not None and (ready & (WRITABLE | HANGUP | WRITE_CLOSED) or ready == FAILED):
            writable(self, token)
        return 0

    def _dispatch(self, handler, token, event):
        """What `Handler.ready` does."""
        if not isinstance(event, Event):
            raise TypeError(f"expected an Event, not {type(event).__name__}")
        current: cython.bint = self.current == cython.cast(cython.pointer[PyObject], event)
        self.dispatch(handler.readable, handler.writable, token, cython.cast(Event, event).ready, current)

    def deliver_messages(self, calls):
        message: cython.pointer[PyObject]
        left: cython.Py_ssize_t = min(_messages(self.receiver.queue), self.messages_per_tick)
        while left > 0 and self.open:
            left -= 1
            message = self.receiver.take()
            if message == cython.NULL:
                return 0
            if calls.notify is None:
                Py_DECREF(cython.cast(object, message))
            else:
                calls.notify(self, take_over(message))
        return 0

    def deliver_timeouts(self, calls):
        wheel: Wheel = self.timer.wheel
        if wheel.count == 0:
            return 0
        # Numbers grow: what a callback schedules has a higher one.  As long as something is due the timer does not ask
        # what else has become due meanwhile.
        newest: cython.ulonglong = wheel.number
        value = self.timer.poll()
        while value is not None:
            if calls.timeout is not None:
                calls.timeout(self, value)
            # Nothing is due any more once the loop is closed.
            if wheel.due.first == 0 or wheel.number_at(wheel.due.first) > newest:
                return 0
            value = self.timer.poll()
        return 0

    # -- Who may ------------------------------------------------------------------------------------------------------

    def require(self):
        if not self.open:
            raise closed_error(self)
        return 0

    def require_thread(self):
        self.require()
        if self.busy and self.owner != PyThread_get_thread_ident():
            raise RuntimeError("this EventLoop is running in another thread: send it a message (see channel())")
        return 0

    def begin(self):
        self.require()
        if claim(cython.address(self.busy)):
            raise RuntimeError("this EventLoop is running already")
        self.owner = PyThread_get_thread_ident()
        return 0

    def end(self):
        if not self.open:
            self.stopping = False
        release(cython.address(self.busy))
        return 0

    # -- The end ------------------------------------------------------------------------------------------------------

    @property
    def closed(self):
        """Whether it is closed."""
        return not self.open

    def close(self):
        """End all registrations, drop messages and timeouts, and close the descriptors.  May be called again.

        A callback may do so: then nothing more is called, and `run` returns.  Senders get `Disconnected`; sources stay
        open.
        """
        if not self.open:
            return
        self.require_thread()
        with cython.critical_section(self):
            self.open = False
            self.stopping = True
        self.poll.close()
        self.bell.close()
        self.receiver.close()
        self.timer.close()

    def __enter__(self):
        self.require()
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    def __repr__(self):
        if not self.open:
            return "<EventLoop closed>"
        return f"<EventLoop on {self.poll.selector_name}{' running' if self.is_running() else ''}>"
