"""All settings that a search tried, cost against loss."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vidprune.benchmarking.plot_axes import INK, panels_of, style
from vidprune.benchmarking.plot_lines import look_of
from vidprune.report import hardware
from vidprune.tuning.record import Tuning
from vidprune.tuning.search import Tried

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LEAST = 1e-5


def draw_tuning(found: Tuning, stem: Path) -> list[Path]:
    """Leave the settings of a record beside `stem`, as SVG and as PNG, and say where.

    Each is a point, hollow where it was given up after a part of the videos; a line joins those
    that no other beats in both; a ring stands around what was found. Raises RuntimeError where
    matplotlib is not installed.
    """
    with style():
        from matplotlib.ticker import LogLocator

        figure, panels = panels_of(1, 1)
        axes = panels[0][0]
        for number, method in enumerate(found.methods):
            _draw_method(
                axes, [each for each in found.tried if _is_of(each, method)], method, number
            )
        whole = [each for each in (*found.tried, *found.others) if each.whole]
        axes.plot(*_places(pareto(whole)), color=INK, linewidth=0.7, zorder=1)
        if found.others:
            axes.plot(
                *_places(found.others),
                marker=".",
                color=INK,
                linestyle="none",
                label="the best setting, at other costs",
            )
        if found.found is not None:
            axes.plot(
                *_places([found.found]),
                marker="o",
                markersize=13,
                markerfacecolor="none",
                color=INK,
                linestyle="none",
                label="found, by content" if found.fixed else "found",
            )
        axes.set_yscale("log", subs=())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.invert_xaxis()
        axes.set_xlabel("dense arithmetic of a view, %")
        axes.set_ylabel("KL to dense, nats")
        said = f"{found.checkpoint}: {found.target}, {found.searched} videos\n"
        figure.suptitle(said + hardware(found.environment), fontsize=9, x=0.01, ha="left")
        figure.legend(loc="outside lower left", ncols=3, frameon=False)
        paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png")]
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=200, metadata=metadata, facecolor="white")
    return paths


def _draw_method(axes: "Axes", tried: Sequence[Tried], method: str, number: int) -> None:
    """Those tried on all videos, and hollow those that were given up before."""
    name = method.partition(":")[0]
    colour, _, _ = look_of(name, 0)
    for whole in (True, False):
        points = [each for each in tried if each.whole is whole]
        axes.plot(
            *_places(points),
            linestyle="none",
            marker=_MARKERS[number % len(_MARKERS)],
            color=colour,
            markerfacecolor=colour if whole else "white",
            label=method if whole else None,
        )


def _places(tried: Sequence[Tried]) -> tuple[list[float], list[float]]:
    """Where they stand; a logarithm knows no 0."""
    shares = [100 * each.costs.share for each in tried]
    return shares, [max(each.losses.kl_nats.value, _LEAST) for each in tried]


def pareto(tried: Sequence[Tried]) -> list[Tried]:
    """Those that no other beats in cost and in KL, the dearest first."""
    front: list[Tried] = []
    for each in sorted(tried, key=lambda each: (each.costs.share, each.losses.kl_nats.value)):
        if not front or each.losses.kl_nats.value < front[-1].losses.kl_nats.value:
            front.append(each)
    return front[::-1]


def _is_of(tried: Tried, method: str) -> bool:
    """Whether a setting is of a method: by its name, and whether it folds."""
    name, _, options = tried.reducer.partition(":")
    wanted, _, more = method.partition(":")
    given = options.split(",")
    return (
        name == wanted
        and all(each in given for each in more.split(",") if each)
        and (("fold=true" in given) == ("fold=true" in more))
    )
