"""What stands for Unix datagrams where there are none: Windows, which has Unix streams only."""

from typing import Any, Never


class UnixDatagram:
    """Not on Windows: making one raises `NotImplementedError`."""

    def __new__(cls, *arguments: Any, **options: Any) -> Never:
        cls.bind()

    @classmethod
    def bind(cls, *arguments: Any, **options: Any) -> Never:
        """Raises `NotImplementedError`."""
        raise NotImplementedError("Windows has no Unix datagrams: use UdpSocket, or a UnixStream")

    connect = unbound = pair = from_socket = bind
