"""What a benchmark module consists of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


class Unavailable(Exception):
    """A contender cannot run here, and that is no fault of its own; the message says why."""


@dataclass(frozen=True)
class Metric:
    """What is told of a contender besides its figure."""

    unit: str
    higher_is_better: bool = False


@dataclass(frozen=True)
class Figure:
    """What a contender measured, where it has more to say than the number: in words, and by the case's metrics."""

    value: float
    detail: str = ""
    others: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One table: contenders that do the same work, compared by one figure in `unit`.

    A contender is called with `params`, or with `quick` merged into them, and returns a number or a `Figure`.  The
    `others` are further metrics of the same run, by name, each of which a `Figure` has then.
    """

    title: str
    unit: str
    contenders: Mapping[str, Callable]
    params: Mapping[str, float]
    quick: Mapping[str, float] = field(default_factory=dict)
    higher_is_better: bool = False
    others: Mapping[str, Metric] = field(default_factory=dict)
