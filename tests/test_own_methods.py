"""CPython calls a method without a detour only if it is one of the object's very type."""

import pytest
from util import not_on_windows

from metalio import Waker
from metalio.net import TcpStream, UdpSocket, UnixDatagram, UnixStream

BYTES = ["read", "readinto", "write", "close"]
DATAGRAMS = ["recv_from", "send_to", "send", "close"]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (TcpStream, BYTES),
        (UdpSocket, DATAGRAMS),
        pytest.param(UnixStream, BYTES, marks=not_on_windows("Wine has none")),
        pytest.param(UnixDatagram, DATAGRAMS, marks=not_on_windows("there are none")),
    ],
)
def test_methods_are_of_the_very_type(kind, names):
    for name in names:
        assert getattr(kind, name).__objclass__ is kind, name


def test_a_subclass_may_override_them():
    class Loud(TcpStream):
        def close(self):
            closed.append(self)
            super().close()

    closed = []
    stream = Loud.connect("127.0.0.1:9")
    stream.close()
    assert closed == [stream]
    assert stream.closed


@pytest.mark.parametrize("name", ["is_readable", "is_writable", "is_read_closed"])
def test_predicates_look_for_no_arguments(name, poll, events):
    """Which they say as CPython does for a method that takes none (`METH_NOARGS`)."""
    with Waker(poll.registry, "waker") as waker:
        waker.wake()
        poll.poll(events)
        with pytest.raises(TypeError, match="takes no arguments"):
            getattr(events[0], name)(1)
