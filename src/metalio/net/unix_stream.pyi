import os
import socket
from collections.abc import Iterable
from typing import Self, TypeAlias

from _typeshed import HasFileno, ReadableBuffer
from typing_extensions import disjoint_base

from metalio.net.peer_cred import PeerCred
from metalio.net.stream import Stream

_Path: TypeAlias = str | os.PathLike[str] | os.PathLike[bytes] | bytes | bytearray | memoryview

@disjoint_base
class UnixStream(Stream):
    @classmethod
    def connect(cls, path: _Path) -> Self: ...
    @classmethod
    def pair(cls) -> tuple[Self, Self]: ...
    @classmethod
    def from_socket(cls, sock: socket.socket) -> Self: ...
    @property
    def local_addr(self) -> str | bytes: ...
    @property
    def peer_addr(self) -> str | bytes: ...
    @property
    def peer_cred(self) -> PeerCred: ...
    def send_fds(self, data: ReadableBuffer, fds: Iterable[int | HasFileno]) -> int | None: ...
    def recv_fds(self, size: int, max_fds: int = 253) -> tuple[bytes, list[int]] | None: ...
