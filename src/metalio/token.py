"""The conventional token."""


class Token(int):
    """A number that tells registrations apart.

    Any object can be a token, and an event hands back the very object that was given at registration; a `Token` is
    what one uses where a number will do, as an index into a `Slab` or a list.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Token({int(self)})"

    __str__ = int.__repr__
