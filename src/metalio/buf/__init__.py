"""Buffers that streams fill and drain without a copy."""

from metalio.buf.byte_buf import ByteBuf
from metalio.buf.exact import read_exact, read_exact_into, write_all
from metalio.buf.protocol import Buf, MutBuf
from metalio.buf.ring_buf import RingBuf, RingBufReader, RingBufWriter
from metalio.buf.slice_buf import MutSliceBuf, SliceBuf, wrap, wrap_mut

__all__ = [
    "Buf",
    "ByteBuf",
    "MutBuf",
    "MutSliceBuf",
    "RingBuf",
    "RingBufReader",
    "RingBufWriter",
    "SliceBuf",
    "read_exact",
    "read_exact_into",
    "wrap",
    "wrap_mut",
    "write_all",
]
