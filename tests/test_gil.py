"""The GIL stays held in what does not block, and is given up to sleep and for large transfers.

No measuring: a second thread stands ready to note that it has run, and cannot unless the first gives up the GIL, since
forced switches are turned off meanwhile.
"""

import contextlib
import socket
import sys
import threading
import time

import pytest
from util import (
    BOTH,
    MOMENT,
    PATIENCE,
    READABLE,
    WRITABLE,
    drain,
    mine,
    socket_pair,
    tcp_listener,
    tcp_pair,
    wait_readable,
)

from metalio import Events, Poll, PollOpt, Waker
from metalio.net import TcpStream

pytestmark = pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="there is no GIL here")

LEVEL = PollOpt.LEVEL


class Bystander(threading.Thread):
    """A thread that notes that it has run, as soon as it gets the GIL."""

    def __init__(self, action=None):
        super().__init__(daemon=True)
        self.gate = threading.Lock()
        self.gate.acquire()
        self.action = action
        self.ran = False
        self.start()

    def run(self):
        self.gate.acquire()
        self.ran = True
        if self.action is not None:
            self.action()

    @contextlib.contextmanager
    def waiting(self):
        """It wants the GIL, and nobody takes it from the one that has it."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        try:
            self.gate.release()
            # Time for it to wake up.  It can have nothing but the GIL to wait for then.
            end = time.perf_counter() + 0.005
            while time.perf_counter() < end:
                pass
            assert not self.ran
            yield
        finally:
            sys.setswitchinterval(interval)
            self.join(PATIENCE)


def keeps(function, times=50):
    bystander = Bystander()
    with bystander.waiting():
        for _ in range(times):
            function()
        ran = bystander.ran
    assert bystander.ran, "the bystander never ran: the test would prove nothing"
    return not ran


def gives_up(function):
    """Whether it does so within many calls: the bystander may miss a chance that is short."""
    bystander = Bystander()
    with bystander.waiting():
        end = time.perf_counter() + PATIENCE
        while not bystander.ran and time.perf_counter() < end:
            function()
        return bystander.ran


# -- That the method works --------------------------------------------------------------------------------------------


def test_calls_that_are_known_to_give_it_up():
    left, right = socket_pair()
    sink = bytearray(10)

    def transfer():
        right.send(b"x")
        left.recv_into(sink)

    assert gives_up(transfer)
    assert gives_up(lambda: time.sleep(0))
    assert gives_up(lambda: time.sleep(0.001))


def test_calls_that_are_known_to_keep_it():
    assert keeps(lambda: sum(range(1000)))


# -- What does not block ----------------------------------------------------------------------------------------------


def test_small_transfers():
    stream, peer = tcp_pair()
    buffer = bytearray(1024)
    vector = [bytearray(512), bytearray(512)]
    data = bytes(1024)

    def echo(send, receive):
        send()
        got = receive()
        while got is None:
            got = receive()

    sends = [
        lambda: peer.write(data),
        lambda: peer.write(buffer),
        lambda: peer.writev([data[:512], data[512:]]),
    ]
    receives = [
        lambda: stream.read(1024),
        lambda: stream.read(65536),
        lambda: stream.read(1 << 20),
        lambda: stream.readinto(buffer),
        lambda: stream.readv(vector),
    ]
    for send in sends:
        for receive in receives:
            assert keeps(lambda send=send, receive=receive: echo(send, receive)), (send, receive)


def test_what_would_block():
    stream, peer = tcp_pair()
    buffer = bytearray(1024)
    listener = tcp_listener()
    for call in (
        lambda: stream.read(1024),
        lambda: stream.read(1 << 20),
        lambda: stream.readall(),
        lambda: stream.readinto(buffer),
        lambda: stream.readinto(bytearray(1 << 20)),
        lambda: stream.readv([buffer]),
        lambda: stream.peek(10),
        lambda: stream.peekinto(buffer),
        lambda: listener.accept(),
    ):
        assert keeps(call)
    while peer.write(bytes(1024)) is not None:
        pass
    assert keeps(lambda: peer.write(b"x"))
    assert keeps(lambda: peer.writev([b"x", b"y"]))


def test_options_and_names():
    stream, _ = tcp_pair()
    for call in (
        lambda: stream.local_addr,
        lambda: stream.peer_addr,
        lambda: stream.nodelay,
        lambda: stream.linger,
        lambda: stream.take_error(),
        lambda: stream.try_clone().close(),
        lambda: setattr(stream, "nodelay", True),
    ):
        assert keeps(call)


def test_connecting_and_accepting(selector):
    listener = tcp_listener()

    def connect():
        client = TcpStream.connect(listener.local_addr)
        connection = None
        while connection is None:
            connection = listener.accept()
        connection[0].close()
        client.close()

    assert keeps(connect)


def test_registering(selector, events):
    stream, _ = tcp_pair()
    foreign, _ = socket_pair()
    with Poll(selector=selector) as poll:

        def churn():
            for source in (stream, foreign):
                poll.registry.register(source, "t", BOTH, LEVEL)
                poll.registry.reregister(source, "u", READABLE, LEVEL)
                poll.registry.deregister(source)

        assert keeps(churn)


def test_looking(poll, events):
    left, right = socket_pair()
    poll.registry.register(left, "t", READABLE, LEVEL)
    assert keeps(lambda: poll.poll(events, 0))
    right.send(b"x")

    def look():
        assert poll.poll(events, 0) == 1
        for event in events:
            assert event.token == "t" and event.is_readable()

    assert keeps(look)


@pytest.mark.parametrize("timeout", [None, 1, 0.0005, PATIENCE])
def test_a_poll_that_finds_events_where_the_last_one_did(poll, events, timeout):
    """It looks before it sleeps."""
    left, _ = socket_pair()
    poll.registry.register(left, "t", WRITABLE, LEVEL)
    assert poll.poll(events, 0) == 1
    assert keeps(lambda: poll.poll(events, timeout))


def test_waking(selector, waker_kind, events):
    with Poll(selector=selector) as poll:
        waker = Waker(poll.registry, "w")

        def wake():
            waker.wake()
            assert poll.poll(events, 0) == 1

        assert keeps(wake)
        assert keeps(lambda: waker.wake())


# -- What gives it up -------------------------------------------------------------------------------------------------


def test_sleeping(poll, events):
    assert gives_up(lambda: poll.poll(events, MOMENT))


def test_sleeping_after_a_batch(poll, events):
    left, _ = socket_pair()
    poll.registry.register(left, "t", WRITABLE, LEVEL)

    def turn():
        poll.registry.reregister(left, "t", WRITABLE, LEVEL)
        assert poll.poll(events, 0) == 1
        poll.registry.reregister(left, "t", READABLE, LEVEL)
        assert poll.poll(events, MOMENT) == 0

    assert gives_up(turn)


def test_a_sleeper_is_woken_by_who_could_not_have_run_else(selector, waker_kind, events):
    with Poll(selector=selector) as poll:
        waker = Waker(poll.registry, "w")
        bystander = Bystander(waker.wake)
        with bystander.waiting():
            assert poll.poll(events, PATIENCE) == 1
        assert bystander.ran


def test_large_writes():
    stream, peer = tcp_pair()
    data = bytes(8 << 20)
    sink = bytearray(60_000)

    def write():
        stream.write(data)
        while peer.readinto(sink):
            pass

    assert gives_up(write)


def test_large_reads():
    stream, peer = tcp_pair()
    chunk = bytes(60_000)
    buffer = bytearray(8 << 20)
    total = 0

    def read():
        nonlocal total
        while peer.write(chunk) is not None:
            pass
        total += stream.readinto(buffer) or 0

    assert gives_up(read)
    assert total
    drain(stream)


def test_the_small_transfers_around_the_large_ones_keep_it():
    """What the tests of large transfers do besides is not what gives it up."""
    stream, peer = tcp_pair()
    chunk, sink = bytes(60_000), bytearray(60_000)

    def both():
        while peer.write(chunk) is not None:
            pass
        while stream.readinto(sink):
            pass

    assert keeps(both, 5)


def test_a_bystander_is_not_held_up_by_the_library():
    """The contract's promise from the other side: a thread that waits for bytes lets others run."""
    with Poll() as poll:
        left, right = mine(*socket.socketpair())
        left.setblocking(False)
        poll.registry.register(left, "t", READABLE, LEVEL)
        events = Events()
        bystander = Bystander(lambda: right.send(b"x"))
        with bystander.waiting():
            assert poll.poll(events, PATIENCE) == 1
        wait_readable(left)
