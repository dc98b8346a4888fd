"""What a timer raises."""


class TimerFull(Exception):
    """There is no room for another timeout in a `Timer`."""
