"""What the samples of a case say, and what they do not."""

from dataclasses import dataclass
from statistics import median, quantiles

# A spread above this says more of the machine than of the contender.
NOISY = 0.10

REFERENCE = "metalio"
LIMIT = "C"


@dataclass(frozen=True)
class Summary:
    """Median and quartiles of one contender's rounds; `ratio` is its cost in units of the baseline's."""

    median: float
    low: float
    high: float
    ratio: float | None

    @property
    def spread(self):
        """The distance of the quartiles, as a fraction of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


def quartiles(samples):
    if len(samples) == 1:
        return samples[0], samples[0]
    low, _, high = quantiles(samples, n=4, method="inclusive")
    return low, high


def costs(samples, baseline, higher_is_better):
    """How many times the baseline's cost each round was.

    Round by round, since the rounds of one contender are minutes apart, and those of one round are seconds.  A rate
    is the reverse of a cost.  Rounds without a cost, such as no calls at all, have no ratio.
    """
    pairs = zip(baseline, samples, strict=False) if higher_is_better else zip(samples, baseline, strict=False)
    return [above / below for above, below in pairs if below]


def baseline_of(samples):
    """The contender that the others are compared with: the limit where it ran, else metalio."""
    return next((name for name in (LIMIT, REFERENCE) if name in samples), None)


def summarise(samples, higher_is_better=False):
    """A `Summary` for each contender of `samples`, which maps names to figures, one a round."""
    baseline = samples.get(baseline_of(samples), [])
    summaries = {}
    for name, values in samples.items():
        ratios = costs(values, baseline, higher_is_better)
        summaries[name] = Summary(median(values), *quartiles(values), median(ratios) if ratios else None)
    return summaries


def warnings(samples, higher_is_better=False):
    """Sentences on what this run is too noisy to tell."""
    found = [
        f"{name} is noisy: the middle half of its rounds spreads over {summary.spread:.0%} of the median"
        for name, summary in summarise(samples, higher_is_better).items()
        if summary.spread > NOISY
    ]
    reference = samples.get(REFERENCE, [])
    for name, values in samples.items():
        if name == REFERENCE or values == reference:
            continue
        ratios = costs(values, reference, higher_is_better)
        if ratios:
            low, high = quartiles(ratios)
            if low <= 1 <= high:
                found.append(f"this run cannot tell {REFERENCE} and {name} apart")
    return found
