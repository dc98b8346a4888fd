"""PeerCred: who is at the other end of a Unix socket."""

from typing import NamedTuple


class PeerCred(NamedTuple):
    """The process that was at the other end when the connection was made, as the kernel vouches for it."""

    pid: int
    uid: int
    gid: int
