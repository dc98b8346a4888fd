"""Runs a benchmark's contenders side by side.

Every contender runs once a round, in a process of its own, so that none inherits another's heap, caches or
descriptors.  The rounds are interleaved, so that a disturbance of the machine meets all alike, and every other round
goes backwards, so that none always follows the same one.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace

from metalio.bench import load, native, stats
from metalio.bench.case import Case, Figure, Unavailable

# The longest that one contender may take for one round.
SECONDS = 90


@dataclass
class Result:
    """What became of one case: the figures of each contender, one a round, and why others have none."""

    benchmark: str
    case: Case
    params: dict[str, float]
    samples: dict[str, list[float]] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    # What was told besides, a result for each of the case's other metrics.
    others: "dict[str, Result]" = field(default_factory=dict)

    def __post_init__(self):
        for name, metric in self.case.others.items():
            case = replace(
                self.case,
                title=f"{self.case.title}, {name}",
                unit=metric.unit,
                higher_is_better=metric.higher_is_better,
                others={},
            )
            self.others[name] = Result(self.benchmark, case, self.params)

    def add(self, contender, figure):
        self.samples.setdefault(contender, []).append(figure.value)
        self.details[contender] = figure.detail
        for name, other in self.others.items():
            other.add(contender, Figure(figure.others[name]))

    def fail(self, contender, reason):
        """Forget what a contender came to before it failed."""
        for result in (self, *self.others.values()):
            result.failed[contender] = reason
            result.samples.pop(contender, None)

    @property
    def title(self):
        return f"{self.benchmark}: {self.case.title}"

    @property
    def summaries(self):
        return stats.summarise(self.samples, self.case.higher_is_better)

    @property
    def warnings(self):
        return stats.warnings(self.samples, self.case.higher_is_better)


class WorkerFailed(Exception):
    """A contender did not come to a figure; the message is the reason."""


def run_worker(benchmark, index, contender, params, seconds=SECONDS):
    """Run one contender of the case at `index` once, in a fresh process: its `Figure`."""
    command = [sys.executable, "-m", "metalio.bench.worker", benchmark, str(index), contender, json.dumps(params)]
    with subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except BaseException as error:
            end(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise WorkerFailed(f"no figure within {seconds} s") from None
            raise
    if process.returncode:
        lines = errors.strip().splitlines() or [f"exit status {process.returncode}"]
        raise WorkerFailed(lines[-1])
    answer = json.loads(output)
    if "unavailable" in answer:
        raise Unavailable(answer["unavailable"])
    return Figure(**answer)


def end(process):
    """Kill a worker that is still running, with the programs that it started: all of its session, nothing else."""
    if process.poll() is not None:
        return
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def run_round(result, index, contenders, progress):
    """Run each of the `contenders` once.  Those that cannot run are out, with what they measured before."""
    for contender in contenders:
        if contender in result.unavailable or contender in result.failed:
            continue
        progress(contender)
        try:
            figure = run_worker(result.benchmark, index, contender, result.params)
        except Unavailable as error:
            result.unavailable[contender] = str(error)
        except WorkerFailed as error:
            result.fail(contender, str(error))
        else:
            result.add(contender, figure)


def run(name, *, rounds=5, quick=False, progress=lambda text: None):
    """Run the benchmark called `name`: yields a `Result` for each of its cases.

    `progress` is called with a line of text as each contender starts.
    """
    with native.directory():
        for index, case in enumerate(load(name).CASES):
            params = {**case.params, **(case.quick if quick else {})}
            result = Result(name, case, params)
            for number in range(rounds):
                order = list(case.contenders)[:: -1 if number % 2 else 1]
                where = f"{result.title}, round {number + 1} of {rounds}"
                run_round(result, index, order, lambda contender, where=where: progress(f"{where}: {contender}"))
            yield result
