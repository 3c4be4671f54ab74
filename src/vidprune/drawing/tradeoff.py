"""Accuracy, disagreement and divergence over arithmetic, a line for every method."""

from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from vidprune.benchmarking.plot_axes import INK, panels_of, style
from vidprune.benchmarking.plot_lines import dense_marker, look_of
from vidprune.intervals import Interval
from vidprune.report import hardware
from vidprune.tradeoff import Point, TradeOff

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Look = tuple[str, str, str]
Measure = Callable[[Point], Interval | None]

_CHANGE: Measure = attrgetter("change_points")
_DIVERGENCE: Measure = attrgetter("kl_nats")


# Of a title above it.
_SIGNS_A_PANEL = 60


def _disagreement(point: Point) -> Interval | None:
    same = point.agreement
    if same is None or same.low is None or same.high is None:
        return None
    return Interval(value=100 - same.value, low=100 - same.high, high=100 - same.low)


_MEASURES: tuple[tuple[str, Measure], ...] = (
    ("change of top-1, points", _CHANGE),
    ("another class than dense, %", _disagreement),
    ("KL to dense, nats", _DIVERGENCE),
)


def draw_tradeoff(
    found: TradeOff, stem: Path, more: Sequence[tuple[str, Measure]] = ()
) -> list[Path]:
    """Leave the curves of a record beside `stem`, as SVG and as PNG, and say where.

    Over the share of the dense arithmetic, which falls to the right: what became of top-1, how
    often the class is not the dense model's, and KL; and `more`, shares in per cent by their names.
    Bars are 95 %; dense models that cost less are points without a line. Raises RuntimeError where
    matplotlib is not installed.
    """
    methods = list(dict.fromkeys(point.method for point in found.points[1:]))
    measures = (*_MEASURES, *more)
    columns = len(measures) if len(measures) < 4 else 2
    with style():
        figure, panels = panels_of(-(-len(measures) // columns), columns)
        for axes, (name, measure) in zip(chain(*panels), measures, strict=False):
            for number, method in enumerate(methods):
                points = [point for point in found.points if point.method == method]
                aside = 100 * (number - len(methods) / 2) * 0.0015
                _draw(axes, points, measure, _look(method, methods), aside)
            _scale(axes, measure)
            axes.set_xlabel("dense arithmetic of a video, %")
            axes.set_ylabel(name)
            axes.invert_xaxis()
        figure.suptitle(
            "\n".join(fill(line, _SIGNS_A_PANEL * columns) for line in _title(found)),
            fontsize=9,
            x=0.01,
            ha="left",
        )
        figure.legend(
            *panels[0][0].get_legend_handles_labels(),
            loc="outside lower left",
            ncols=_legend_columns(methods, columns),
            frameon=False,
        )
        paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png")]
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=200, metadata=metadata, facecolor="white")
    return paths


def _legend_columns(methods: Sequence[str], panels: int) -> int:
    """As many as fit below so many panels beside each other; a name's marker is six signs wide."""
    fitting = _SIGNS_A_PANEL * panels // (max(map(len, methods)) + 6)
    return max(1, min(2 * panels, 5, len(methods), fitting))


def _title(found: TradeOff) -> tuple[str, str]:
    views = f"{found.views_per_video} view{'s' if found.views_per_video > 1 else ''}"
    dense = found.points[0].top1.value
    return (
        f"{', '.join(found.checkpoints)}: {found.num_videos} videos, dense top-1 {dense:.1f} %, "
        f"{views}, {found.dtype}",
        hardware(found.environment),
    )


def _scale(axes: "Axes", measure: Measure) -> None:
    """An axis on which small losses are told apart as well as large ones."""
    from matplotlib.ticker import LogLocator

    if measure is _DIVERGENCE:
        axes.set_yscale("log", subs=())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    elif measure in (_CHANGE, _disagreement):
        axes.axhline(0, color=INK, linewidth=0.7, dashes=(4, 2))
        axes.set_yscale("symlog", linthresh=2, linscale=0.8)
        losses, gains = (50, 20, 10, 5, 2, 1), (1, 2, 5, 10, 20, 50)
        below = losses if measure is _CHANGE else ()
        low, high = axes.get_ylim()
        axes.set_yticks(
            [value for value in (*(-v for v in below), 0, *gains) if low <= value <= high]
        )
        axes.set_yticks([], minor=True)
        if measure is _disagreement:
            axes.set_ylim(bottom=-0.3)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _look(method: str, methods: Sequence[str]) -> Look:
    """Colour, marker and dashes; dense models are black and have no line."""
    if (marker := dense_marker(method)) is not None:
        return "black", marker, ""
    kind = method.partition(":")[0]
    alike = [other for other in methods if other.partition(":")[0] == kind]
    return look_of(kind, alike.index(method))


def _draw(
    axes: "Axes", points: Sequence[Point], measure: Measure, look: Look, aside: float
) -> None:
    """One method; a little aside, so that bars do not cover each other."""
    colour, marker, dashes = look
    known = [(point.share, value) for point in points if (value := measure(point)) is not None]
    values = [value for _, value in known]
    low = [each.value if each.low is None else each.low for each in values]
    high = [each.value if each.high is None else each.high for each in values]
    axes.errorbar(
        [100 * share + aside for share, _ in known],
        [each.value for each in values],
        # A bound of pairs is shrunk towards 0, and may pass the value.
        yerr=[
            [max(each.value - bound, 0) for each, bound in zip(values, low, strict=True)],
            [max(bound - each.value, 0) for each, bound in zip(values, high, strict=True)],
        ],
        label=points[0].method,
        color=colour,
        marker=marker,
        markerfacecolor=colour if dashes else "white",
        linestyle=dashes or "none",
        elinewidth=0.7,
        markersize=4,
    )
