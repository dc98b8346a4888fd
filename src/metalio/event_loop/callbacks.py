"""The methods of a handler, looked up once a run."""

from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR

import cython

from metalio.event_loop.handler import Handler

_NOT_PLAIN = CO_COROUTINE | CO_GENERATOR | CO_ASYNC_GENERATOR


@cython.final
@cython.cclass
class Callbacks:
    """What to call.  A method that a handler has from `Handler` is not called at all."""


def callbacks_of(handler):
    if isinstance(handler, type):
        raise TypeError(f"a handler is an instance: {handler.__name__}(), not {handler.__name__}")
    calls: Callbacks = Callbacks.__new__(Callbacks)
    calls.ready = _method(handler, "ready", Handler.ready)
    if calls.ready is None:
        calls.readable = _method(handler, "readable", Handler.readable)
        calls.writable = _method(handler, "writable", Handler.writable)
    calls.notify = _method(handler, "notify", Handler.notify)
    calls.timeout = _method(handler, "timeout", Handler.timeout)
    calls.interrupted = _method(handler, "interrupted", Handler.interrupted)
    calls.tick = _method(handler, "tick", Handler.tick)
    return calls


@cython.cfunc
def _method(handler, name, default):
    method = getattr(handler, name, None)
    function = getattr(method, "__func__", method)
    if function is default:
        return None
    if not callable(method):
        what = f"{type(handler).__name__}.{name}"
        raise TypeError(f"{what} is not a method: a handler has those of metalio.event_loop.Handler, its base")
    code = getattr(function, "__code__", None)
    if code is not None and code.co_flags & _NOT_PLAIN:
        what = f"{type(handler).__name__}.{name}"
        raise TypeError(f"{what} is a coroutine or a generator: an event loop calls plain functions")
    return method
