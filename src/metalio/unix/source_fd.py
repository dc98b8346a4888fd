"""SourceFd: a descriptor as a source."""

# No descriptor is larger than a C int.
_MOST = (1 << 31) - 1


class SourceFd:
    """Makes a source of a bare descriptor, so that it can be registered: `registry.register(SourceFd(fd), …)`.

    It borrows the descriptor and never closes it.  Any other `SourceFd` of the same number stands for the same source,
    so that none needs to be kept.  Deregister it before the descriptor is closed.

    Raises `TypeError` for what is not an `int`, `ValueError` for what is no descriptor; whether it is open is seen when
    it is registered.
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        if not isinstance(fd, int) or isinstance(fd, bool):
            raise TypeError(f"a descriptor is an int, not {type(fd).__name__}: register what has a fileno() as it is")
        if not 0 <= fd <= _MOST:
            raise ValueError(f"{fd} is no descriptor")
        self._fd = int(fd)

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def __repr__(self) -> str:
        return f"SourceFd({self._fd})"
