"""Fork: a poll that a child inherits is unusable there, and the parent's is untouched."""

import os
import signal
import socket
import threading
import weakref

import pytest
from util import (
    BOTH,
    PATIENCE,
    PROC,
    READABLE,
    WRITABLE,
    Worker,
    accept,
    drain,
    expect_events,
    expect_no_events,
    expect_only,
    in_child,
    mine,
    open_descriptors,
    seen,
    sleeping,
    socket_pair,
    tcp_listener,
    tcp_pair,
    wait_readable,
)

from metalio import Events, Poll, PollOpt, Waker
from metalio.net import TcpStream

LEVEL, ONESHOT = PollOpt.LEVEL, PollOpt.ONESHOT

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture
def poll(selector, waker_kind):
    with Poll(selector=selector) as poll:
        yield poll


def test_it_is_unusable_in_the_child(poll, events):
    stream, _ = tcp_pair()
    foreign, _ = socket_pair()
    fresh, _ = socket_pair()
    waker = Waker(poll.registry, "w")
    poll.registry.register(stream, "t", BOTH)
    poll.registry.register(foreign, "u", BOTH, LEVEL)
    poll.poll(events, PATIENCE)

    def check():
        for use in (
            lambda: poll.poll(events, 0),
            lambda: poll.poll(events),
            lambda: poll.poll_interruptible(events, 0),
            lambda: poll.fileno(),
            lambda: poll.__enter__(),
            lambda: poll.registry.register(fresh, "v", READABLE, LEVEL),
            lambda: poll.registry.register(foreign, "v", READABLE, LEVEL),
            lambda: poll.registry.reregister(foreign, "v", READABLE, LEVEL),
            lambda: poll.registry.deregister(foreign),
            lambda: poll.registry.reregister(stream, "v", READABLE),
            lambda: poll.registry.deregister(stream),
            lambda: waker.wake(),
            lambda: Waker(poll.registry, "x"),
        ):
            with pytest.raises(RuntimeError, match="after the fork"):
                use()
        assert poll.closed
        repr(poll), repr(waker), repr(poll.registry)
        poll.close()
        poll.close()
        waker.close()
        list(events)

    in_child(check)
    expect_events(poll, events, {"u": "writable"})
    waker.wake()
    expect_events(poll, events, {"w": "readable"})


def test_its_descriptors_are_closed_in_the_child(selector, waker_kind):
    before = open_descriptors()
    with Poll(selector=selector) as poll:
        own = open_descriptors().keys() - before.keys()
        assert own

        def check():
            assert not own & open_descriptors().keys()
            # Their numbers are free for others, which closing the poll must leave alone.
            files = [os.open("/dev/null", os.O_RDONLY) for _ in range(len(own) + 2)]
            assert own & set(files)
            poll.close()
            for file in files:
                os.fstat(file)

        in_child(check)


def test_dropping_it_in_the_child(selector, waker_kind, events):
    box = [Poll(selector=selector)]
    left, right = socket_pair()
    box[0].registry.register(left, "t", READABLE, LEVEL)

    def check():
        alive = weakref.ref(box[0])
        box.clear()
        assert alive() is None

    in_child(check)
    right.send(b"x")
    expect_only(box[0], events, "t", "readable")
    box[0].close()


def test_the_parents_registrations_are_untouched(poll, events):
    """Whatever the child does to the sources that it inherited."""
    streams = [tcp_pair() for _ in range(6)]
    foreign, right = socket_pair()
    listener = tcp_listener()
    waker = Waker(poll.registry, "w")
    for number, (stream, _) in enumerate(streams):
        poll.registry.register(stream, number, READABLE)
    poll.registry.register(foreign, "foreign", READABLE, LEVEL)
    poll.registry.register(listener, "listener", READABLE)

    def check():
        streams[0][0].close()
        streams[1][0].into_socket().close()
        with pytest.raises(RuntimeError):
            poll.registry.deregister(streams[2][0])
        with pytest.raises(RuntimeError):
            poll.registry.reregister(streams[3][0], "stolen", WRITABLE)
        assert streams[4][0].read(5) is None
        foreign.close()
        listener.close()
        waker.close()
        poll.close()

    in_child(check)
    expect_no_events(poll, events)
    for _, peer in streams:
        peer.write(b"x")
    right.send(b"x")
    mine(TcpStream.connect(listener.local_addr))
    waker.wake()
    expect_events(
        poll,
        events,
        {**dict.fromkeys(range(6), "readable"), "foreign": "readable", "listener": "readable", "w": "readable"},
    )
    for stream, _ in streams:
        assert drain(stream) == b"x"


def test_reading_in_the_child_does_not_touch_the_parents_poll(poll, events):
    """A short read renews an edge where edges are emulated, and in the child there is nothing to renew."""
    stream, peer = tcp_pair()
    poll.registry.register(stream, "t", READABLE)
    peer.write(b"abc")
    expect_only(poll, events, "t", "readable")

    def check():
        assert stream.read(1) == b"a"
        assert stream.read(10) == b"bc"
        assert stream.read(10) is None
        assert stream.write(b"child") == 5

    in_child(check)
    wait_readable(peer)
    assert peer.read(10) == b"child"
    assert stream.read(10) is None
    peer.write(b"d")
    expect_only(poll, events, "t", "readable")


def test_an_inherited_source_can_be_registered_with_a_new_poll(poll, events, selector):
    """As in a server whose workers share a listener."""
    listener = tcp_listener()
    stream, peer = tcp_pair()
    foreign, right = socket_pair()
    poll.registry.register(listener, "parent", READABLE, LEVEL)
    poll.registry.register(stream, "parent too", READABLE, LEVEL)
    poll.registry.register(foreign, "foreign", READABLE, LEVEL)
    spare, other = tcp_pair()
    poll.registry.register(spare, "spare", READABLE)

    def check():
        with Poll(selector=selector) as own:
            for source, token in ((listener, "child"), (stream, "child too"), (foreign, "foreign child")):
                own.registry.register(source, token, READABLE, LEVEL)
            batch = Events()
            assert own.poll(batch, 0) == 0
            client = TcpStream.connect(listener.local_addr)
            expect_only(own, batch, "child", "readable")
            accept(listener)[0].close()
            client.close()
            peer.write(b"x")
            expect_only(own, batch, "child too", "readable")
            assert stream.read(5) == b"x"
            own.registry.deregister(stream)
            with pytest.raises(FileNotFoundError):
                own.registry.deregister(spare)

    in_child(check)
    expect_no_events(poll, events)
    for send in (peer.write, other.write, right.send):
        send(b"y")
    expect_events(poll, events, {"parent too": "readable", "spare": "readable", "foreign": "readable"})


def test_workers_that_share_a_listener(selector):
    """Several children, each with a poll of its own, serve one listener."""
    listener = tcp_listener()
    with Poll(selector=selector) as poll:
        poll.registry.register(listener, "parent", READABLE)
        children = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                try:
                    signal.alarm(20)
                    with Poll(selector=selector) as own:
                        batch = Events()
                        own.registry.register(listener, "t", READABLE, LEVEL)
                        served = 0
                        while not served:
                            own.poll(batch, PATIENCE)
                            connection = listener.accept()
                            if connection:
                                connection[0].write(b"%d" % os.getpid())
                                connection[0].close()
                                served += 1
                    os._exit(0)
                finally:
                    os._exit(1)
            children.append(pid)
        answers = []
        for _ in children:
            with socket.create_connection(listener.local_addr, PATIENCE) as client:
                answers.append(int(client.recv(100)))
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        assert sorted(answers) == sorted(children)


def test_the_tokens_of_the_child_are_released_with_the_poll(selector):
    class Thing:
        pass

    left, _ = socket_pair()
    stream, _ = tcp_pair()
    with Poll(selector=selector) as poll:
        tokens = [Thing(), Thing()]
        alive = [weakref.ref(token) for token in tokens]
        poll.registry.register(left, tokens[0], READABLE, LEVEL)
        poll.registry.register(stream, tokens[1], READABLE)
        del tokens

        def check():
            poll.close()
            assert [reference() for reference in alive] == [None, None]

        in_child(check)
        assert all(reference() is not None for reference in alive)


def test_a_new_poll_in_the_child(poll, selector):
    def check():
        with Poll(selector=selector) as own:
            batch = Events()
            left, right = socket_pair()
            own.registry.register(left, "t", READABLE, LEVEL)
            with Waker(own.registry, "w") as waker:
                waker.wake()
                expect_only(own, batch, "w", "readable")
            right.send(b"x")
            expect_only(own, batch, "t", "readable")

    in_child(check)


def test_grandchildren(poll, events, selector):
    left, right = socket_pair()
    poll.registry.register(left, "t", READABLE, LEVEL)

    def check():
        own = Poll(selector=selector)

        def check_again():
            for other in (poll, own):
                with pytest.raises(RuntimeError):
                    other.poll(events, 0)

        in_child(check_again)
        assert own.poll(events, 0) == 0
        own.close()

    in_child(check)
    right.send(b"x")
    expect_only(poll, events, "t", "readable")


def test_a_closed_poll_stays_closed_in_the_child(selector, events):
    poll = Poll(selector=selector)
    poll.close()

    def check():
        with pytest.raises(ValueError, match="closed"):
            poll.poll(events, 0)
        poll.close()

    in_child(check)


def test_forking_while_another_thread_sleeps(poll):
    left, right = socket_pair()
    poll.registry.register(left, "t", READABLE, LEVEL)
    batch = Events()
    worker = Worker(poll.poll, batch, PATIENCE)
    sleeping(worker)

    def check():
        with pytest.raises(RuntimeError):
            poll.poll(Events(), 0)
        with pytest.raises(RuntimeError):
            poll.registry.register(tcp_pair()[0], "t", READABLE)
        # Nobody sleeps here who would have to leave first.
        poll.close()

    in_child(check)
    right.send(b"x")
    assert worker.finish() == 1
    assert seen(batch) == [("t", {"readable"})]


def test_forking_in_a_thread(poll, events):
    left, right = socket_pair()
    poll.registry.register(left, "t", READABLE, LEVEL)

    def fork():
        pid = os.fork()
        if pid == 0:
            try:
                poll.poll(Events(), 0)
            except RuntimeError:
                os._exit(0)
            finally:
                os._exit(1)
        return os.waitpid(pid, 0)[1]

    assert Worker(fork).finish() == 0
    right.send(b"x")
    expect_only(poll, events, "t", "readable")


def test_forking_during_iteration(poll, events):
    pairs = [socket_pair() for _ in range(3)]
    for number, (left, _) in enumerate(pairs):
        poll.registry.register(left, number, WRITABLE, LEVEL)
    assert poll.poll(events, 0) == 3
    for event in events:

        def check(event=event):
            # Kept or not, the batch is of no use here, and does no harm.
            assert event.token in range(3)
            list(events)
            events.clear()

        in_child(check)
    assert len(list(events)) == 3


def test_fork_and_exec(poll):
    """Nothing of it is inherited by what is executed."""
    if not PROC:
        pytest.skip("only Linux tells what a descriptor is, in /proc")
    stream, _ = tcp_pair()
    listener = tcp_listener()
    numbers = [stream.fileno(), listener.fileno()]
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, 1)
        os.execv("/bin/sh", ["sh", "-c", "ls -l /proc/self/fd"])
    os.close(writing)
    with open(reading) as output:
        listing = output.read()
    assert os.waitpid(pid, 0)[1] == 0
    assert "eventpoll" not in listing and "eventfd" not in listing
    for number in numbers:
        assert f" {number} -> socket" not in listing


def test_many_forks_with_threads_that_register(poll):
    """Whatever another thread is in the middle of, the child comes through."""
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            left, right = socket.socketpair()
            poll.registry.register(left, "t", READABLE, LEVEL)
            poll.poll(Events(4), 0)
            poll.registry.deregister(left)
            left.close()
            right.close()

    worker = Worker(churn)
    try:
        for _ in range(20):

            def check():
                with pytest.raises(RuntimeError):
                    poll.poll(Events(), 0)
                poll.close()

            in_child(check)
    finally:
        stop.set()
        worker.finish()
