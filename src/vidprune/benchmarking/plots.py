"""A benchmark as figures: how near over the arithmetic that is left, and how fast."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from vidprune.benchmarking.plot_axes import (
    DECODING,
    INK,
    Group,
    Value,
    decades,
    dense_marker,
    draw_bound,
    draw_lines,
    ends,
    finish,
    name_axes,
    panels_of,
    style,
)
from vidprune.benchmarking.plot_lines import asked, contests, is_dense, views_of, without_r
from vidprune.benchmarking.report import Benchmark, BenchmarkRow
from vidprune.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Names of figures in the order in which they are drawn.
THROUGHPUT, AGREEMENT, END_TO_END = "throughput", "agreement", "end-to-end"

_IN_SIGHT = 1.5


def draw(found: Benchmark, folder: Path) -> list[Path]:
    """Leave the figures of a benchmark in `folder`, as SVG and as PNG, and say where.

    For each model and dtype: `throughput`, a panel for each batch size and mode; `agreement`, of
    how near predictions are to dense ones, and `end-to-end`, where videos were run. Where there
    are several, the file's name goes on with a number. What has no pruned or cheaper model to
    show is not drawn. Raises RuntimeError where matplotlib is not installed.
    """
    models = _models(found.rows)
    written: list[Path] = []
    with style():
        folder.mkdir(parents=True, exist_ok=True)
        for number, groups in enumerate(models, start=1):
            for name, figure in _figures(found, groups):
                stem = name if len(models) == 1 else f"{name}-{number}"
                written += _written(figure, folder / stem)
    return written


def _written(figure: "Figure", stem: Path) -> list[Path]:
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png")]
    for path in paths:
        # Of an SVG the date would be the only thing that differs.
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=200, metadata=metadata, facecolor="white")
    return paths


def _models(rows: Group) -> list[list[Group]]:
    """The contests of each model and dtype."""
    models: dict[object, list[Group]] = {}
    for group in contests(rows):
        first = group[0].setting
        key = (first.checkpoint, first.frames, first.size, first.dtype)
        models.setdefault(key, []).append(group)
    return list(models.values())


def _figures(found: Benchmark, groups: Sequence[Group]) -> "Iterator[tuple[str, Figure]]":
    if any(row.speed for group in groups for row in group[1:] if not is_dense(row, group[0])):
        yield THROUGHPUT, _throughput(found, groups)
    for group in groups:
        # These stand in one contest, or in all of them alike.
        if any(row.end_to_end for row in group):
            rows = [row for row in group if row.setting.mode == group[0].setting.mode]
            if any(row.nearness for row in rows):
                yield AGREEMENT, _agreement(found, rows)
            if len(rows) > 1:
                yield END_TO_END, _end_to_end(found, rows)


# --- the figures --------------------------------------------------------------------------------


def _throughput(found: Benchmark, groups: Sequence[Group]) -> "Figure":
    """Speed-up over the arithmetic left: batch sizes beside each other, modes under each other."""
    modes = list(dict.fromkeys(row.setting.mode for group in groups for row in group))
    several = len(modes) > 1
    figure, panels = panels_of(len(modes), len(groups))
    low, high = ends([value for group in groups for row in group if (value := _speed_up(row))])
    for mode, line_of_panels in zip(modes, panels, strict=True):
        for group, axes in zip(groups, line_of_panels, strict=True):
            rows = [row for row in group if row.setting.mode == mode]
            draw_lines(axes, rows, _speed_up, dense="dense in this mode" if several else "dense")
            draw_bound(axes, rows, group)
            axes.axhline(1, color=INK, linewidth=0.7)
            axes.set_title(_panel_title(group, mode if several else ""), loc="left")
            axes.set_ylim(min(0.9, low), high)
    name_axes(panels, groups[0], "speed-up over the best dense run", 1)
    bars = f"bars: quartiles over {found.repeats} repeats{_on_top(groups[0])}"
    finish(figure, found, groups[0][0], bars if several else f"{modes[0]}; {bars}")
    return figure


def _panel_title(group: Group, mode: str) -> str:
    """Batch size and mode, and what a speed-up of 1 is there."""
    dense = [row.speed for row in group if row.speed and is_dense(row, group[0])]
    best = max((speed.clips_per_second for speed in dense), default=None)
    said = f"batch {group[0].setting.batch_size}{', ' if mode else ''}{mode}"
    return said if best is None else f"{said}: dense at best {best:.3g} clips/s"


def _agreement(found: Benchmark, rows: Group) -> "Figure":
    """Agreement beside divergence, over the arithmetic of a video."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure, panels = panels_of(1, 2)
    same, moved = panels[0]
    draw_lines(same, rows, _same_class)
    same.plot([100], [100], **dense_marker("dense"))
    same.set_ylim(ends([value for row in rows if (value := _same_class(row))])[0], 101)
    draw_lines(moved, rows, _divergence)
    moved.set_yscale("log")
    moved.set_ylim(*decades([value for row in rows if (value := _divergence(row))]))
    moved.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    moved.yaxis.set_minor_formatter(NullFormatter())
    name_axes(panels, rows, "videos with the dense model's class, %", views_of(rows))
    moved.set_ylabel("KL divergence from dense, nats")
    bars = f"bars: 95 % over videos{_on_top(rows)}"
    finish(figure, found, rows[0], f"{_videos(found, rows)}; {bars}")
    return figure


def _end_to_end(found: Benchmark, rows: Group) -> "Figure":
    """Videos per second from files to logits, under what decoding alone would give."""
    figure, panels = panels_of(1, 1)
    axes = panels[0][0]
    draw_lines(axes, rows, _videos_per_second, dense="dense")
    top = ends([value for row in rows if (value := _videos_per_second(row))])[1]
    first, whole = rows[0].setting, rows[0].end_to_end
    said = [f"batch {first.batch_size}, {first.mode}", _videos(found, rows)]
    if whole is not None:
        rate = whole.decoding_videos_per_second
        said.append(f"decoding alone {rate:.3g} videos/s")
        # Where it is out of sight it bounds nothing, and would press the lines to the ground.
        if rate < _IN_SIGHT * top:
            axes.axhline(rate, color=INK, dashes=(2, 2), linewidth=1, label=DECODING)
            top = max(top, 1.05 * rate)
    axes.set_ylim(0, top)
    name_axes(panels, rows, "videos per second, from file to logits", views_of(rows))
    bars = f"bars: slowest and fastest pass{_on_top(rows)}"
    finish(figure, found, rows[0], "; ".join(said), bars)
    return figure


def _videos(found: Benchmark, rows: Group) -> str:
    count = views_of(rows)
    return f"{found.videos} videos, {count} {'view' if count == 1 else 'views'} of each"


def _on_top(rows: Group) -> str:
    """What the numbers above the panels are."""
    reducer = next((without_r(row.setting.reducer) for _, row in asked(rows)), None)
    return "" if reducer is None else f"; on top: r of {reducer}"


# --- what a row has on an axis ------------------------------------------------------------------


def _speed_up(row: BenchmarkRow) -> Value | None:
    speed = row.speed
    if speed is None or speed.speed_up is None:
        return None
    return Value(speed.speed_up, speed.speed_up_low, speed.speed_up_high)


def _same_class(row: BenchmarkRow) -> Value | None:
    return _estimate(row.nearness.agreement) if row.nearness else None


def _divergence(row: BenchmarkRow) -> Value | None:
    found = _estimate(row.nearness.kl_nats) if row.nearness else None
    # Logarithms have no place for what is exactly the dense model.
    return found if found and found.middle > 0 else None


def _estimate(found: Interval | None) -> Value | None:
    return None if found is None else Value(found.value, found.low, found.high)


def _videos_per_second(row: BenchmarkRow) -> Value | None:
    if (whole := row.end_to_end) is None:
        return None
    videos = whole.videos_per_second * median(whole.seconds)
    rates = [videos / seconds for seconds in whole.seconds]
    return Value(whole.videos_per_second, min(rates), max(rates))
