import os
import socket
from typing import Self, TypeAlias

from metalio.net.socket import Socket
from metalio.net.unix_stream import UnixStream

_Path: TypeAlias = str | os.PathLike[str] | os.PathLike[bytes] | bytes | bytearray | memoryview

class UnixListener(Socket):
    @classmethod
    def bind(cls, path: _Path, *, backlog: int = 4096) -> Self: ...
    @classmethod
    def from_socket(cls, sock: socket.socket) -> Self: ...
    def accept(self) -> tuple[UnixStream, str | bytes] | None: ...
    @property
    def local_addr(self) -> str | bytes: ...
