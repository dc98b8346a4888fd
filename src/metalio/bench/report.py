"""Results as a table, as JSON and as Markdown."""

import json
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version

from metalio import __version__
from metalio.bench import load, stats

# Of which the version matters.
PEERS = ("uvloop", "gevent", "trio", "tornado")

# Before the columns of the other metrics.
HEADINGS = ("contender", "median", "spread", "ratio")


def environment():
    """On what the figures were measured."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "free_threaded": not getattr(sys, "_is_gil_enabled", lambda: True)(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": os.cpu_count(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "metalio": __version__,
        **{name: installed(name) for name in PEERS},
    }


def disturbance(environment):
    """What makes the figures doubtful from the start, or `None`."""
    load, processors = environment["load"], environment["processors"]
    # The benchmarks keep up to two processors busy, a server's and its load's.
    if load and processors and load[0] > max(processors - 2, 0.5):
        return f"the machine is busy: {load[0]:.1f} processes run on {processors} processors"
    return None


def installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def number(value):
    """Three or four significant digits, for people."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 10 else f"{value:.1f}"


def ratio(summary):
    return "" if summary.ratio is None else f"{summary.ratio:.2f}"


def headings(result):
    return *HEADINGS, *result.others, ""


def rows(result):
    """A row of strings under the `headings` for each contender, with the reason where there is no figure."""
    summaries = result.summaries
    others = [other.summaries for other in result.others.values()]
    for name in result.case.contenders:
        if (summary := summaries.get(name)) is not None:
            more = [f"{number(other[name].median)} ({ratio(other[name])})" for other in others]
            spread = f"{summary.spread:.0%}"
            yield name, number(summary.median), spread, ratio(summary), *more, result.details.get(name, "")
        else:
            reason = result.failed.get(name) or result.unavailable.get(name, "not run")
            yield name, "failed" if name in result.failed else "-", "", "", *([""] * len(others)), reason


def caption(result):
    """What the columns mean."""
    better = "higher" if result.case.higher_is_better else "lower"
    text = f"{result.case.unit}, {better} is better"
    if any(summary.ratio is not None for summary in result.summaries.values()):
        text += f"; ratio: cost in units of {stats.baseline_of(result.samples)}'s"
    for name, other in result.others.items():
        text += f"; {name}: {other.case.unit}" + (" (ratio)" if other.samples else "")
    return text


def show(result):
    """Print the table of one case, by `rich` where it is installed."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        show_plain(result)
        return
    table = Table()
    lines = list(rows(result))
    names = headings(result)
    last = len(names) - 1
    for index, heading in enumerate(names if any(line[-1] for line in lines) else names[:-1]):
        table.add_column(heading, justify="right" if 0 < index < last else "left", no_wrap=index < last)
    for row in lines:
        table.add_row(*row[: len(table.columns)], style="bold" if row[0] == stats.REFERENCE else None)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 140
    console.print(result.title, style="bold")
    console.print(table)
    console.print(caption(result), style="italic")
    for warning in result.warnings:
        console.print(f"warning: {warning}", style="yellow")
    console.print()


def show_plain(result):
    print(result.title)
    lines = [headings(result), *rows(result)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    for name, *figures, detail in lines:
        cells = [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(figures, widths[1:], strict=True))]
        print("  ".join([*cells, detail]).rstrip())
    print(caption(result))
    for warning in result.warnings:
        print(f"warning: {warning}")
    print()


def as_json(results, environment):
    """Everything that was measured, for other programs."""
    return json.dumps({"environment": environment, "results": [of_case(result) for result in results]}, indent=2) + "\n"


def as_markdown(results, environment, command):
    """A table for each benchmark: a row a case or another metric of it, a column a contender."""
    peers = [f"{name} {environment[name]}" for name in PEERS if environment[name]]
    where = [f"{environment['implementation']} {environment['python']}", environment["system"]]
    lines = [f"{', '.join(where + peers)}; {environment['time']}.", "", f"    {command}"]
    for benchmark in dict.fromkeys(result.benchmark for result in results):
        of_this = [result for result in results if result.benchmark == benchmark]
        names = list(dict.fromkeys(name for result in of_this for name in result.case.contenders))
        lines += ["", f"## {benchmark}", "", load(benchmark).__doc__.split("\n")[0], ""]
        lines += [f"| case | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
        for result in of_this:
            lines += [markdown_row(each, names) for each in (result, *result.others.values())]
    return "\n".join(lines) + "\n"


def markdown_row(result, names):
    summaries = result.summaries
    cells = []
    for name in names:
        if (summary := summaries.get(name)) is None:
            cells.append("failed" if name in result.failed else "-")
        else:
            cells.append(number(summary.median) + (f" ({ratio(summary)})" if summary.ratio is not None else ""))
    return f"| {result.case.title}; {result.case.unit} | {' | '.join(cells)} |"


def of_case(result):
    contenders = {
        name: {
            "median": summary.median,
            "quartiles": [summary.low, summary.high],
            "spread": summary.spread,
            "ratio": summary.ratio,
            "samples": result.samples[name],
            "detail": result.details[name],
        }
        for name, summary in result.summaries.items()
    }
    return {
        "benchmark": result.benchmark,
        "case": result.case.title,
        "unit": result.case.unit,
        "higher_is_better": result.case.higher_is_better,
        "params": result.params,
        "baseline": stats.baseline_of(result.samples),
        "contenders": contenders,
        "unavailable": result.unavailable,
        "failed": result.failed,
        "warnings": result.warnings,
        "others": {name: of_case(other) for name, other in result.others.items()},
    }
