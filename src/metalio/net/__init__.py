"""Non-blocking sockets over TCP, UDP and Unix.

Operations that would block return `None`.  Addresses are the `socket` module's tuples, or one string such as
`127.0.0.1:8080` or `[::1]:8080`; hosts are numeric.
"""

import sys

from metalio.net.addr import parse_addr
from metalio.net.datagram_batch import DatagramBatch, DatagramEntry
from metalio.net.peer_cred import PeerCred
from metalio.net.tcp_listener import TcpListener
from metalio.net.tcp_stream import TcpStream
from metalio.net.udp_socket import UdpSocket
from metalio.net.unix_listener import UnixListener
from metalio.net.unix_stream import UnixStream

if sys.platform != "win32":
    from metalio.net.unix_datagram import UnixDatagram
else:
    from metalio.net.unix_missing import UnixDatagram

__all__ = [
    "DatagramBatch",
    "DatagramEntry",
    "PeerCred",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixDatagram",
    "UnixListener",
    "UnixStream",
    "parse_addr",
]
