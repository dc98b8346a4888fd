"""What a buffer is, for those who bring their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


@runtime_checkable
class Buf(Protocol):
    """Bytes that are read one after the other: a position, and what is left behind it.

    `ByteBuf`, `SliceBuf` and the reader of a `RingBuf` are such buffers.  Any object with these four methods is one,
    and `stream.write_buf`, `read_exact` and `read_exact_into` take it.
    """

    def remaining(self) -> int:
        """How many bytes are left."""

    def has_remaining(self) -> bool:
        """Whether any byte is left."""

    def bytes(self) -> ReadableBuffer:
        """The bytes that are left, or the first of them if they do not lie in one piece.

        Empty only if none is left.
        """

    def advance(self, count: int, /) -> None:
        """Go on by so many bytes, which have been read.  Raises `ValueError`, and stays, if there are not as many."""


@runtime_checkable
class MutBuf(Protocol):
    """Room for bytes that are written one after the other: a position, and what is free behind it.

    `ByteBuf`, `MutSliceBuf` and the writer of a `RingBuf` are such buffers.  Any object with these four methods is one,
    and `stream.read_buf` and `write_all` take it.
    """

    def remaining(self) -> int:
        """How many bytes there is room for."""

    def has_remaining(self) -> bool:
        """Whether there is room for any byte."""

    def mut_bytes(self) -> WriteableBuffer:
        """The room, or the first of it if it does not lie in one piece: write here, then `advance`.

        Empty only if there is none.
        """

    def advance(self, count: int, /) -> None:
        """Go on by so many bytes, which have been written.  Raises `ValueError`, and stays, if there is less room."""
