"""UdpSocket."""

import collections
import contextlib
import errno
import gc
import os
import random
import socket
import struct
import sys

import pytest
from util import BOTH, READABLE, count_fds, expect_events, expect_no_events, expect_only, is_open, mine, wait_readable

from metalio import PollOpt
from metalio.net import DatagramBatch, TcpStream, UdpSocket


def _has_v6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_v6 = pytest.mark.skipif(not _has_v6(), reason="this machine has no ::1")


@pytest.fixture(params=["127.0.0.1:0", pytest.param("[::1]:0", marks=needs_v6)], ids=["v4", "v6"])
def any_addr(request):
    """A free address, of each family."""
    return request.param


def udp(addr="127.0.0.1:0", **options):
    return mine(UdpSocket.bind(addr, **options))


def two(addr="127.0.0.1:0"):
    return udp(addr), udp(addr)


def received(sock, size=65536):
    """The next datagram, which has to come, and its sender."""
    wait_readable(sock)
    found = sock.recv_from(size)
    assert found is not None
    return found


def nobody(addr="127.0.0.1:0"):
    """An address at which nobody listens."""
    with UdpSocket.bind(addr) as sock:
        return sock.local_addr


def refused(addr="127.0.0.1:0"):
    """A socket whose last datagram has been refused."""
    target = nobody(addr)
    sock = udp(addr)
    sock.connect(target)
    assert sock.send(b"anybody?") == 8
    wait_readable(sock)
    return sock, target


# -- Sending and receiving --------------------------------------------------------------------------------------------


def test_to_and_from(any_addr):
    first, second = two(any_addr)
    assert first.send_to(b"hello", second.local_addr) == 5
    assert received(second) == (b"hello", first.local_addr)
    assert second.send_to(bytearray(b"you"), first.local_addr) == 3
    assert received(first) == (b"you", second.local_addr)


def test_addresses_are_those_of_the_socket_module(any_addr):
    first, second = two(any_addr)
    with socket.socket(fileno=os.dup(first.fileno())) as oracle:
        assert first.local_addr == oracle.getsockname()
        second.send_to(b"x", first.local_addr)
        wait_readable(first)
        expected = oracle.recvfrom(10, socket.MSG_PEEK)
    assert first.recv_from(10) == expected
    first.connect(second.local_addr)
    assert first.peer_addr == second.local_addr


def test_nothing_there_is_none(any_addr):
    sock = udp(any_addr)
    buffer = bytearray(b"untouched")
    assert sock.recv(10) is None
    assert sock.recv_from(10) is None
    assert sock.peek(10) is None
    assert sock.peek_from(10) is None
    assert sock.recv(70000) is None
    assert sock.recv_into(buffer) is None
    assert sock.recv_from_into(buffer) is None
    assert sock.recv_many(DatagramBatch(2)) is None
    assert buffer == b"untouched"


def test_connected(any_addr):
    first, second = two(any_addr)
    first.connect(second.local_addr)
    second.connect(first.local_addr)
    assert first.send(b"one") == 3
    assert first.send(memoryview(b"two")) == 3
    wait_readable(second)
    assert second.recv(10) == b"one"
    buffer = bytearray(5)
    assert second.recv_into(buffer) == 3
    assert buffer == b"two\0\0"
    # Whom it is not connected to it does not hear.
    stranger = udp(any_addr)
    stranger.send_to(b"stranger", second.local_addr)
    first.send(b"friend")
    assert received(second) == (b"friend", first.local_addr)
    assert second.recv(10) is None


def test_connecting_again_changes_the_peer():
    first, second = two()
    third = udp()
    first.connect(second.local_addr)
    first.connect(third.local_addr)
    assert first.peer_addr == third.local_addr
    first.send(b"x")
    assert received(third) == (b"x", first.local_addr)
    assert second.recv(1) is None


def test_each_way_of_receiving_gives_the_same(any_addr):
    first, second = two(any_addr)
    for _ in range(4):
        first.send_to(b"payload", second.local_addr)
    wait_readable(second)
    assert second.peek(20) == b"payload"
    assert second.peek_from(20) == (b"payload", first.local_addr)
    assert second.recv(20) == b"payload"
    assert second.recv_from(20) == (b"payload", first.local_addr)
    buffer = bytearray(20)
    assert second.recv_into(buffer) == 7
    assert buffer == b"payload" + bytes(13)
    buffer = bytearray(20)
    assert second.recv_from_into(memoryview(buffer)[3:]) == (7, first.local_addr)
    assert buffer == bytes(3) + b"payload" + bytes(10)
    assert second.recv(20) is None


def test_what_does_not_fit_is_lost():
    first, second = two()
    for _ in range(4):
        first.send_to(b"long datagram", second.local_addr)
    first.send_to(b"next", second.local_addr)
    wait_readable(second)
    assert second.peek(2) == b"lo"
    assert second.recv(4) == b"long"
    assert second.recv_from(4) == (b"long", first.local_addr)
    buffer = bytearray(4)
    assert second.recv_into(buffer) == 4
    assert second.recv_from_into(buffer) == (4, first.local_addr)
    assert buffer == b"long"
    assert second.recv(4) == b"next"


def test_empty_datagrams_and_empty_requests():
    first, second = two()
    first.connect(second.local_addr)
    for data in (b"", bytearray(), b"dropped", b"dropped", b"dropped", b"kept"):
        assert first.send(data) == len(data)
    wait_readable(second)
    assert second.recv(10) == b""
    assert second.recv_from(10) == (b"", first.local_addr)
    assert second.recv(0) == b""
    assert second.recv_from(0) == (b"", first.local_addr)
    assert second.recv_into(bytearray()) == 0
    assert second.recv(10) == b"kept"
    assert second.recv(0) is None


@pytest.mark.parametrize("size", [65507, 65535, 65536, 65537, 1 << 20])
def test_the_largest_datagram(size):
    first, second = two()
    data = random.Random(1).randbytes(65507)
    assert first.send_to(data, second.local_addr) == len(data)
    assert received(second, size) == (data, first.local_addr)


def test_too_large_a_datagram():
    first, second = two()
    with pytest.raises(OSError) as caught:
        first.send_to(bytes(70000), second.local_addr)
    assert caught.value.errno == errno.EMSGSIZE
    assert first.send_to(b"fits", second.local_addr) == 4


def test_a_string_as_an_address():
    first, second = two()
    addr = "{}:{}".format(*second.local_addr)
    for _ in range(3):
        first.send_to(b"x", addr)
    wait_readable(second)
    for _ in range(3):
        assert second.recv_from(1) == (b"x", first.local_addr)
    first.connect(addr)
    assert first.peer_addr == second.local_addr


@needs_v6
def test_v6_addresses_of_two_three_and_four_parts():
    first, second = two("[::1]:0")
    host, port = second.local_addr[:2]
    for addr in ((host, port), (host, port, 0), (host, port, 0, 0), f"[{host}]:{port}"):
        assert first.send_to(b"x", addr) == 1
        assert received(second) == (b"x", first.local_addr)


@needs_v6
def test_v4_peers_of_a_v6_socket():
    both = udp("[::]:0", only_v6=False)
    assert both.only_v6 is False
    sock = udp("127.0.0.1:0")
    sock.send_to(b"x", ("127.0.0.1", both.local_addr[1]))
    data, addr = received(both)
    assert data == b"x"
    assert addr == ("::ffff:127.0.0.1", sock.local_addr[1], 0, 0)
    both.send_to(b"y", addr)
    assert received(sock)[0] == b"y"


@needs_v6
def test_only_v6():
    alone = udp("[::]:0", only_v6=True)
    assert alone.only_v6 is True
    # So the port is free for IPv4.
    udp(("0.0.0.0", alone.local_addr[1]))


def test_reuse_port():
    first = udp(reuse_port=True)
    second = udp(first.local_addr, reuse_port=True)
    assert first.local_addr == second.local_addr
    with pytest.raises(OSError) as caught:
        UdpSocket.bind(first.local_addr)
    assert caught.value.errno == errno.EADDRINUSE


# -- Errors -----------------------------------------------------------------------------------------------------------


def test_sending_unconnected_says_what_to_do():
    with pytest.raises(OSError, match=r"connect\(\)") as caught:
        udp().send(b"x")
    assert caught.value.errno == errno.EDESTADDRREQ


def test_peer_addr_unconnected():
    with pytest.raises(OSError) as caught:
        _ = udp().peer_addr
    assert caught.value.errno == errno.ENOTCONN


RECEIVERS = {
    "recv": lambda sock: sock.recv(10),
    "recv_from": lambda sock: sock.recv_from(10),
    "peek": lambda sock: sock.peek(10),
    "recv_into": lambda sock: sock.recv_into(bytearray(10)),
    "recv_from_into": lambda sock: sock.recv_from_into(bytearray(10)),
    "recv_many": lambda sock: sock.recv_many(DatagramBatch(4)),
}


def send_one(sock):
    batch = DatagramBatch(2)
    batch.append(b"batched")
    return sock.send_many(batch)


SENDERS = {"send": lambda sock: sock.send(b"x"), "send_many": send_one}


@pytest.mark.parametrize("act", [*RECEIVERS.values(), *SENDERS.values()], ids=[*RECEIVERS, *SENDERS])
def test_a_refusal_is_raised_once(act, any_addr):
    sock, _ = refused(any_addr)
    with pytest.raises(ConnectionRefusedError):
        act(sock)
    assert sock.recv(10) is None


def test_take_error():
    sock, _ = refused()
    error = sock.take_error()
    assert isinstance(error, ConnectionRefusedError)
    assert sock.take_error() is None
    assert sock.recv(10) is None


def test_the_families_do_not_mix():
    sock = udp()
    with pytest.raises(OSError) as caught:
        sock.send_to(b"x", ("::1", 9))
    assert caught.value.errno in (errno.EAFNOSUPPORT, errno.EINVAL)


@pytest.mark.parametrize(
    "addr", ["localhost:80", ("localhost", 80), ("127.0.0.1", 65536), ("127.0.0.1", -1), "127.0.0.1"]
)
@pytest.mark.parametrize("warm", [False, True])
def test_addresses_that_are_none(addr, warm):
    sock = udp()
    if warm:
        sock.send_to(b"x", sock.local_addr)
    for act in (sock.connect, UdpSocket.bind, lambda addr: sock.send_to(b"x", addr)):
        with pytest.raises(ValueError):
            act(addr)


@pytest.mark.parametrize("addr", [None, 80, ["127.0.0.1", 80], ("127.0.0.1",), (b"127.0.0.1", 80), ("127.0.0.1", "80")])
@pytest.mark.parametrize("warm", [False, True])
def test_addresses_of_the_wrong_type(addr, warm):
    sock = udp()
    if warm:
        sock.send_to(b"x", sock.local_addr)
    for act in (sock.connect, UdpSocket.bind, lambda addr: sock.send_to(b"x", addr)):
        with pytest.raises(TypeError):
            act(addr)


def test_buffers_that_cannot_be_used():
    sock = udp()
    addr = sock.local_addr
    sock.connect(addr)
    released = memoryview(bytearray(8))
    released.release()
    gaps = memoryview(bytearray(8))[::2]
    for data, error in (
        ("text", TypeError),
        (5, TypeError),
        (None, TypeError),
        (gaps, BufferError),
        (released, ValueError),
    ):
        with pytest.raises(error):
            sock.send(data)
        with pytest.raises(error):
            sock.send_to(data, addr)
        with pytest.raises(error):
            sock.recv_into(data)
        with pytest.raises(error):
            sock.recv_from_into(data)
    for data in (b"read-only", memoryview(b"read-only")):
        with pytest.raises(TypeError, match="writable"):
            sock.recv_into(data)
        with pytest.raises(TypeError, match="writable"):
            sock.recv_from_into(data)
    assert sock.recv(10) is None


def test_sizes_that_cannot_be():
    sock = udp()
    sock.send_to(b"still there", sock.local_addr)
    wait_readable(sock)
    for act in (sock.recv, sock.recv_from, sock.peek, sock.peek_from):
        with pytest.raises(ValueError):
            act(-1)
        with pytest.raises(TypeError):
            act("10")
        with pytest.raises(TypeError):
            act(10.0)
        for size in (1 << 70, sys.maxsize):
            with pytest.raises(OverflowError):
                act(size)
    assert sock.recv(20) == b"still there"


def test_buffers_are_released():
    sock = udp()
    buffer = bytearray(10)
    sock.send_to(buffer, sock.local_addr)
    wait_readable(sock)
    sock.recv_into(buffer)
    sock.recv_from_into(buffer)
    with pytest.raises(OSError):
        sock.send(buffer)
    sock.close()
    for act in (sock.recv_into, sock.recv_from_into, sock.send):
        with pytest.raises(ValueError):
            act(buffer)
    # While it is borrowed a bytearray cannot change its size.
    buffer.extend(bytes(100))


def test_after_close():
    sock = udp()
    addr = sock.local_addr
    batch = DatagramBatch(2)
    batch.append(b"x", addr)
    fd = sock.fileno()
    sock.close()
    sock.close()
    assert sock.closed
    assert not is_open(fd)
    for act in (
        lambda: sock.recv(1),
        lambda: sock.recv(100000),
        lambda: sock.recv_from(1),
        lambda: sock.recv_into(bytearray(1)),
        lambda: sock.recv_from_into(bytearray(1)),
        lambda: sock.peek(1),
        lambda: sock.peek_from(1),
        lambda: sock.send(b"x"),
        lambda: sock.send(bytearray(b"x")),
        lambda: sock.send_to(b"x", addr),
        lambda: sock.connect(addr),
        lambda: sock.recv_many(batch),
        lambda: sock.send_many(batch),
        lambda: sock.local_addr,
        lambda: sock.peer_addr,
        lambda: sock.take_error(),
        lambda: sock.ttl,
        lambda: sock.gro,
        lambda: setattr(sock, "broadcast", True),
        lambda: setattr(sock, "multicast_ttl_v4", 3),
        lambda: sock.join_multicast_v4("239.1.2.3"),
        lambda: sock.join_multicast_v6("ff02::1234"),
        lambda: sock.try_clone(),
        lambda: sock.into_socket(),
        lambda: sock.fileno(),
    ):
        with pytest.raises(ValueError, match="closed"):
            act()
    assert len(batch) == 1


def test_closing_it_while_the_arguments_are_read():
    socks = []

    class Size:
        def __index__(self):
            socks[-1].close()
            return 10

    for act in (UdpSocket.recv, UdpSocket.recv_from, UdpSocket.peek):
        socks.append(udp())
        with pytest.raises(ValueError, match="closed"):
            act(socks[-1], Size())

    class Host(str):
        def encode(self, *args):
            socks[-1].close()
            return super().encode(*args)

    for act in (UdpSocket.connect, lambda sock, addr: sock.send_to(b"x", addr)):
        socks.append(udp())
        addr = (Host("127.0.0.1"), 9)
        with pytest.raises(ValueError, match="closed"):
            act(socks[-1], addr)


def test_not_made_directly():
    with pytest.raises(TypeError):
        UdpSocket()


# -- Options ----------------------------------------------------------------------------------------------------------


def option(sock, level, name, size=None):
    with socket.socket(fileno=os.dup(sock.fileno())) as oracle:
        return oracle.getsockopt(level, name) if size is None else oracle.getsockopt(level, name, size)


def test_broadcast():
    sock = udp()
    assert sock.broadcast is False
    with pytest.raises(PermissionError):
        sock.send_to(b"x", ("255.255.255.255", 9))
    sock.broadcast = True
    assert sock.broadcast is True
    assert option(sock, socket.SOL_SOCKET, socket.SO_BROADCAST) == 1


def test_ttl(any_addr):
    sock = udp(any_addr)
    sock.ttl = 7
    assert sock.ttl == 7
    if ":" in sock.local_addr[0]:
        assert option(sock, socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) == 7
    else:
        assert option(sock, socket.IPPROTO_IP, socket.IP_TTL) == 7
    with pytest.raises(OSError):
        sock.ttl = 256
    assert sock.ttl == 7


def test_multicast_options_v4():
    sock = udp()
    assert sock.multicast_loop_v4 is True
    assert sock.multicast_ttl_v4 == 1
    assert sock.multicast_if_v4 == "0.0.0.0"
    sock.multicast_loop_v4 = False
    assert sock.multicast_loop_v4 is False
    assert option(sock, socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP) == 0
    for ttl in (0, 1, 200, 255):
        sock.multicast_ttl_v4 = ttl
        assert sock.multicast_ttl_v4 == ttl
        assert option(sock, socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == ttl
    for wrong, error in ((256, ValueError), (-1, ValueError), ("1", TypeError), (1.5, TypeError)):
        with pytest.raises(error):
            sock.multicast_ttl_v4 = wrong
    assert sock.multicast_ttl_v4 == 255
    sock.multicast_if_v4 = "127.0.0.1"
    assert sock.multicast_if_v4 == "127.0.0.1"
    assert option(sock, socket.IPPROTO_IP, socket.IP_MULTICAST_IF, 4) == socket.inet_aton("127.0.0.1")
    with pytest.raises(ValueError):
        sock.multicast_if_v4 = "lo"


@needs_v6
def test_multicast_options_v6():
    sock = udp("[::1]:0")
    assert sock.multicast_loop_v6 is True
    assert sock.multicast_hops_v6 == 1
    assert sock.multicast_if_v6 == 0
    sock.multicast_loop_v6 = False
    assert sock.multicast_loop_v6 is False
    assert option(sock, socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP) == 0
    sock.multicast_hops_v6 = 9
    assert sock.multicast_hops_v6 == 9
    assert option(sock, socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS) == 9
    with pytest.raises(OSError):
        sock.multicast_hops_v6 = 256
    with pytest.raises(TypeError):
        sock.multicast_hops_v6 = 1.5
    number = socket.if_nametoindex("lo")
    sock.multicast_if_v6 = number
    assert sock.multicast_if_v6 == number
    with pytest.raises(TypeError):
        sock.multicast_if_v6 = "lo"


GROUP_V4 = "239.77.12.9"
GROUP_V6 = "ff01::7712"


def _reaches(group, family, membership, interface):
    """Whether this machine delivers what it sends to a group itself, as the `socket` module sees it."""
    level, join, out = (
        (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.IP_MULTICAST_IF)
        if family == socket.AF_INET
        else (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.IPV6_MULTICAST_IF)
    )
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            listener.bind(("", 0))
            listener.settimeout(0.2)
            listener.setsockopt(level, join, membership)
            sender = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            sender.setsockopt(level, out, interface)
            sender.sendto(b"x", (group, listener.getsockname()[1]))
            return listener.recv(1) == b"x"
        except OSError:
            return False


def test_multicast_v4():
    local = socket.inet_aton("127.0.0.1")
    if not _reaches(GROUP_V4, socket.AF_INET, socket.inet_aton(GROUP_V4) + local, local):
        pytest.skip("this machine has no IPv4 multicast on its loopback interface")
    member = udp("0.0.0.0:0")
    sender = udp()
    sender.multicast_if_v4 = "127.0.0.1"
    target = (GROUP_V4, member.local_addr[1])
    member.join_multicast_v4(GROUP_V4, "127.0.0.1")
    sender.send_to(b"to all", target)
    assert received(member) == (b"to all", sender.local_addr)
    with pytest.raises(OSError) as caught:
        member.join_multicast_v4(GROUP_V4, "127.0.0.1")
    assert caught.value.errno == errno.EADDRINUSE
    member.leave_multicast_v4(GROUP_V4, "127.0.0.1")
    sender.send_to(b"not for us", target)
    sender.send_to(b"the end", ("127.0.0.1", member.local_addr[1]))
    assert received(member)[0] == b"the end"


@needs_v6
def test_multicast_v6():
    # A group of this scope never leaves its interface, whichever that is.
    for number, _ in socket.if_nameindex():
        packed = struct.pack("@I", number)
        if _reaches(GROUP_V6, socket.AF_INET6, socket.inet_pton(socket.AF_INET6, GROUP_V6) + packed, packed):
            break
    else:
        pytest.skip("no interface of this machine delivers IPv6 multicast to the machine itself")
    member = udp("[::]:0")
    sender = udp("[::]:0")
    sender.multicast_if_v6 = number
    target = (GROUP_V6, member.local_addr[1])
    member.join_multicast_v6(GROUP_V6, number)
    sender.send_to(b"to all", target)
    data, addr = received(member)
    assert data == b"to all"
    assert addr[1] == sender.local_addr[1]
    member.leave_multicast_v6(GROUP_V6, number)
    sender.send_to(b"not for us", target)
    sender.send_to(b"the end", ("::1", member.local_addr[1]))
    assert received(member)[0] == b"the end"


def test_memberships_v4_reach_the_kernel():
    sock = udp("0.0.0.0:0")
    sock.join_multicast_v4(GROUP_V4, "127.0.0.1")
    number = struct.unpack("=I", socket.inet_aton(GROUP_V4))[0]
    with open("/proc/net/igmp") as file:
        assert f"{number:08X}" in file.read()
    sock.leave_multicast_v4(GROUP_V4, "127.0.0.1")
    with pytest.raises(OSError) as caught:
        sock.leave_multicast_v4(GROUP_V4, "127.0.0.1")
    assert caught.value.errno == errno.EADDRNOTAVAIL


@needs_v6
def test_memberships_v6_reach_the_kernel():
    sock = udp("[::]:0")
    number = socket.if_nametoindex("lo")
    sock.join_multicast_v6(GROUP_V6, number)
    with open("/proc/net/igmp6") as file:
        assert socket.inet_pton(socket.AF_INET6, GROUP_V6).hex() in file.read()
    sock.leave_multicast_v6(GROUP_V6, number)
    with pytest.raises(OSError) as caught:
        sock.leave_multicast_v6(GROUP_V6, number)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_groups_that_are_none():
    sock = udp("0.0.0.0:0")
    for act in (sock.join_multicast_v4, sock.leave_multicast_v4):
        for group in ("group", "ff02::1", GROUP_V4 + "\0", "239.1.2.3é", ""):
            with pytest.raises(ValueError):
                act(group)
        with pytest.raises(ValueError):
            act(GROUP_V4, "lo")
        with pytest.raises(TypeError):
            act(b"239.1.2.3")
        with pytest.raises(OSError):
            act("127.0.0.1")
    for act in (sock.join_multicast_v6, sock.leave_multicast_v6):
        with pytest.raises(ValueError):
            act("239.1.2.3")
        with pytest.raises(TypeError):
            act(GROUP_V6, "lo")
        with pytest.raises(OverflowError):
            act(GROUP_V6, -1)


# -- From and to socket.socket ----------------------------------------------------------------------------------------


def test_from_socket(any_addr):
    plain = socket.socket(socket.AF_INET6 if "[" in any_addr else socket.AF_INET, socket.SOCK_DGRAM)
    plain.bind(("", 0))
    port = plain.getsockname()[1]
    sock = mine(UdpSocket.from_socket(plain))
    assert plain.fileno() == -1
    assert sock.recv(1) is None
    udp(any_addr).send_to(b"x", (any_addr.rpartition(":")[0].strip("[]"), port))
    assert received(sock)[0] == b"x"


def test_from_what_is_not_a_udp_socket():
    for family, kind in ((socket.AF_INET, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_DGRAM)):
        with socket.socket(family, kind) as plain:
            with pytest.raises(ValueError):
                UdpSocket.from_socket(plain)
            assert plain.fileno() >= 0
    with pytest.raises(TypeError):
        UdpSocket.from_socket(udp())
    with udp().into_socket() as plain, pytest.raises(ValueError):
        TcpStream.from_socket(plain)


def test_into_socket_and_clones():
    sock, other = two()
    clone = mine(sock.try_clone())
    assert type(clone) is UdpSocket
    assert clone.fileno() != sock.fileno()
    plain = mine(sock.into_socket())
    assert sock.closed
    assert plain.gettimeout() == 0
    other.send_to(b"x", plain.getsockname())
    assert received(clone) == (b"x", other.local_addr)


def test_a_failed_bind_leaks_nothing():
    taken = udp()
    before = count_fds()
    for _ in range(20):
        with pytest.raises(OSError):
            UdpSocket.bind(taken.local_addr)
        with pytest.raises(OSError):
            UdpSocket.bind("127.0.0.1:0", only_v6=True)
    assert count_fds() == before


def test_unclosed_warns():
    sock = UdpSocket.bind("127.0.0.1:0")
    fd = sock.fileno()
    with pytest.warns(ResourceWarning, match="UdpSocket"):
        del sock
        gc.collect()
    assert not is_open(fd)


# -- Remembered addresses ---------------------------------------------------------------------------------------------


def test_a_peer_is_decoded_once(any_addr):
    first, second = two(any_addr)
    addrs = []
    for _ in range(3):
        first.send_to(b"x", second.local_addr)
        addrs.append(received(second)[1])
        second.send_to(b"y", addrs[-1])
        assert received(first) == (b"y", second.local_addr)
    assert addrs[0] is addrs[1] is addrs[2]


def test_thousands_of_peers():
    """More than are remembered, so that each place is used by several: and each answer has to be the right one."""
    sock = udp("0.0.0.0:0")
    target = ("127.0.0.1", sock.local_addr[1])
    hosts = [f"127.{random.Random(n).randrange(1, 250)}.{n >> 8}.{n & 255}" for n in range(3000)]
    for _ in range(2):
        for host in hosts:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind((host, 0))
                sender.sendto(host.encode(), target)
                data, addr = received(sock, 100)
                assert addr == sender.getsockname()
                assert data == host.encode()


def test_few_peers_by_turns():
    sock = udp()
    peers = [udp() for _ in range(40)]
    known = {}
    rng = random.Random(2)
    for _ in range(3000):
        peer = rng.choice(peers)
        peer.send_to(b"x", sock.local_addr)
        _, addr = received(sock)
        assert addr == peer.local_addr
        known.setdefault(addr, addr)
        assert sock.send_to(b"%d" % addr[1], addr) == len(str(addr[1]))
        assert received(peer) == (b"%d" % addr[1], sock.local_addr)


@pytest.mark.parametrize("kind", ["kept", "fresh", "string"])
def test_thousands_of_destinations(kind, any_addr):
    """Objects that are kept, and objects that die and leave their place in memory to others."""
    sock = udp(any_addr)
    peers = [udp(any_addr) for _ in range(5)]
    write = "[{}]:{}" if "[" in any_addr else "{}:{}"
    rng = random.Random(3)
    kept = []
    for _ in range(4000):
        peer = rng.choice(peers)
        host, port, *_ = peer.local_addr
        # A new object each time, though of few values.
        addr = write.format(host, port) if kind == "string" else (host, port)
        if kind == "kept":
            kept.append((addr, peer))
            addr, peer = rng.choice(kept)
        sock.send_to(b"%d" % peer.local_addr[1], addr)
        assert received(peer)[0] == b"%d" % peer.local_addr[1]


def test_remembered_destinations_are_kept_alive_no_longer_than_the_socket():
    with UdpSocket.bind("127.0.0.1:0") as sock:
        addr = ("127.0.0.1", sock.local_addr[1])
        before = sys.getrefcount(addr)
        for _ in range(100):
            sock.send_to(b"", addr)
        assert sys.getrefcount(addr) == before + 1
        wait_readable(sock)
        peer = sock.recv_from(1)[1]
        assert sys.getrefcount(peer) > sys.getrefcount(object())
    del sock
    gc.collect()
    assert sys.getrefcount(addr) == before
    assert sys.getrefcount(peer) == before


def test_an_address_whose_meaning_changes_is_not_remembered():
    sock, one = two()
    other = udp()
    ports = [one.local_addr[1], other.local_addr[1]]

    class Changing(tuple):
        def __iter__(self):
            return iter(("127.0.0.1", ports[0]))

    class Port(int):
        pass

    Named = collections.namedtuple("Named", "host port")
    addr = Changing(("127.0.0.1", 1))
    sock.send_to(b"first", addr)
    assert received(one)[0] == b"first"
    ports.reverse()
    sock.send_to(b"second", addr)
    assert received(other)[0] == b"second"
    for addr in (Named("127.0.0.1", one.local_addr[1]), ("127.0.0.1", Port(one.local_addr[1]))):
        for _ in range(2):
            sock.send_to(b"named", addr)
            assert received(one)[0] == b"named"


def test_nothing_is_leaked_by_use():
    first, second = two()
    addr = second.local_addr
    batch = DatagramBatch(4, 100)
    buffer = bytearray(10)

    def use():
        for _ in range(50):
            first.send_to(b"x", addr)
            first.send_to(b"y" * 50, (addr[0], addr[1]))
            batch.append(b"z", addr)
            first.send_many(batch)
            first.send_to(b"w", addr)
            wait_readable(second)
            assert second.recv_from(10)[0] == b"x"
            assert second.recv_from_into(buffer)[0] == 10
            assert second.recv_many(batch) == 2
            for entry in batch:
                bytes(entry.data), entry.addr
            assert second.recv(100000) is None
            for wrong in (("nowhere", 1), None):
                with contextlib.suppress(ValueError, TypeError):
                    first.send_to(b"x", wrong)
            with contextlib.suppress(IndexError):
                batch[5]
            batch.clear()

    for _ in range(12):
        # The table of destinations grows, and is full by then.
        use()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(20):
        use()
    gc.collect()
    assert sys.getallocatedblocks() - before < 400


# -- Polling ----------------------------------------------------------------------------------------------------------


def test_an_edge_is_drained_by_would_block_alone(poll, events):
    sock, peer = two()
    poll.registry.register(sock, "sock", READABLE)
    expect_no_events(poll, events)
    peer.send_to(b"one", sock.local_addr)
    peer.send_to(b"two", sock.local_addr)
    wait_readable(sock)
    expect_only(poll, events, "sock", "readable")
    expect_no_events(poll, events)
    # Shorter than asked for, and still there is another.
    assert sock.recv(100) == b"one"
    expect_no_events(poll, events)
    assert sock.recv_from(100) == (b"two", peer.local_addr)
    assert sock.recv(100) is None
    expect_no_events(poll, events)
    peer.send_to(b"three", sock.local_addr)
    expect_only(poll, events, "sock", "readable")
    assert sock.recv(100) == b"three"


WOULD_BLOCK = {
    "recv": lambda sock: sock.recv(10),
    "recv of much": lambda sock: sock.recv(100000),
    "recv_from": lambda sock: sock.recv_from(10),
    "recv_into": lambda sock: sock.recv_into(bytearray(10)),
    "recv_from_into": lambda sock: sock.recv_from_into(bytearray(10)),
    "recv_many": lambda sock: sock.recv_many(DatagramBatch(4)),
}


@pytest.mark.parametrize("act", WOULD_BLOCK.values(), ids=WOULD_BLOCK)
def test_each_would_block_ends_the_drain(poll, events, act):
    sock, peer = two()
    poll.registry.register(sock, "sock", READABLE)
    for _ in range(3):
        peer.send_to(b"x", sock.local_addr)
        expect_only(poll, events, "sock", "readable")
        assert act(sock) is not None
        assert act(sock) is None


@pytest.mark.parametrize(
    "act",
    [*RECEIVERS.values(), *SENDERS.values(), UdpSocket.take_error],
    ids=[*RECEIVERS, *SENDERS, "take_error"],
)
def test_after_an_error_events_go_on(poll, events, act):
    target = nobody()
    sock = udp()
    sock.connect(target)
    poll.registry.register(sock, "sock", READABLE)
    assert sock.send(b"anybody?") == 8
    # kqueue says that there is something to read, not what.
    expect_events(poll, events, {"sock": "readable" if poll.selector_name == "kqueue" else "error"})
    try:
        assert isinstance(act(sock), ConnectionRefusedError)
    except ConnectionRefusedError:
        pass
    # No would-block after it: the caller goes back to poll at once.
    peer = udp(target)
    peer.send_to(b"now I am here", sock.local_addr)
    expect_events(poll, events, {"sock": "readable"})
    assert sock.recv(100) == b"now I am here"


def test_an_error_hides_no_datagram(poll, events):
    """What waits behind an error is found by who goes on until would-block."""
    peer = udp()
    target = peer.local_addr
    sock = udp()
    sock.connect(target)
    peer.send_to(b"before", sock.local_addr)
    peer.close()
    wait_readable(sock)
    poll.registry.register(sock, "sock", BOTH)
    sock.send(b"refused")
    expect_events(poll, events, {"sock": ["readable"] if poll.selector_name == "kqueue" else ["readable", "error"]})
    found = []
    for _ in range(4):
        try:
            data = sock.recv(100)
        except ConnectionRefusedError:
            data = "refused"
        found.append(data)
        if data is None:
            break
    assert sorted(map(str, found)) == ["None", "b'before'", "refused"]


def test_level(poll, events):
    sock, peer = two()
    poll.registry.register(sock, "sock", READABLE, PollOpt.LEVEL)
    peer.send_to(b"x", sock.local_addr)
    expect_only(poll, events, "sock", "readable")
    expect_only(poll, events, "sock", "readable")
    assert sock.recv(1) == b"x"
    expect_no_events(poll, events)


def test_an_echo(poll, events, any_addr):
    server, client = two(any_addr)
    poll.registry.register(server, "server", READABLE)
    poll.registry.register(client, "client", BOTH)
    expected = [b"%d" % number for number in range(20)]
    for data in expected:
        client.send_to(data, server.local_addr)
    found = []
    while len(found) < len(expected):
        assert poll.poll(events, 10)
        for event in events:
            if not event.is_readable():
                continue
            sock = server if event.token == "server" else client
            while (datagram := sock.recv_from(100)) is not None:
                if sock is server:
                    sock.send_to(*datagram)
                else:
                    found.append(datagram[0])
                    assert datagram[1] == server.local_addr
    assert found == expected
