"""Looks at many clips as curves: what time still repeats, and what the kept tokens hold."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vidprune.benchmarking.plot_axes import INK, panels_of, style
from vidprune.benchmarking.plot_lines import look_of
from vidprune.insight.summary import ReducerSummary, Summary
from vidprune.intervals import Interval
from vidprune.report import hardware

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_curves(found: Summary, stem: Path) -> list[Path]:
    """Leave the curves of a record beside `stem`, as SVG and as PNG, and say where.

    Left the trajectory sum after each block; right, of classifiers, the share of GradNorm after
    each stage over the share of tokens, with what tokens kept at random hold. Bars are 95 % over
    clips. Raises RuntimeError where matplotlib is not installed.
    """
    with style():
        held = any(stage.gradnorm for row in found.rows for stage in row.stages)
        figure, panels = panels_of(1, 2 if held else 1)
        _trajectories(panels[0][0], found.rows)
        if held:
            _shares(panels[0][1], found.rows)
        clips = f"{found.num_clips} clip{'s' if found.num_clips > 1 else ''}"
        said = f"{found.checkpoint}, {found.dtype}, {clips}\n{hardware(found.environment)}"
        figure.suptitle(said, fontsize=9, x=0.01, ha="left")
        figure.legend(
            *panels[0][0].get_legend_handles_labels(),
            loc="outside lower left",
            ncols=min(3, len(found.rows)),
            frameon=False,
        )
        paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png")]
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=200, metadata=metadata, facecolor="white")
    return paths


def _trajectories(axes: "Axes", rows: Sequence[ReducerSummary]) -> None:
    for row, style_of in zip(rows, _styles(rows), strict=True):
        known = [(block, each) for block, each in enumerate(row.trajectory) if each is not None]
        _line(axes, known, "dense" if row is rows[0] else row.reducer, style_of)
    axes.set_xlabel("after block")
    axes.set_ylabel("trajectory sum")


def _shares(axes: "Axes", rows: Sequence[ReducerSummary]) -> None:
    for row, style_of in list(zip(rows, _styles(rows), strict=True))[1:]:
        known = [(stage.at_random, stage.gradnorm) for stage in row.stages if stage.gradnorm]
        _line(axes, known, row.reducer, style_of)
    low = min((stage.at_random for row in rows for stage in row.stages), default=0)
    axes.plot([low, 100], [low, 100], color=INK, linewidth=0.7, dashes=(4, 2))
    middle = (low + 100) / 2
    axes.annotate("at random", (middle, middle), (-52, -10), textcoords="offset points", color=INK)
    axes.set_xlabel("tokens that are left, %")
    axes.set_ylabel("GradNorm that they hold, %")
    axes.invert_xaxis()


def _styles(rows: Sequence[ReducerSummary]) -> list[tuple[str, str, str]]:
    """Colour, marker and dashes of each row; the dense model's, the first, are black."""
    names = [row.reducer.partition(":")[0] for row in rows]
    pruned = [look_of(name, names[:number].count(name)) for number, name in enumerate(names)]
    return [("black", "o", "-"), *pruned[1:]]


def _line(
    axes: "Axes",
    points: Sequence[tuple[float, Interval]],
    name: str,
    style_of: tuple[str, str, str],
) -> None:
    colour, marker, dashes = style_of
    values = [each for _, each in points]
    bars = [
        [value.value - (value.value if value.low is None else value.low) for value in values],
        [(value.value if value.high is None else value.high) - value.value for value in values],
    ]
    axes.errorbar(
        [at for at, _ in points],
        [value.value for value in values],
        yerr=bars,
        label=name,
        color=colour,
        marker=marker,
        linestyle=dashes,
        elinewidth=0.9,
        markersize=4,
    )
