"""parse_addr: an address out of a string."""

import cython
from cython.cimports.metalio._sys.address import address_object, read_address
from cython.cimports.metalio._sys.sockets import Address


def parse_addr(text):
    """The tuple of the `socket` module's that a string stands for: `(host, port)`, or four parts for IPv6.

    `127.0.0.1:80`, `[::1]:80`, `[fe80::1%eth0]:80`: the host is numeric, and a scope is kept as its number.
    Raises `ValueError` for anything else; resolve names first, since looking them up blocks.
    """
    address: Address
    if not isinstance(text, str):
        raise TypeError(f"expected a string such as 127.0.0.1:80, not {type(text).__name__}")
    read_address(text, cython.address(address))
    return address_object(cython.address(address))
