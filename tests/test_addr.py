"""parse_addr, and the addresses that sockets take."""

import collections
import socket

import pytest
from util import mine, tcp_listener

from metalio.net import TcpListener, TcpStream, parse_addr

# The number and the name of an interface: the first one is the loopback.
LO, LO_NAME = socket.if_nameindex()[0]

GOOD = [
    ("127.0.0.1:80", ("127.0.0.1", 80)),
    ("0.0.0.0:0", ("0.0.0.0", 0)),
    ("255.255.255.255:65535", ("255.255.255.255", 65535)),
    ("127.0.0.1:0080", ("127.0.0.1", 80)),
    ("[::1]:80", ("::1", 80, 0, 0)),
    ("[::]:0", ("::", 0, 0, 0)),
    ("[0:0:0:0:0:0:0:1]:1", ("::1", 1, 0, 0)),
    ("[2001:DB8::A]:443", ("2001:db8::a", 443, 0, 0)),
    ("[::ffff:1.2.3.4]:5", ("::ffff:1.2.3.4", 5, 0, 0)),
    (f"[fe80::1%{LO_NAME}]:80", ("fe80::1", 80, 0, LO)),
    (f"[fe80::1%{LO}]:80", ("fe80::1", 80, 0, LO)),
    ("[fe80::1%4294967295]:80", ("fe80::1", 80, 0, 4294967295)),
]

BAD = [
    "",
    ":",
    ":80",
    "80",
    "127.0.0.1",
    "127.0.0.1:",
    "127.0.0.1:-1",
    "127.0.0.1:+1",
    "127.0.0.1: 1",
    "127.0.0.1:65536",
    "127.0.0.1:99999999999999999999",
    "127.0.0.1:" + "9" * 5000,
    "127.0.0.1:http",
    "127.0.0.1:1_0",
    "127.0.0.1:٣",
    "127.0.0.1:²",
    "127.0.0.1:0x10",
    "127.0.0.1:80:",
    " 127.0.0.1:80",
    "127.0.0.1 :80",
    "127.0.0.1:80 ",
    "127.0.0.1:80\n",
    "127.0.0.1\0:80",
    "127.1:80",
    "127.0.0.256:80",
    "0177.0.0.1:80",
    "1:80",
    "2130706433:80",
    "[127.0.0.1]:80",
    "::1:80",
    "[::1]",
    "[::1]80",
    "[::1]:",
    "[::1:80",
    "::1]:80",
    "[[::1]]:80",
    "[]:80",
    "[:::1]:80",
    "[::g]:80",
    "[::1\0]:80",
    "[fe80::1%]:80",
    "[fe80::1%no such interface]:80",
    "[fe80::1%4294967296]:80",
    "[fe80::1%-1]:80",
    "[%lo]:80",
    "localhost:80",
    "example.org:80",
    "exämple.org:80",
    "\ud800:80",
    "*:80",
]


@pytest.mark.parametrize(("text", "addr"), GOOD)
def test_parse(text, addr):
    assert parse_addr(text) == addr


@pytest.mark.parametrize("text", BAD, ids=ascii)
def test_what_is_no_address(text):
    for use in (parse_addr, TcpListener.bind, TcpStream.connect):
        with pytest.raises(ValueError):
            use(text)


@pytest.mark.parametrize("text", ["localhost:80", "example.org:80", "[example.org:1]:80", "127.1:1", "exämple:1"])
def test_names_get_a_hint(text):
    with pytest.raises(ValueError, match=r"resolve|between brackets"):
        parse_addr(text)


@pytest.mark.parametrize("wrong", [None, 1, b"127.0.0.1:80", ("127.0.0.1", 80), object(), ["127.0.0.1:80"]])
def test_parse_takes_strings_only(wrong):
    with pytest.raises(TypeError):
        parse_addr(wrong)
    with pytest.raises(TypeError):
        parse_addr()


TUPLES = [
    ("127.0.0.1", 0),
    ("", 0),
    ("::1", 0),
    ("::1", 0, 0),
    ("::1", 0, 0, 0),
    (f"::1%{LO_NAME}", 0),
    ("::1", False),
]


@pytest.mark.parametrize("addr", TUPLES)
def test_tuples(addr):
    listener = tcp_listener(addr)
    host = listener.local_addr[0]
    assert host == ("0.0.0.0" if addr[0] == "" else addr[0].partition("%")[0])
    assert len(listener.local_addr) == (4 if ":" in addr[0] else 2)
    assert listener.local_addr[1] > 0


def test_a_named_tuple():
    Addr = collections.namedtuple("Addr", "host port")
    assert tcp_listener(Addr("127.0.0.1", 0)).local_addr[0] == "127.0.0.1"


BAD_TUPLES = [
    (("127.0.0.1", -1), ValueError),
    (("127.0.0.1", 65536), ValueError),
    (("127.0.0.1", 1 << 80), ValueError),
    (("127.0.0.1", "80"), TypeError),
    (("127.0.0.1", 80.0), TypeError),
    (("127.0.0.1", None), TypeError),
    (("127.0.0.1",), TypeError),
    ((), TypeError),
    (("127.0.0.1", 80, 0), ValueError),
    (("127.0.0.1", 80, 0, 0), ValueError),
    (("127.0.0.1", 80, 0, 0, 0), TypeError),
    (("::1", 80, -1), ValueError),
    (("::1", 80, 1 << 20), ValueError),
    (("::1", 80, 0, -1), ValueError),
    (("::1", 80, 0, 1 << 32), ValueError),
    (("::1", 80, "0"), TypeError),
    (("::1", 80, 0, "lo"), TypeError),
    ((b"127.0.0.1", 80), TypeError),
    ((None, 80), TypeError),
    ((2130706433, 80), TypeError),
    (("localhost", 80), ValueError),
    (("[::1]", 80), ValueError),
    (("::1%nowhere at all", 80), ValueError),
    (("127.0.0.1\0", 80), ValueError),
    (("::1\0", 80), ValueError),
    (("\ud800", 80), ValueError),
    (["127.0.0.1", 80], TypeError),
    (None, TypeError),
    (80, TypeError),
    (b"127.0.0.1:80", TypeError),
    ({"127.0.0.1": 80}, TypeError),
    (object(), TypeError),
]


@pytest.mark.parametrize(("addr", "error"), BAD_TUPLES, ids=lambda value: ascii(value)[:40])
def test_tuples_that_are_no_addresses(addr, error):
    for use in (TcpListener.bind, TcpStream.connect):
        with pytest.raises(error):
            use(addr)


def test_subclasses_that_lie():
    class Text(str):
        def rpartition(self, separator):
            return 1, 2, 3

        def encode(self, *arguments):
            return None

    class Pair(tuple):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            raise LookupError

        def __iter__(self):
            return iter(())

    class Number(int):
        def __le__(self, other):
            return True

        def __ge__(self, other):
            return True

        def __index__(self):
            return -1

    for addr in (Text("127.0.0.1:0"), (Text("127.0.0.1"), 0), Pair(("127.0.0.1", 0)), ("127.0.0.1", Number(1 << 90))):
        for use in (TcpListener.bind, TcpStream.connect):
            try:
                use(addr).close()
            except (TypeError, ValueError, LookupError, AttributeError, OSError, OverflowError):
                pass


def test_scope_and_flowinfo_are_kept():
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
        try:
            sock.bind(("fe80::1", 0, 0, LO))
        except OSError:
            pytest.skip("no link-local address on this machine")
    listener = tcp_listener(("fe80::1", 0, 0, LO))
    assert listener.local_addr[3] == LO


def test_what_sockets_say_can_be_used_again():
    for addr in ("127.0.0.1:0", "[::1]:0"):
        listener = tcp_listener(addr)
        stream = mine(TcpStream.connect(listener.local_addr))
        assert stream.peer_addr == listener.local_addr
        with socket.create_connection(listener.local_addr[:2]) as other:
            assert other.getpeername() == listener.local_addr
