"""Whatever is done to the types of the modules beside the core: an exception at the most, never a crash."""

import gc
import random
import signal
import warnings

import pytest
from test_misuse import abuse
from util import READABLE, WINDOWS, apart, mine, tcp_pair

import metalio.buf
import metalio.channel
import metalio.event_loop
import metalio.process
import metalio.readiness
import metalio.selectors
import metalio.slab
import metalio.timer
from metalio import Poll
from metalio.channel import message_queue
from metalio.timer import wheel
from metalio.user_source import UserSource

MODULES = (
    metalio.buf,
    metalio.channel,
    metalio.event_loop,
    metalio.process,
    metalio.readiness,
    metalio.selectors,
    metalio.slab,
    metalio.timer,
)
if not WINDOWS:
    import metalio.signal

    MODULES += (metalio.signal,)
TYPES = [
    getattr(module, name)
    for module in MODULES
    for name in module.__all__
    if isinstance(getattr(module, name), type) and not getattr(getattr(module, name), "_is_protocol", False)
]
INTERNAL = [wheel.Wheel, message_queue.MessageQueue, message_queue.Waiter, UserSource]


def whole():
    """Objects in use."""
    poll = mine(Poll())
    registration, ready = metalio.readiness.Registration.new()
    poll.registry.register(registration, "r", READABLE)
    timer = metalio.timer.Timer()
    poll.registry.register(timer, "t", READABLE)
    sender, receiver = metalio.channel.channel()
    poll.registry.register(receiver, "c", READABLE)
    sync_sender, sync_receiver = metalio.channel.sync_channel(3)
    sender_ctl, receiver_ctl = metalio.channel.ctl_pair()
    slab = metalio.slab.Slab(4, 2)
    slab.insert("value")
    ring = metalio.buf.RingBuf(16)
    metalio.buf.write_all(ring, b"data")
    selector = mine(metalio.selectors.MetalSelector())
    stream, _ = tcp_pair()
    selector.register(stream, 1)
    return [
        registration,
        ready,
        timer,
        timer.set_timeout(1, "state"),
        sender,
        receiver,
        receiver.drain(),
        sync_sender,
        sync_receiver,
        sender_ctl,
        receiver_ctl,
        slab,
        slab.vacant_entry(),
        iter(slab),
        ring,
        ring.reader(),
        ring.writer(),
        metalio.buf.ByteBuf(16),
        metalio.buf.wrap(b"data"),
        metalio.buf.wrap_mut(bytearray(16)),
        selector,
        selector.get_map(),
        mine(metalio.event_loop.EventLoop()),
        metalio.event_loop.Handler(),
        *([] if WINDOWS else [mine(metalio.signal.Signals({signal.SIGUSR2}))]),
    ]


# They would wait, or fork, or send what they are told to.
WAIT = {"run", "run_once", "send", "send_signal", "select", "clone"}


class Veiled:
    """A thing without its methods that wait."""

    def __init__(self, thing):
        object.__setattr__(self, "thing", thing)

    def __dir__(self):
        return [name for name in dir(self.thing) if name not in WAIT]

    def __getattr__(self, name):
        return getattr(self.thing, name)

    def __setattr__(self, name, value):
        setattr(self.thing, name, value)

    def __delattr__(self, name):
        delattr(self.thing, name)


def test_any_method_with_any_arguments():
    def check():
        warnings.simplefilter("ignore")
        for seed in range(3):
            things = whole()
            for thing in things:
                abuse(Veiled(thing), random.Random(seed), things)
                repr(thing)
            del things, thing
            gc.collect()

    apart(check)


# A process is expensive on Windows: there one does for all.
ALL = [*TYPES, *INTERNAL]


@pytest.mark.parametrize("kinds", [ALL] if WINDOWS else [[kind] for kind in ALL], ids=lambda kinds: kinds[0].__name__)
def test_made_without_a_constructor(kinds):
    def check_all():
        warnings.simplefilter("ignore")
        for kind in kinds:
            check(kind)

    def check(kind):
        for seed in range(3):
            try:
                thing = kind.__new__(kind)
            except TypeError:
                return
            try:
                repr(thing)
            except (AttributeError, TypeError, ValueError):
                pass
            with Poll() as poll:
                for call in (
                    lambda poll=poll, thing=thing: poll.registry.register(thing, "t", READABLE),
                    lambda poll=poll: poll.poll(metalio.Events(), 0),
                    # These wait if they work, which they must not.
                    *(lambda name=name, thing=thing: getattr(thing, name)(1) for name in sorted(WAIT - {"clone"})),
                    lambda thing=thing: thing.clone(),
                ):
                    try:
                        call()
                    except (AttributeError, TypeError, ValueError, OSError, RuntimeError):
                        pass
                abuse(Veiled(thing), random.Random(seed))
            del thing
            gc.collect()

    apart(check_all)
