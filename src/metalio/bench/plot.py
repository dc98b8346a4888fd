"""Results as a picture, by matplotlib: a row a case, a mark a contender, at its cost in units of the baseline."""

from importlib.util import find_spec

from metalio.bench import stats

# So that a contender looks the same in all pictures, and what matters most is seen first.
COLOURS = {stats.REFERENCE: "tab:orange", stats.LIMIT: "black"}
OTHER_COLOURS = ("tab:blue", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:olive", "tab:cyan")
MARKS = {stats.REFERENCE: "o", stats.LIMIT: "|"}
OTHER_MARKS = "sD^vP<>X"
# What costs more stands at the edge, so that the rest can be told apart.
FARTHEST = 200


def available():
    return find_spec("matplotlib") is not None


def formats():
    """The suffixes that `draw` knows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    return {f".{name}" for name in FigureCanvasAgg.get_supported_filetypes()}


def draw(results, path):
    """Write the picture to `path`; its suffix tells the format."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

    # A figure of nothing at all, such as no allocator calls, is no multiple of anything.
    drawn = [result for result in results if any(summary.ratio for summary in result.summaries.values())]
    # In inches: a row each, and what stands above and below them.
    figure = Figure(figsize=(11, 1.6 + 0.27 * len(drawn)))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, style in styles(drawn).items():
        places = [
            (min(summary.ratio, FARTHEST), row)
            for row, result in enumerate(drawn)
            if (summary := result.summaries.get(name)) is not None and summary.ratio
        ]
        axes.plot(*zip(*places, strict=True), linestyle="none", label=name, **style)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(drawn)), [result.title for result in drawn], fontsize="small")
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.xaxis.set_major_locator(FixedLocator([0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, FARTHEST]))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="both", linewidth=0.3)
    axes.set_axisbelow(True)
    axes.set_xlabel(
        f"cost in units of C's, or of metalio's where there is no C; less is better; {FARTHEST} or more at the edge"
    )
    if drawn:
        figure.legend(loc="outside upper center", ncols=5, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.7 / figure.get_figheight()))
    figure.savefig(path)


def styles(results):
    """How each contender is marked, by name, in the order in which they are drawn: metalio last, above the others."""
    names = dict.fromkeys(name for result in results for name in result.summaries)
    found = {}
    others = (name for name in names if name not in COLOURS)
    for index, name in enumerate(others):
        colour = OTHER_COLOURS[index % len(OTHER_COLOURS)]
        found[name] = {"color": colour, "marker": OTHER_MARKS[index % len(OTHER_MARKS)], "markersize": 5, "alpha": 0.8}
    for name in (stats.LIMIT, stats.REFERENCE):
        if name in names:
            found[name] = {"color": COLOURS[name], "marker": MARKS[name], "markersize": 9}
    return found
