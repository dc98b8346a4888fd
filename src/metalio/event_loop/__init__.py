"""A program written as a handler: an `EventLoop` calls it for readiness, messages, timeouts, signals and turns.

`EventLoop.run(handler)` is the loop around a `Poll`, with a channel and a timer in it, and `Handler` the base of what
it calls.
"""

from metalio.event_loop.config import EventLoopConfig
from metalio.event_loop.handler import Handler
from metalio.event_loop.loop import EventLoop
from metalio.event_loop.loop_sender import LoopSender
from metalio.event_loop.read_hint import ReadHint

__all__ = ["EventLoop", "EventLoopConfig", "Handler", "LoopSender", "ReadHint"]
