"""`python -m metalio bench`: metalio beside its peers, on this machine."""

import argparse
import signal
import sys
from pathlib import Path

from metalio import bench


def add_parser(subparsers):
    parser = subparsers.add_parser(
        "bench",
        help="measure metalio beside its peers",
        description="Run benchmarks: metalio, its peers, and the same loop in C, which is the limit.",
        epilog=f"Benchmarks: {', '.join(bench.NAMES)}.",
    )
    parser.add_argument("names", nargs="*", type=benchmark, metavar="NAME", help="what to run (default: everything)")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: a look, not a measurement")
    parser.add_argument("--rounds", type=positive, metavar="N", help="rounds of each (default: 5; quick: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the medians and ratios as tables")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios (needs matplotlib)")
    parser.set_defaults(run=run)


def benchmark(name):
    if name not in bench.NAMES:
        raise argparse.ArgumentTypeError(f"there is no benchmark {name!r}; there are {', '.join(bench.NAMES)}")
    return name


def positive(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def run(arguments):
    """Run what the command line asks for: the exit status, which is 1 where a contender failed."""
    from metalio.bench import plot, report

    if arguments.plot and not plot.available():
        print("--plot needs matplotlib: pip install 'metalio[bench]'", file=sys.stderr)
        return 2
    if arguments.plot and arguments.plot.suffix.lower() not in plot.formats():
        print(f"cannot draw {arguments.plot}: the suffixes are {', '.join(sorted(plot.formats()))}", file=sys.stderr)
        return 2
    for file in filter(None, (arguments.json, arguments.markdown, arguments.plot)):
        if not file.absolute().parent.is_dir():
            print(f"cannot write {file}: there is no such directory", file=sys.stderr)
            return 2
    environment = report.environment()
    if disturbance := report.disturbance(environment):
        print(f"warning: {disturbance}", file=sys.stderr)
    results, status = measure(arguments)
    if arguments.json:
        arguments.json.write_text(report.as_json(results, environment))
    if arguments.markdown:
        arguments.markdown.write_text(report.as_markdown(results, environment, command(arguments)))
    if arguments.plot:
        plot.draw(results, arguments.plot)
    return status


def command(arguments):
    """The command line that measures the same again."""
    words = ["python -m metalio bench", *arguments.names]
    if arguments.quick:
        words.append("--quick")
    if arguments.rounds:
        words.append(f"--rounds {arguments.rounds}")
    return " ".join(words)


def measure(arguments):
    """Run the benchmarks and print each table as it is done: the results, and the exit status."""
    from metalio.bench import harness, report

    rounds = arguments.rounds or (3 if arguments.quick else 5)
    progress = Progress()
    results = []
    # To be told to end is to be interrupted: the contenders end and what was compiled is deleted.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for name in dict.fromkeys(arguments.names or bench.NAMES):
            for result in harness.run(name, rounds=rounds, quick=arguments.quick, progress=progress):
                progress.clear()
                report.show(result)
                results.append(result)
    except KeyboardInterrupt:
        progress.clear()
        print("interrupted", file=sys.stderr)
        return results, 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return results, 1 if any(result.failed for result in results) else 0


class Progress:
    """Says on standard error what is running: one line that changes on a terminal, else a line each."""

    def __init__(self):
        self.terminal = sys.stderr.isatty()

    def __call__(self, text):
        print(f"\r\x1b[K{text}" if self.terminal else text, end="" if self.terminal else "\n", file=sys.stderr)
        sys.stderr.flush()

    def clear(self):
        if self.terminal:
            self("")
