"""A benchmark as tables: one per model, dtype and batch size, for a terminal or as Markdown."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from vidprune.benchmarking.report import Benchmark, BenchmarkRow, Speed
from vidprune.intervals import Interval
from vidprune.report import hardware

COLUMNS = (
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
NEAR = ("same class", "KL to dense")

NOTES = (
    "Speed-up: over the best dense run of the same model, dtype and batch, repeat by repeat, "
    "median and quartiles; "
    "efficiency: speed-up over the ratio of multiply-accumulates; over bound: time over what the "
    "dense times leave when linear layers and attention shrink by their arithmetic; memory: the "
    "most that is held beyond weights and input; ~ where the quartiles lie around 1."
)


def groups(found: Benchmark) -> Iterator[tuple[str, list[BenchmarkRow]]]:
    """Rows that were timed in turn, with a title; the dense model comes first in each."""
    for _, rows in groupby(found.rows, lambda row: row.contest):
        group = list(rows)
        first = group[0].setting
        clip = f"{first.frames}x{first.size}x{first.size}"
        title = f"{first.checkpoint}, {clip}, {first.dtype}, batch {first.batch_size}"
        yield title, group


def columns(rows: Sequence[BenchmarkRow]) -> tuple[str, ...]:
    """The headings of a group: nearness only where some row has it."""
    return COLUMNS + (NEAR if any(row.nearness for row in rows) else ())


def cells(row: BenchmarkRow, dense: BenchmarkRow, width: int) -> list[str]:
    """A row's text, as many cells as there are columns."""
    start = [name_of(row, dense), f"{row.gmacs_per_view:.2f}"]
    if row.speed is None:
        why = row.reason or ("as dense" if row.setting.views else "not run")
        return [*start, why, *[""] * (len(COLUMNS) - 3), *_near_cells(row)][:width]
    return [*start, *_speed_cells(row.speed), *_near_cells(row)][:width]


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


def _speed_cells(speed: Speed) -> list[str]:
    return [
        f"{speed.clips_per_second:.2f}",
        _speed_up(speed),
        _number(speed.efficiency, 2),
        f"{speed.latency_p50_ms:.1f}",
        f"{speed.latency_p95_ms:.1f}",
        _number(speed.peak_memory_mib, 0),
        "" if speed.selection_share is None else f"{100 * speed.selection_share:.1f} %",
        _number(speed.over_bound, 2),
    ]


def _speed_up(speed: Speed) -> str:
    if speed.speed_up is None:
        return ""
    quartiles = f"{speed.speed_up_low:.2f}-{speed.speed_up_high:.2f}"
    doubt = " ~" if speed.swallowed and speed.speed_up != 1 else ""
    return f"{speed.speed_up:.2f} ({quartiles}){doubt}"


def _near_cells(row: BenchmarkRow) -> list[str]:
    if row.nearness is None:
        return ["", ""]
    return [_interval(row.nearness.agreement, 1, " %"), _interval(row.nearness.kl_nats, 3, "")]


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
    parts = [f"### {title}\n\n{markdown_table(rows)}" for title, rows in groups(found)]
    return "\n".join([*parts, f"{taken_on(found)} {NOTES}", ""])


def markdown_table(rows: Sequence[BenchmarkRow]) -> str:
    """One group as a Markdown table, ended by a line break."""
    headings = columns(rows)
    lines = [headings, ("---", *["--:"] * (len(headings) - 1))]
    for row in rows:
        name, *figures = cells(row, rows[0], len(headings))
        lines.append((f"`{name}`", *figures))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def taken_on(found: Benchmark) -> str:
    """One sentence: hardware, versions, date, command."""
    ran = found.environment
    return (
        f"{hardware(ran)}, {ran['cpu_threads']} threads, torch {ran['torch']}, {found.date[:10]}, "
        f"{found.repeats} repeats in turn: `{found.command}`."
    )
