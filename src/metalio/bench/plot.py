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
# Of the legend.
COLUMNS = 5


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
    looks = styles(drawn)
    # In inches: a row each, and what stands above and below them.
    legend = 0.3 + 0.22 * -(-len(looks) // COLUMNS)
    figure = Figure(figsize=(11, 0.9 + legend + 0.27 * len(drawn)))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for family, style in looks.items():
        places = [
            (min(summary.ratio, FARTHEST), row)
            for row, result in enumerate(drawn)
            for name, summary in result.summaries.items()
            if family_of(name) == family and summary.ratio
        ]
        axes.plot(*zip(*places, strict=True), linestyle="none", label=family, **style)
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
        f"cost in units of C's, or of metalio's where there is no C: less is better; {FARTHEST} or more at the edge",
        loc="right",
    )
    if drawn:
        figure.legend(loc="outside upper center", ncols=COLUMNS, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - legend / figure.get_figheight()))
    figure.savefig(path)


def family_of(name):
    """What a contender is marked as: what stands before the comma, since the rest says how it is used."""
    return name.partition(",")[0]


def styles(results):
    """How each family of contenders is marked, in the order in which they are drawn: metalio last, above the others."""
    families = dict.fromkeys(
        family_of(name) for result in results for name, summary in result.summaries.items() if summary.ratio
    )
    found = {}
    others = (family for family in families if family not in COLOURS)
    for index, family in enumerate(others):
        colour = OTHER_COLOURS[index % len(OTHER_COLOURS)]
        # Another mark where the colours begin again.
        mark = OTHER_MARKS[(index + index // len(OTHER_COLOURS)) % len(OTHER_MARKS)]
        found[family] = {"color": colour, "marker": mark, "markersize": 5, "alpha": 0.8}
    for family in (stats.LIMIT, stats.REFERENCE):
        if family in families:
            found[family] = {"color": COLOURS[family], "marker": MARKS[family], "markersize": 8}
    return found
