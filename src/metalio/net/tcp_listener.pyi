import socket
from typing import Self, TypeAlias

from metalio.net.socket import Socket
from metalio.net.tcp_stream import TcpStream

_Addr: TypeAlias = tuple[str, int] | tuple[str, int, int] | tuple[str, int, int, int] | str
_Name: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

class TcpListener(Socket):
    @classmethod
    def bind(
        cls, addr: _Addr, *, backlog: int = 4096, reuse_port: bool = False, only_v6: bool | None = None
    ) -> Self: ...
    @classmethod
    def from_socket(cls, sock: socket.socket) -> Self: ...
    def accept(self) -> tuple[TcpStream, _Name] | None: ...
    @property
    def local_addr(self) -> _Name: ...
    @property
    def ttl(self) -> int: ...
    @ttl.setter
    def ttl(self, value: int) -> None: ...
    @property
    def only_v6(self) -> bool: ...
    @only_v6.setter
    def only_v6(self, value: bool) -> None: ...
