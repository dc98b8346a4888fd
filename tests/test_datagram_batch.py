"""DatagramBatch, and the two methods of UdpSocket that use it."""

import contextlib
import errno
import gc
import random
import socket
import sys
import threading

import pytest
from util import (
    LINUX,
    READABLE,
    WINDOWS,
    WRITABLE,
    expect_events,
    expect_no_events,
    expect_only,
    mine,
    need_loopback_addresses,
    same_socket,
    shrink,
    wait_readable,
)

from metalio.net import DatagramBatch, DatagramEntry, UdpSocket

# What Python's socket module does not name.
SO_NO_CHECK = 11
UDP_SEGMENT = 103
UDP_GRO = 104


def _kernel_has(option):
    if not LINUX:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.getsockopt(socket.IPPROTO_UDP, option)
        except OSError:
            return False
    return True


needs_gso = pytest.mark.skipif(not _kernel_has(UDP_SEGMENT), reason="no UDP_SEGMENT: it is Linux's, from 4.18 on")
needs_gro = pytest.mark.skipif(not _kernel_has(UDP_GRO), reason="no UDP_GRO: it is Linux's, from 5.0 on")


def udp(addr="127.0.0.1:0"):
    return mine(UdpSocket.bind(addr))


@pytest.fixture
def ends():
    """Two sockets, each connected to the other."""
    first, second = udp(), udp()
    first.connect(second.local_addr)
    second.connect(first.local_addr)
    return first, second


@pytest.fixture
def narrow():
    """Two ends of which one takes little, and then the other would block.

    Unix sockets in the clothes of UDP, since what UDP sends over the loopback interface is either there or lost.
    """
    if WINDOWS:
        pytest.skip("Windows has no Unix datagrams")
    ends = [
        UdpSocket.from_socket(socket.socket(socket.AF_INET, socket.SOCK_DGRAM, fileno=end.detach()))
        for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ]
    shrink(*ends)
    return mine(*ends)


def filled(data, **options):
    batch = DatagramBatch(**options)
    for datagram in data:
        batch.append(datagram)
    return batch


def payloads(batch):
    return [bytes(entry) for entry in batch]


def receive_all(sock, count, size=65536):
    """So many datagrams, which have to come."""
    found = []
    while len(found) < count:
        wait_readable(sock)
        found.append(sock.recv(size))
    assert sock.recv(size) is None
    return found


NUMBERS = [b"%d" % number for number in range(40)]


# -- The batch by itself ----------------------------------------------------------------------------------------------


def test_an_empty_batch():
    batch = DatagramBatch()
    assert (batch.capacity, batch.size) == (64, 2048)
    assert len(batch) == 0
    assert not batch
    assert list(batch) == []
    for index in (0, -1, 1):
        with pytest.raises(IndexError):
            batch[index]


@pytest.mark.parametrize("capacity, size", [(0, 1), (-1, 1), (1025, 1), (1, 0), (1, -5), (1, 65537)])
def test_limits(capacity, size):
    with pytest.raises(ValueError):
        DatagramBatch(capacity, size)


def test_arguments_of_the_wrong_type():
    for arguments in (("8",), (8.0,), (8, None), (8, 8, 8)):
        with pytest.raises(TypeError):
            DatagramBatch(*arguments)
    with pytest.raises(OverflowError):
        DatagramBatch(1 << 80)


def test_entries():
    batch = DatagramBatch(capacity=3, size=10)
    batch.append(b"one", "127.0.0.1:80")
    batch.append(bytearray(b"two"), ("::1", 81))
    batch.append(memoryview(b"threethree"))
    assert len(batch) == 3
    assert batch
    assert payloads(batch) == [b"one", b"two", b"threethree"]
    assert [entry.addr for entry in batch] == [("127.0.0.1", 80), ("::1", 81, 0, 0), None]
    assert [len(entry) for entry in batch] == [3, 3, 10]
    assert bytes(batch[-1]) == bytes(batch[2]) == b"threethree"
    assert batch[-3].addr == ("127.0.0.1", 80)
    for index in (3, -4, sys.maxsize):
        with pytest.raises(IndexError):
            batch[index]
    for index in (slice(0, 1), "0", None, 0.0):
        with pytest.raises(TypeError):
            batch[index]
    entry = batch[0]
    assert type(entry) is DatagramEntry
    assert entry.segment_size == 0
    assert entry.truncated is False
    assert memoryview(entry) == entry.data == b"one"
    assert not entry.data.readonly
    assert "3 bytes" in repr(entry)
    assert "3 of 3" in repr(batch)
    with pytest.raises(TypeError):
        DatagramEntry()


def test_what_does_not_fit():
    batch = DatagramBatch(2, 4)
    with pytest.raises(ValueError, match="up to 4 bytes"):
        batch.append(b"12345")
    batch.append(b"1234")
    batch.append(b"")
    with pytest.raises(BufferError, match="full"):
        batch.append(b"1")
    assert payloads(batch) == [b"1234", b""]
    batch.clear()
    assert len(batch) == 0
    batch.append(b"1")
    assert payloads(batch) == [b"1"]


def test_what_cannot_be_appended():
    batch = DatagramBatch(4, 8)
    released = memoryview(bytearray(8))
    released.release()
    for data, error in (
        ("text", TypeError),
        (None, TypeError),
        (7, TypeError),
        (memoryview(bytearray(8))[::2], BufferError),
        (released, ValueError),
    ):
        with pytest.raises(error):
            batch.append(data)
    for addr, error in (
        (5, TypeError),
        (["127.0.0.1", 80], TypeError),
        ("localhost:80", ValueError),
        (("127.0.0.1", 1 << 16), ValueError),
    ):
        with pytest.raises(error):
            batch.append(b"x", addr)
    for size, error in (
        (-1, ValueError),
        (65536, ValueError),
        ("1", TypeError),
        (1.5, TypeError),
        (1 << 70, OverflowError),
    ):
        with pytest.raises(error):
            batch.append(b"x", None, size)
    assert len(batch) == 0
    # Nothing keeps what was refused.
    data = bytearray(9)
    with pytest.raises(ValueError):
        batch.append(data)
    with pytest.raises(ValueError):
        batch.append(data[:2], "nowhere:1")
    data.append(0)


def test_the_data_are_copied():
    data = bytearray(b"before")
    batch = filled([data])
    data[:] = b"after!"
    assert payloads(batch) == [b"before"]


def test_appending_an_entry_of_its_own():
    batch = DatagramBatch(4, 8)
    batch.append(b"original")
    entry = batch[0]
    batch.append(entry, entry.addr)
    batch.clear()
    # The very place that it is copied to, and a part of it.
    batch.append(entry)
    assert payloads(batch) == [b"original"]
    batch.clear()
    batch.append(entry.data[2:])
    assert payloads(batch) == [b"iginal"]


def test_discarding():
    batch = filled(NUMBERS[:6], capacity=6)
    batch.discard()
    assert payloads(batch) == NUMBERS[1:6]
    batch.discard(2)
    assert payloads(batch) == NUMBERS[3:6]
    batch.discard(0)
    batch.append(b"new")
    batch.append(b"newer")
    batch.append(b"newest")
    assert payloads(batch) == [*NUMBERS[3:6], b"new", b"newer", b"newest"]
    batch.discard(100)
    assert len(batch) == 0
    batch.discard()
    with pytest.raises(ValueError):
        batch.discard(-1)
    for number in NUMBERS[:6]:
        batch.append(number)
    assert payloads(batch) == NUMBERS[:6]


def test_views_outlive_everything():
    batch = DatagramBatch(300, 3000)
    for number in range(300):
        batch.append(b"%04d" % number * 700)
    entries = list(batch)
    views = [entry.data for entry in entries]
    parts = [view[100:104] for view in views]
    del batch, entries, views
    gc.collect()
    # What would have been given back to the allocator is asked for again.
    others = [bytearray(3000) for _ in range(300)]
    assert [bytes(part) for part in parts] == [b"%04d" % number for number in range(300)]
    parts[0][:] = b"----"
    assert bytes(parts[0]) == b"----"
    assert not any(map(any, others))


def test_views_write_through():
    batch = filled([b"hello"])
    batch[0].data[0:1] = b"J"
    assert payloads(batch) == [b"Jello"]
    with pytest.raises((ValueError, TypeError)):
        batch[0].data[:] = b"longer than that"


def test_iterating_while_it_changes():
    batch = filled(NUMBERS[:5])
    seen = []
    for entry in batch:
        seen.append(bytes(entry))
        if len(seen) == 2:
            batch.clear()
    assert seen == NUMBERS[:2]


def test_addresses_beyond_what_is_remembered():
    batch = DatagramBatch(1000, 1)
    for base in (10_000, 20_000, 30_000):
        batch.clear()
        for port in range(base, base + 1000):
            batch.append(b"", ("127.0.0.1", port) if port % 2 else ("::1", port))
        for _ in range(2):
            assert [entry.addr[1] for entry in batch] == list(range(base, base + 1000))
            assert {entry.addr[0] for entry in batch if entry.addr[1] % 2} == {"127.0.0.1"}
            assert {entry.addr[0] for entry in batch if not entry.addr[1] % 2} == {"::1"}


# -- Sending ----------------------------------------------------------------------------------------------------------


def test_sending_to_the_peer(ends):
    first, second = ends
    batch = filled(NUMBERS, capacity=40)
    assert first.send_many(batch) == 40
    assert len(batch) == 0
    assert receive_all(second, 40) == NUMBERS
    assert first.send_many(batch) == 0


@pytest.mark.parametrize("addr", ["127.0.0.1:0", "[::1]:0"], ids=["v4", "v6"])
def test_sending_to_addresses(addr):
    try:
        sock = udp(addr)
    except OSError:
        pytest.skip("this machine has no ::1")
    peers = [udp(addr) for _ in range(4)]
    batch = DatagramBatch(8, 8)
    for _ in range(3):
        for number in range(8):
            batch.append(b"%d" % number, peers[number % 4].local_addr)
        assert sock.send_many(batch) == 8
        for number, peer in enumerate(peers):
            assert receive_all(peer, 2) == [b"%d" % number, b"%d" % (number + 4)]


def test_sending_unconnected_without_an_address():
    batch = filled([b"x"])
    with pytest.raises(OSError, match=r"connect\(\)") as caught:
        udp().send_many(batch)
    assert caught.value.errno in (errno.EDESTADDRREQ, errno.ENOTCONN)
    assert len(batch) == 1


def test_what_would_block_stays_in_order(narrow, poll, events):
    sender, receiver = narrow
    poll.registry.register(sender, "sender", WRITABLE)
    expect_only(poll, events, "sender", "writable")
    rng = random.Random(5)
    batch = DatagramBatch(32, 16)
    appended = sent = blocked = 0
    found = []
    for _ in range(60):
        while len(batch) < batch.capacity:
            batch.append(b"%d" % appended)
            appended += 1
        while batch:
            count = sender.send_many(batch)
            if count is None:
                break
            assert count > 0
            sent += count
        assert len(batch) == appended - sent
        assert payloads(batch) == [b"%d" % number for number in range(sent, appended)]
        if batch:
            blocked += 1
            expect_no_events(poll, events, 0)
            # All but a few, so that the order in the batch gets mixed as much as it can be.
            while len(found) < sent - rng.randrange(3):
                found.append(receiver.recv(16))
            expect_events(poll, events, {"sender": "writable"})
    while (data := receiver.recv(16)) is not None:
        found.append(data)
    assert found == [b"%d" % number for number in range(sent)]
    assert blocked > 50


def test_would_block_at_once_is_none(narrow):
    sender, receiver = narrow
    batch = filled([b"x"])
    while sender.send(b"filler") is not None:
        pass
    assert sender.send_many(batch) is None
    assert sender.send_many(batch) is None
    assert len(batch) == 1
    while receiver.recv(10) is not None:
        pass
    assert sender.send_many(batch) == 1
    assert receiver.recv(10) == b"x"


def test_an_error_at_the_first(ends):
    first, second = ends
    batch = filled([bytes(65530), b"next"], size=65536)
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            first.send_many(batch)
        assert caught.value.errno == errno.EMSGSIZE
        assert len(batch) == 2
    batch.discard()
    assert first.send_many(batch) == 1
    assert receive_all(second, 1) == [b"next"]


def test_an_error_after_some_were_sent(ends):
    first, second = ends
    batch = filled([b"one", b"two", bytes(65530), b"three"], size=65536)
    assert first.send_many(batch) == 2
    assert len(batch) == 2
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            first.send_many(batch)
        assert caught.value.errno == errno.EMSGSIZE
    batch.discard()
    assert first.send_many(batch) == 1
    assert receive_all(second, 3) == [b"one", b"two", b"three"]


def test_an_error_is_raised_by_the_next_call(ends):
    """Even if it has passed by then, as one does that the kernel tells once."""
    first, second = ends
    batch = filled([b"one"])
    batch.append(b"two", ("::1", 9))
    assert first.send_many(batch) == 1
    other = udp("[::]:0") if socket.has_ipv6 else None
    for sock in filter(None, (other, first)):
        with pytest.raises(OSError) as caught:
            sock.send_many(batch)
        assert caught.value.errno in (errno.EAFNOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP)
    assert payloads(batch) == [b"two"]
    assert receive_all(second, 1) == [b"one"]


@pytest.mark.parametrize("forget", ["clear", "discard", "recv_many"])
def test_an_error_is_forgotten_with_its_entry(ends, forget):
    first, second = ends
    batch = filled([b"one", bytes(65530)], size=65536)
    assert first.send_many(batch) == 1
    if forget == "recv_many":
        receive_all(second, 1)
        assert second.recv_many(batch) is None
    else:
        getattr(batch, forget)()
    batch.append(b"good")
    assert first.send_many(batch) == 1


def test_a_refusal_between(ends):
    """An error that the kernel tells once, and which concerns no entry: none is lost by it."""
    first, second = ends
    batch = filled([b"one", b"two"])
    second.close()
    first.send(b"refused")
    wait_readable(first)
    with pytest.raises(ConnectionRefusedError):
        first.send_many(batch)
    assert payloads(batch) == [b"one", b"two"]


# -- Receiving --------------------------------------------------------------------------------------------------------


def test_receiving(ends):
    first, second = ends
    batch = DatagramBatch(16, 8)
    assert second.recv_many(batch) is None
    for number in NUMBERS:
        first.send(number)
    wait_readable(second)
    found = []
    for expected in (16, 16, 8):
        assert second.recv_many(batch) == expected == len(batch)
        assert [entry.addr for entry in batch] == [first.local_addr] * expected
        assert not any(entry.truncated or entry.segment_size for entry in batch)
        found += payloads(batch)
    assert found == NUMBERS
    assert second.recv_many(batch) is None
    assert len(batch) == 0
    assert not batch


def test_receiving_from_many():
    need_loopback_addresses()
    sock = udp("0.0.0.0:0")
    batch = DatagramBatch(32, 32)
    for turn in range(40):
        expected = []
        for number in range(32):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind((f"127.0.{turn}.{number + 1}", 0))
                sender.sendto(b"%d" % sender.getsockname()[1], ("127.0.0.1", sock.local_addr[1]))
                expected.append((b"%d" % sender.getsockname()[1], sender.getsockname()))
        found = []
        while len(found) < 32:
            wait_readable(sock)
            sock.recv_many(batch)
            found += [(bytes(entry), entry.addr) for entry in batch]
        assert found == expected


def test_what_does_not_fit_is_marked(ends):
    first, second = ends
    for data in (b"1234", b"12345", b"", b"123"):
        first.send(data)
    wait_readable(second)
    batch = DatagramBatch(8, 4)
    assert second.recv_many(batch) == 4
    assert [(bytes(entry), entry.truncated) for entry in batch] == [
        (b"1234", False),
        (b"1234", True),
        (b"", False),
        (b"123", False),
    ]
    first.send(b"1")
    wait_readable(second)
    second.recv_many(batch)
    second.recv_many(batch)
    for data in (b"1", b"2"):
        first.send(data)
    wait_readable(second)
    assert second.recv_many(batch) == 2
    assert [(bytes(entry), entry.truncated) for entry in batch] == [(b"1", False), (b"2", False)]


def test_receiving_replaces_what_was_there(ends):
    first, second = ends
    batch = filled([b"old", b"older"])
    first.send(b"new")
    wait_readable(second)
    assert second.recv_many(batch) == 1
    assert payloads(batch) == [b"new"]
    assert batch[0].addr == first.local_addr


def test_receiving_and_sending_by_turns(ends):
    """What sending leaves in the headers does not show in what is received, and the other way round."""
    first, second = ends
    batch = DatagramBatch(4, 64)
    for turn in range(20):
        data = [b"%d" % (turn * 10 + number) * (number + 1) for number in range(turn % 4 + 1)]
        for datagram in data:
            batch.append(datagram, second.local_addr if turn % 2 else None)
        first.send_many(batch)
        if turn % 3 == 0:
            batch.append(b"never sent", ("127.0.0.1", 1))
            batch.append(b"nor this", None, 7 if LINUX else 0)
        wait_readable(second)
        assert second.recv_many(batch) == len(data)
        assert payloads(batch) == data
        assert {entry.addr for entry in batch} == {first.local_addr}
        assert {entry.segment_size for entry in batch} == {0}
        batch.clear()


def test_an_echo_without_a_copy():
    server = udp()
    clients = [udp() for _ in range(5)]
    for client in clients:
        client.send_to(b"from %d" % client.local_addr[1], server.local_addr)
        client.send_to(b"too long to be received", server.local_addr)
    wait_readable(server)
    batch = DatagramBatch(10, 10)
    assert server.recv_many(batch) == 10
    batch[0].data[:4] = b"FROM"
    assert server.send_many(batch) == 10
    for number, client in enumerate(clients):
        word = b"from" if number else b"FROM"
        assert receive_all(client, 2) == [word + b" %d" % client.local_addr[1], b"too long t"]


def test_the_buffers_of_entries_can_be_sent(ends):
    first, second = ends
    batch = filled([b"entry"])
    first.send(batch[0])
    first.send_to(batch[0], second.local_addr)
    assert receive_all(second, 2) == [b"entry"] * 2
    second.send(b"reply")
    wait_readable(first)
    assert first.recv_into(batch[0]) == 5
    assert payloads(batch) == [b"reply"]


def test_a_refusal_is_raised_and_empties_the_batch(ends):
    first, second = ends
    second.close()
    first.send(b"refused")
    wait_readable(first)
    batch = filled([b"old"])
    with pytest.raises(ConnectionRefusedError):
        first.recv_many(batch)
    assert len(batch) == 0
    assert first.recv_many(batch) is None


# -- Polling ----------------------------------------------------------------------------------------------------------


def test_a_full_batch_is_not_the_end(ends, poll, events):
    first, second = ends
    poll.registry.register(second, "second", READABLE)
    batch = DatagramBatch(4, 8)
    for number in NUMBERS[:6]:
        first.send(number)
    expect_only(poll, events, "second", "readable")
    expect_no_events(poll, events)
    assert second.recv_many(batch) == 4
    expect_no_events(poll, events)
    assert second.recv_many(batch) == 2
    assert payloads(batch) == NUMBERS[4:6]
    assert second.recv_many(batch) is None
    expect_no_events(poll, events)
    first.send(b"more")
    expect_only(poll, events, "second", "readable")


def test_a_batch_that_is_not_full_arms_an_edge_again(ends, poll, events):
    first, second = ends
    poll.registry.register(second, "second", READABLE)
    batch = DatagramBatch(4, 8)
    for number in NUMBERS[:3]:
        first.send(number)
        expect_only(poll, events, "second", "readable")
        assert second.recv_many(batch) == 1
        expect_no_events(poll, events, 0)
        assert payloads(batch) == [number]


def test_a_short_send_arms_an_edge_again(narrow, poll, events):
    sender, receiver = narrow
    poll.registry.register(sender, "sender", WRITABLE)
    batch = DatagramBatch(256, 8)
    for _ in range(3):
        expect_events(poll, events, {"sender": "writable"})
        while len(batch) < batch.capacity:
            batch.append(b"x")
        assert 0 < sender.send_many(batch) < 256
        expect_no_events(poll, events, 0)
        while receiver.recv(8) is not None:
            pass


# -- Segments ---------------------------------------------------------------------------------------------------------


@needs_gso
def test_segments_are_sent_as_datagrams(ends):
    first, second = ends
    data = random.Random(6).randbytes(4500)
    batch = DatagramBatch(4, 8192)
    batch.append(data, None, 1000)
    batch.append(b"whole")
    batch.append(data, second.local_addr, segment_size=2000)
    batch.append(b"short", second.local_addr, segment_size=2000)
    assert [entry.segment_size for entry in batch] == [1000, 0, 2000, 2000]
    assert first.send_many(batch) == 4
    found = receive_all(second, 10)
    assert [len(datagram) for datagram in found] == [1000, 1000, 1000, 1000, 500, 5, 2000, 2000, 500, 5]
    assert b"".join(found[:5]) == b"".join(found[6:9]) == data
    # Nothing of it is left in the headers.
    batch.append(data)
    assert first.send_many(batch) == 1
    assert receive_all(second, 1) == [data]


@needs_gso
def test_segments_that_the_kernel_refuses(ends):
    first, _ = ends
    batch = filled([b"before"])
    batch.append(bytes(2000), None, 1)
    batch.append(b"after")
    assert first.send_many(batch) == 1
    with pytest.raises(OSError, match="segments") as caught:
        first.send_many(batch)
    assert caught.value.errno in (errno.EINVAL, errno.EMSGSIZE)
    assert payloads(batch) == [bytes(2000), b"after"]
    batch.discard()
    assert first.send_many(batch) == 1


@needs_gso
def test_segments_on_a_socket_without_checksums(ends):
    first, _ = ends
    with same_socket(first) as plain:
        plain.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    batch = DatagramBatch(1)
    batch.append(bytes(100), None, 50)
    with pytest.raises(OSError) as caught:
        first.send_many(batch)
    assert caught.value.errno in (errno.EINVAL, errno.EIO)
    assert len(batch) == 1


@needs_gro
def test_gro_is_an_option():
    sock = udp()
    assert sock.gro is False
    sock.gro = True
    assert sock.gro is True
    sock.gro = False
    assert sock.gro is False


@needs_gso
@needs_gro
def test_segments_are_received_together(ends):
    first, second = ends
    second.gro = True
    data = random.Random(7).randbytes(10_500)
    batch = DatagramBatch(2, 65536)
    batch.append(data, None, 1000)
    assert first.send_many(batch) == 1
    found = []
    whole = True
    while sum(map(len, found)) < len(data):
        wait_readable(second)
        assert second.recv_many(batch)
        for entry in batch:
            size = entry.segment_size or len(entry) or 1
            whole = whole and entry.segment_size == 1000
            found += [bytes(entry.data[start : start + size]) for start in range(0, len(entry), size)]
    assert b"".join(found) == data
    assert [len(datagram) for datagram in found] == [1000] * 10 + [500]
    assert whole, "the kernel did not keep the segments together"
    # One that is alone has no segment size, and takes away nothing from the next.
    for _ in range(2):
        first.send(b"alone")
        wait_readable(second)
        assert second.recv_many(batch) == 1
        assert (bytes(batch[0]), batch[0].segment_size) == (b"alone", 0)
        segments = DatagramBatch(1, 65536)
        segments.append(data, None, 1000)
        assert first.send_many(segments) == 1
        wait_readable(second)
        assert second.recv_many(batch) == 1
        assert (bytes(batch[0]), batch[0].segment_size) == (data, 1000)


@needs_gso
@needs_gro
def test_an_echo_of_segments(ends):
    first, second = ends
    second.gro = True
    data = random.Random(8).randbytes(5100)
    batch = DatagramBatch(8, 65536)
    batch.append(data, None, 500)
    first.send_many(batch)
    wait_readable(second)
    count = second.recv_many(batch)
    assert second.send_many(batch) == count
    found = receive_all(first, 11)
    assert b"".join(found) == data
    assert len(found[-1]) == 100


@needs_gso
@needs_gro
def test_a_control_message_of_another_kind(ends):
    """A socket that was told to report more than the segment size: that is still found."""
    first, second = ends
    second.gro = True
    with same_socket(second) as plain:
        plain.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        plain.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
        plain.setsockopt(socket.SOL_SOCKET, 29, 1)  # SO_TIMESTAMP
    batch = DatagramBatch(4, 65536)
    batch.append(bytes(3000), None, 1000)
    first.send_many(batch)
    wait_readable(second)
    assert second.recv_many(batch) == 1
    assert batch[0].segment_size == 1000


# -- Misuse, leaks, threads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [None, [], b"", DatagramEntry, DatagramBatch])
def test_what_is_not_a_batch(batch):
    sock = udp()
    for act in (sock.recv_many, sock.send_many):
        with pytest.raises(TypeError, match="DatagramBatch"):
            act(batch)


def test_an_address_that_meddles():
    """Code that runs while an address is read may use the batch that it is for."""
    batch = DatagramBatch(2, 8)

    class Host(str):
        def encode(self, *args):
            while len(batch) < batch.capacity:
                batch.append(b"meddler")
            return super().encode(*args)

    with pytest.raises(BufferError):
        batch.append(b"x", (Host("127.0.0.1"), 80))
    assert payloads(batch) == [b"meddler"] * 2


def test_nothing_is_leaked(ends):
    first, second = ends

    def use():
        for _ in range(30):
            batch = DatagramBatch(8, 32)
            for number in range(8):
                batch.append(b"%d" % number, second.local_addr)
            with contextlib.suppress(BufferError):
                batch.append(b"x")
            first.send_many(batch)
            wait_readable(second)
            second.recv_many(batch)
            kept = [(entry, entry.data, entry.addr, memoryview(entry)[1:]) for entry in batch]
            second.send_many(batch)
            first.recv_many(batch)
            batch.clear()
            with contextlib.suppress(OSError):
                batch.append(b"x", ("::1", 1))
                first.send_many(batch)
            del batch, kept

    use()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(20):
        use()
    gc.collect()
    assert sys.getallocatedblocks() - before < 200


def test_a_batch_that_threads_share():
    """What they make of it is up to chance, but it stays whole."""
    sock = udp()
    sock.connect(sock.local_addr)
    batch = DatagramBatch(8, 16)
    errors = []
    rounds = 1500

    def meddle(number):
        try:
            for turn in range(rounds):
                with contextlib.suppress(BufferError):
                    batch.append(b"%d" % number * 16, ("127.0.0.1", sock.local_addr[1]))
                with contextlib.suppress(IndexError, OSError):
                    (sock.send_many, sock.recv_many)[turn % 2](batch)
                    entry = batch[0]
                    assert len(bytes(entry)) == len(entry) == 16
                    assert entry.addr[0] == "127.0.0.1"
                if turn % 50 == 0:
                    batch.clear()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=meddle, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert errors == []
