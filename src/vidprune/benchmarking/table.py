"""A benchmark as tables: one per model, dtype and batch size, for a terminal or as Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from vidprune.benchmarking.report import Benchmark, BenchmarkRow, Speed
from vidprune.intervals import Interval
from vidprune.report import hardware

_ENOUGH_FOR_P95 = 20
SPEED = (
    "reducer",
    "GMACs",
    "clips/s",
    "speed-up",
    "efficiency",
    "p50, ms",
    "p95, ms",
    "memory, MiB",
    "selection",
    "over bound",
)
NEAR = ("same class", "KL")
VIDEOS = ("reducer", "GMACs/video", "videos/s", "bound by", *NEAR)

NOTES = (
    "Speed-up: over the best dense run of the same model, dtype and batch, repeat by repeat, "
    "median and quartiles; efficiency: speed-up over the ratio of multiply-accumulates; over "
    "bound: time over what the dense times leave when linear layers and attention shrink by their "
    "arithmetic; memory: the most that is held beyond weights and input; same class, KL: against "
    "the dense predictions; ~ where the quartiles lie around 1."
)


@dataclass(frozen=True)
class TextTable:
    """Headings and lines of as many cells; the first cell names the row, the others are figures."""

    title: str
    headings: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table as Markdown, ended by a line break, without its title."""
        rule = ("---", *["--:"] * (len(self.headings) - 1))
        lines = [(f"`{name}`", *figures) for name, *figures in self.lines]
        return "\n".join(f"| {' | '.join(line)} |" for line in (self.headings, rule, *lines)) + "\n"


def tables(found: Benchmark) -> Iterator[TextTable]:
    """For each group of rows that were timed in turn its speeds, and what videos showed."""
    for _, rows in groupby(found.rows, lambda row: row.contest):
        group = list(rows)
        yield speed_table(group)
        if any(row.end_to_end for row in group):
            yield video_table(group)


def speed_table(rows: Sequence[BenchmarkRow]) -> TextTable:
    """The speeds of a group, whose dense model comes first; fewer views have none of their own."""
    dense = rows[0]
    lines = [
        (name_of(row, dense), f"{row.gmacs_per_view:.2f}", *_speed_cells(row))
        for row in rows
        if not row.setting.views
    ]
    # Such as that of the 95th percentile, where there are few repeats.
    told = [number for number in range(len(SPEED)) if any(line[number] for line in lines)]
    return TextTable(
        _title(dense),
        tuple(SPEED[number] for number in told),
        tuple(tuple(line[number] for number in told) for line in lines),
    )


def video_table(rows: Sequence[BenchmarkRow]) -> TextTable:
    """From files to predictions, of the rows of a group that went over the videos."""
    dense = rows[0]
    lines = [
        (
            name_of(row, dense),
            _number(row.gmacs_per_video, 2),
            f"{row.end_to_end.videos_per_second:.2f}",
            row.end_to_end.bound_by,
            *_near_cells(row),
        )
        for row in rows
        if row.end_to_end
    ]
    return TextTable(f"{_title(dense)}, from files to predictions", VIDEOS, tuple(lines))


def _title(dense: BenchmarkRow) -> str:
    own = dense.setting
    clip = f"{own.frames}x{own.size}x{own.size}"
    return f"{own.checkpoint}, {clip}, {own.dtype}, batch {own.batch_size}"


def name_of(row: BenchmarkRow, dense: BenchmarkRow) -> str:
    """The reducer, or in what a dense row differs from the dense model; and the mode."""
    own, whole = row.setting, dense.setting
    said = [
        *([own.checkpoint] if own.checkpoint != whole.checkpoint else []),
        *([f"{own.frames} frames"] if own.frames != whole.frames else []),
        *([f"{own.size} pixels"] if own.size != whole.size else []),
        *([f"{own.views} of {_views(dense)} views"] if own.views else []),
        *([own.mode] if own.mode != "eager" else []),
    ]
    return f"{own.reducer} ({', '.join(said)})" if said else own.reducer


def _views(dense: BenchmarkRow) -> int | str:
    return dense.end_to_end.views_per_video if dense.end_to_end else "all"


def _speed_cells(row: BenchmarkRow) -> tuple[str, ...]:
    speed = row.speed
    if speed is None:
        return (row.reason or "not run", *[""] * (len(SPEED) - 3))
    return (
        f"{speed.clips_per_second:.2f}",
        _speed_up(speed),
        _number(speed.efficiency, 2),
        f"{speed.latency_p50_ms:.1f}",
        # Of few repeats a 95th percentile is no more than the slowest of them.
        f"{speed.latency_p95_ms:.1f}" if len(speed.latencies_ms) >= _ENOUGH_FOR_P95 else "",
        _number(speed.peak_memory_mib, 0),
        "" if speed.selection_share is None else f"{100 * speed.selection_share:.1f} %",
        _number(speed.over_bound, 2),
    )


def _speed_up(speed: Speed) -> str:
    if speed.speed_up is None:
        return ""
    quartiles = f"{speed.speed_up_low:.2f}-{speed.speed_up_high:.2f}"
    doubt = " ~" if speed.swallowed and speed.speed_up != 1 else ""
    return f"{speed.speed_up:.2f} ({quartiles}){doubt}"


def _near_cells(row: BenchmarkRow) -> tuple[str, str]:
    if row.nearness is None:
        return "", ""
    return _interval(row.nearness.agreement, 1, " %"), _interval(row.nearness.kl_nats, 3, "")


def _interval(interval: Interval | None, digits: int, unit: str) -> str:
    if interval is None:
        return ""
    value = f"{interval.value:.{digits}f}{unit}"
    if interval.low is None or interval.high is None:
        return value
    return f"{value} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def markdown(found: Benchmark) -> str:
    """All groups as Markdown, with what they were taken on."""
    parts = [f"### {table.title}\n\n{table.markdown()}" for table in tables(found)]
    return "\n".join([*parts, f"{taken_on(found)} {NOTES}", ""])


def taken_on(found: Benchmark) -> str:
    """One sentence: hardware, versions, date, command."""
    ran = found.environment
    return (
        f"{hardware(ran)}, {ran['cpu_threads']} threads, torch {ran['torch']}, {found.date[:10]}, "
        f"{found.repeats} repeats in turn: `{found.command}`."
    )
