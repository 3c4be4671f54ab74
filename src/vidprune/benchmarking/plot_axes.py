"""Parts of a benchmark's figures: panels, lines with bars, the bound, titles and legends."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

from vidprune.benchmarking.plot_lines import Line, asked, is_dense, lines_of, share
from vidprune.benchmarking.report import Benchmark, BenchmarkRow
from vidprune.report import hardware

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches; a lone one has to hold title and legend.
_PANEL, _LONE_PANEL = (4.6, 3.5), (6.4, 3.5)
# From line to line, so that bars do not cover each other.
_ASIDE = 0.022
INK, _FAINT = "#4D4D4D", "#D9D9D9"
_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": "#EBEBEB",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.5,
    "lines.markersize": 5.5,
    # Names are names, not formulas.
    "text.parse_math": False,
    # The same record gives the same file.
    "svg.hashsalt": "vidprune",
}


@dataclass(frozen=True)
class Value:
    """What a row has on an axis, and the bar around it; no bar where its ends are None."""

    middle: float
    low: float | None = None
    high: float | None = None


Measure = Callable[[BenchmarkRow], Value | None]
Group = Sequence[BenchmarkRow]

_BOUND = "what arithmetic alone would give"
DECODING = "decoding alone"


@contextmanager
def style() -> Iterator[None]:
    """How figures look that are made in here. Raises RuntimeError without matplotlib."""
    try:
        import matplotlib
    except ImportError as error:
        raise RuntimeError("plots need matplotlib; pip install 'vidprune[plots]'") from error
    with matplotlib.rc_context(_STYLE):
        yield


def panels_of(rows: int, columns: int) -> "tuple[Figure, list[list[Axes]]]":
    """A figure and its panels, row by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = _PANEL if columns > 1 else _LONE_PANEL
    figure = Figure(figsize=(width * columns, height * rows + 1.3), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False).tolist()


def draw_lines(axes: "Axes", rows: Group, measure: Measure, *, dense: str | None = None) -> None:
    """The lines of one mode, moved sideways a little so that bars do not cover each other."""
    drawn = []
    for line in lines_of(rows):
        points = [(share(row, rows[0]), measure(row)) for row in line.rows]
        known = [(x, value) for x, value in points if value is not None]
        drawn += [(line, known)] if known else []
    for place, (line, known) in enumerate(drawn):
        _draw_line(axes, line, known, place=place - (len(drawn) - 1) / 2)
    if dense is not None and (value := measure(rows[0])) is not None:
        marker = dense_marker(dense)
        axes.errorbar([100], [value.middle], yerr=_bars([value]), elinewidth=0.9, **marker)
    shares = [100.0, *(x for _, known in drawn for x, _ in known)]
    air = 0.05 * (max(shares) - min(shares)) or 5
    axes.set_xlim(max(shares) + air, min(shares) - air)


def _draw_line(
    axes: "Axes", line: Line, points: Sequence[tuple[float, Value]], *, place: float
) -> None:
    """At its `place` among all, of which the middle one is 0 and the first lies on top."""
    from matplotlib.transforms import ScaledTranslation

    figure = axes.get_figure(root=True)
    assert figure is not None, "it was made in one"
    aside = ScaledTranslation(_ASIDE * place, 0, figure.dpi_scale_trans)
    axes.errorbar(
        [x for x, _ in points],
        [value.middle for _, value in points],
        yerr=_bars([value for _, value in points]),
        label=line.name,
        color=line.colour,
        linestyle=line.dashes if line.joined else "none",
        marker=line.marker,
        markerfacecolor=line.colour if line.filled else "white",
        elinewidth=0.9,
        transform=axes.transData + aside,
        zorder=3 - 0.01 * place,
    )


def _bars(values: Sequence[Value]) -> list[list[float]]:
    """How far bars reach down and up."""
    down = [0.0 if v.low is None else max(0.0, v.middle - v.low) for v in values]
    up = [0.0 if v.high is None else max(0.0, v.high - v.middle) for v in values]
    return [down, up]


def ends(values: Sequence[Value]) -> tuple[float, float]:
    """The ends of an axis that holds all bars with some air."""
    lows = [value.middle if value.low is None else value.low for value in values]
    highs = [value.middle if value.high is None else value.high for value in values]
    low, high = min(lows, default=0.0), max(highs, default=1.0)
    air = 0.05 * (high - low) or 0.05 * (high or 1)
    return low - air, high + air


def decades(values: Sequence[Value]) -> tuple[float, float]:
    """The ends of an axis in logarithms: bars that reach down to nothing do not stretch it."""
    middles = [value.middle for value in values]
    highs = [value.high or value.middle for value in values]
    return min(middles, default=1e-3) / 2, 1.5 * max(highs, default=1.0)


def dense_marker(label: str) -> dict[str, Any]:
    """How the dense model's point looks."""
    return {"label": label, "color": "black", "marker": "o", "markersize": 4, "linestyle": "none"}


def draw_bound(axes: "Axes", rows: Group, group: Group) -> None:
    """What speed-up would be if only arithmetic counted."""
    dense = [row.speed for row in group if row.speed and is_dense(row, group[0])]
    best = min((speed.latency_p50_ms for speed in dense), default=None)
    of = [rows[0], *(row for _, row in asked(rows))]
    bounds = sorted(
        (share(row, rows[0]), best / row.speed.bound_ms)
        for row in of
        if best and row.speed and row.speed.bound_ms
    )
    if len(bounds) > 1:
        x, y = zip(*bounds, strict=True)
        axes.plot(x, y, color="black", linewidth=0.7, label=_BOUND)


def name_axes(panels: "Sequence[Sequence[Axes]]", rows: Group, ylabel: str, views: int) -> None:
    """Arithmetic of so many views below, and above the r to which rivals are matched."""
    ticks = {share(row, rows[0]): r for r, row in asked(rows)}
    gmacs = f"{rows[0].gmacs_dense:.4g}"
    what = f"{views} views" if views > 1 else "a view"
    whole = f"{views} x {gmacs}" if views > 1 else gmacs
    for line in panels:
        line[0].set_ylabel(ylabel)
        for axes in line:
            axes.set_xlabel(f"GMACs of {what}, % of dense (100 % = {whole})")
            _draw_settings(axes, ticks)


def _draw_settings(axes: "Axes", ticks: Mapping[float, str]) -> None:
    """Faint lines that hold together what is matched to a setting, with its r above."""
    for x in ticks:
        axes.axvline(x, color=_FAINT, linewidth=0.7, zorder=0)
    top = axes.secondary_xaxis("top")
    top.set_xticks(list(ticks), labels=list(ticks.values()))
    top.tick_params(length=0, labelcolor=INK, labelsize=8)
    top.spines["top"].set_visible(False)


def finish(figure: "Figure", found: Benchmark, dense: BenchmarkRow, *notes: str) -> None:
    """Title and legend: the model, how it was measured and what is drawn, on what."""
    first, ran = dense.setting, found.environment
    model = f"{_tail(first.checkpoint)}, {first.frames}x{first.size}x{first.size}, {first.dtype}"
    machine = f"{_tail(hardware(ran))}, {ran['cpu_threads']} threads, torch {ran['torch']}"
    lines = (model, *notes, f"{machine}, {found.date[:10]}")
    figure.suptitle("\n".join(lines), fontsize=9, x=0.01, ha="left")
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    labels = sorted(handles, key=lambda label: label in (_BOUND, DECODING))
    _place_legend(figure, [handles[label] for label in labels], [*map(_wrapped, labels)])


def _place_legend(figure: "Figure", handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Below the panels, in as many columns as there is room for."""
    for columns in range(4, 0, -1):
        legend = figure.legend(
            handles, labels, loc="outside lower left", ncols=columns, frameon=False
        )
        if columns == 1 or legend.get_window_extent().width < figure.bbox.width:
            return
        legend.remove()


def _wrapped(label: str, *, most: int = 60) -> str:
    """A long reducer's text on several lines, broken between its options."""
    return label if len(label) <= most else fill(label.replace(",", ", "), most)


def _tail(name: str, *, most: int = 60) -> str:
    """The end of a long name, by which paths differ."""
    return name if len(name) <= most else f"...{name[3 - most :]}"
