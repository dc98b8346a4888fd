"""Results as a picture, drawn by matplotlib."""

from importlib.util import find_spec

from metalio.bench import stats
from metalio.bench.report import number


def available():
    return find_spec("matplotlib") is not None


def formats():
    """The suffixes that `draw` knows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    return {f".{name}" for name in FigureCanvasAgg.get_supported_filetypes()}


def draw(results, path):
    """Write one bar chart a case to `path`; its suffix tells the format."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = [result for result in results if result.samples]
    # In inches: what stands above and below the bars, and a bar for each contender.
    heights = [1.2 + 0.3 * len(result.samples) for result in drawn]
    figure = Figure(figsize=(8, sum(heights) or 1))
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(drawn) or 1, squeeze=False, gridspec_kw={"height_ratios": heights or [1]})
    for axes, result in zip(grid[:, 0], drawn, strict=False):
        draw_case(axes, result)
    figure.tight_layout()
    figure.savefig(path)


def draw_case(axes, result):
    summaries = result.summaries
    names = [name for name in result.case.contenders if name in summaries]
    medians = [summaries[name].median for name in names]
    # Bars reach to the median, whiskers from one quartile to the other.
    whiskers = [
        [summaries[name].median - summaries[name].low for name in names],
        [summaries[name].high - summaries[name].median for name in names],
    ]
    colours = {stats.REFERENCE: "tab:orange", stats.LIMIT: "tab:gray"}
    bars = axes.barh(names, medians, xerr=whiskers, color=[colours.get(name, "tab:blue") for name in names])
    axes.bar_label(bars, labels=[number(value) for value in medians], padding=3)
    axes.margins(x=0.15)
    axes.invert_yaxis()
    better = "higher" if result.case.higher_is_better else "lower"
    axes.set_title(result.title, loc="left", fontsize="medium")
    axes.set_xlabel(f"{result.case.unit}, {better} is better", fontsize="small")
