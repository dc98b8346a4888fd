"""What stands for Unix sockets where metalio has none: Windows."""

from typing import Any, Never, NoReturn


def _refuse(name: str) -> NoReturn:
    raise NotImplementedError(f"{name} needs Unix sockets, which metalio does not have on Windows: use TCP or UDP")


class _Missing:
    """Has the class methods of the sockets, all of which raise `NotImplementedError`."""

    def __new__(cls, *arguments: Any, **options: Any) -> Never:
        _refuse(cls.__name__)

    @classmethod
    def bind(cls, *arguments: Any, **options: Any) -> Never:
        """Raises `NotImplementedError`."""
        _refuse(cls.__name__)

    connect = unbound = pair = from_socket = bind


class UnixDatagram(_Missing):
    """Not on Windows: making one raises `NotImplementedError`."""


class UnixListener(_Missing):
    """Not on Windows: making one raises `NotImplementedError`."""


class UnixStream(_Missing):
    """Not on Windows: making one raises `NotImplementedError`."""
