"""What a benchmark module consists of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


class Unavailable(Exception):
    """A contender cannot run here, and that is no fault of its own; the message says why."""


@dataclass(frozen=True)
class Figure:
    """What a contender measured, where it has more to say than the number."""

    value: float
    detail: str = ""


@dataclass(frozen=True)
class Case:
    """One table: contenders that do the same work, compared by one figure in `unit`.

    A contender is called with `params`, or with `quick` merged into them, and returns a number or a `Figure`.
    """

    title: str
    unit: str
    contenders: Mapping[str, Callable]
    params: Mapping[str, float]
    quick: Mapping[str, float] = field(default_factory=dict)
    higher_is_better: bool = False
