"""The process in which one contender runs: `python -m metalio.bench.worker`, started by the harness.

Takes the benchmark's name, the case's number, the contender's name and the parameters as JSON.  Prints JSON: the
figure, or why there can be none here.
"""

import json
import sys
from dataclasses import asdict

from metalio.bench import load
from metalio.bench.case import Figure, Unavailable


def raise_descriptor_limit():
    """Allow as many descriptors as the system lets us: the shell's usual 1,024 is too few for some cases."""
    try:
        import resource
    except ImportError:  # Windows has no such limit.
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def main(benchmark, case, contender, params):
    raise_descriptor_limit()
    try:
        figure = load(benchmark).CASES[int(case)].contenders[contender](**json.loads(params))
    except Unavailable as error:
        print(json.dumps({"unavailable": str(error)}))
        return
    if not isinstance(figure, Figure):
        figure = Figure(figure)
    print(json.dumps(asdict(figure)))


if __name__ == "__main__":
    main(*sys.argv[1:])
