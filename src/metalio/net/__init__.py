"""Non-blocking sockets over TCP, UDP and Unix.

Operations that would block return `None`.  Addresses are the `socket` module's tuples, or one string such as
`127.0.0.1:8080` or `[::1]:8080`; hosts are numeric.
"""

from metalio.net.addr import parse_addr
from metalio.net.tcp_listener import TcpListener
from metalio.net.tcp_stream import TcpStream

__all__ = ["TcpListener", "TcpStream", "parse_addr"]
