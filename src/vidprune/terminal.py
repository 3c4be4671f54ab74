"""What people see in a terminal: tables and a progress bar."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE
from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column, Table
from rich.text import Text

from vidprune.benchmarking.report import Benchmark
from vidprune.benchmarking.table import NEAR, NOTES, tables
from vidprune.insight.summary import Summary
from vidprune.intervals import Interval
from vidprune.macs import Costs
from vidprune.metrics import Nearness
from vidprune.report import (
    Agreement,
    ComparedRun,
    Comparison,
    Demo,
    Prediction,
    Progress,
    Report,
    hardware,
)
from vidprune.tradeoff import TradeOff
from vidprune.training.record import Training

_WIDE = 120
_IMPLIED = ("efficiency", "p50, ms", "memory, MiB", "over bound")


def prediction_table(predictions: Iterable[Prediction]) -> Table:
    """Videos with their classes, likeliest first."""
    # Folded where they are long: of a name that is cut nobody knows which it was.
    table = Table(Column("video", overflow="fold"), Column("class", overflow="fold"), "probability")
    for prediction in predictions:
        # As Text, in which neither markup nor :emoji: in a name means anything.
        video = Text(shown(prediction.video))
        if prediction.error is not None:
            table.add_row(video, Text(prediction.error, style="red"), "")
        for place, guess in enumerate(prediction.top):
            name = Text(shown(guess.name))
            table.add_row("" if place else video, name, f"{guess.probability:.3f}")
        table.add_section()
    return table


def report_table(report: Report) -> Table:
    """An evaluation in a few lines."""
    table = Table("", Column(overflow="fold"), show_header=False)
    rate = report.videos_per_second
    for name, value in (
        ("model", report.checkpoint),
        ("reducer", report.reducer),
        ("top-1", _per_cent(report.top1)),
        ("top-5", _per_cent(report.top5)),
        ("videos", f"{report.num_videos}, {report.views_per_video} views each"),
        ("unreadable", str(len(report.unreadable))),
        ("GMACs per view", f"{report.gmacs_per_view:.2f}"),
        ("videos per second", "all were done before" if rate is None else f"{rate:.2f}"),
    ):
        table.add_row(name, Text(value))
    return table


def training_table(found: Training) -> Table:
    """A training run in a few lines, and the finished model's accuracy with each reducer."""
    table = Table("", Column(overflow="fold"), show_header=False)
    seconds = found.epoch_seconds
    for name, value in (
        ("trained from", found.checkpoint),
        ("with", found.recipe["reducer"]),
        ("videos", f"{found.num_videos}, {len(found.unreadable)} of them unreadable"),
        ("seconds per epoch", f"{sum(seconds) / len(seconds):.1f}" if seconds else "all were done"),
        ("peak memory", f"{found.peak_memory_gib:.2f} GiB"),
        *((f"top-1 with {each.reducer}", _per_cent(each.top1)) for each in found.evaluations),
    ):
        table.add_row(name, Text(value))
    return table


_INTERVALS = "Second lines: 95 % intervals over videos."


def comparison_table(found: Comparison) -> Group:
    """Which runs they are, then each against the first; intervals stand on second lines."""
    left_out = f", {len(found.left_out)} unreadable left out" if found.left_out else ""
    table = Table(
        *_right("", "top-1", "change\n(McNemar p)", "same\nclass", "KL", "rank\ncorr."),
        *_right("GMACs of\na video"),
        box=SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=f"{found.num_videos} videos, {found.num_classes} classes{left_out}",
        caption="Against the first run; change in points of top-1, McNemar's test exact, KL in "
        f"nats, rank correlation over the classes. {_INTERVALS}",
    )
    for number, run in enumerate(found.runs, start=1):
        table.add_row(
            str(number),
            f"{run.top1:.1f} %",
            _change(run),
            *_near(run.nearness),
            f"{run.gmacs_per_video:.2f}\n{run.views_per_video} x {run.gmacs_per_view:.4g}",
        )
        table.add_section()
    return Group(_runs_table(found.runs), "", table)


def tradeoff_table(found: TradeOff) -> Group:
    """Each method at each cost, against the dense model and against random pruning."""
    table = Table(
        *_right("", "cost", "top-1", "change", "over\nrandom", "same\nclass", "KL"),
        box=SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=f"{found.num_videos} videos, {found.num_classes} classes",
        caption="Cost: share of the dense arithmetic of a video. Change and over random: points of "
        f"top-1, the same videos. {_INTERVALS}",
    )
    for point in found.points:
        changes = [
            "" if change is None else _interval(change.points, "+.1f")
            for change in (point.change, point.over_random)
        ]
        near = ["", ""] if point.nearness is None else _near(point.nearness)[:2]
        table.add_row(
            Text(f"{point.method}\n{point.setting}"),
            f"{point.share:.0%}",
            _interval(point.top1, ".1f"),
            *changes,
            *near,
        )
        table.add_section()
    missing = [Text(f"out of reach: {each}") for each in found.out_of_reach]
    return Group(table, *missing)


def _runs_table(runs: Iterable[ComparedRun]) -> Table:
    """The numbers that runs have in a comparison; names may be long, and have the width."""
    names = (Column(name, overflow="fold") for name in ("run", "model", "reducer"))
    table = Table("", *names, "dtype", box=SIMPLE, pad_edge=False)
    for number, run in enumerate(runs, start=1):
        named = (Text(shown(name)) for name in (run.run, run.checkpoint, run.reducer))
        table.add_row(str(number), *named, run.dtype)
    return table


def agreement_table(found: Agreement) -> Table:
    """Reducers under each other, how near each is to dense and what it saves."""
    dense = found.rows[0].gmacs_per_view
    views = "1 view" if found.views_per_video == 1 else f"{found.views_per_video} views"
    table = Table(
        Column("reducer", overflow="fold"),
        *_right("same class", "KL", "rank corr.", "GMACs"),
        box=SIMPLE,
        pad_edge=False,
        title=f"{found.num_videos} videos, {views} of each",
        caption="Against the dense model; KL in nats, rank correlation over the classes, GMACs of "
        f"a view. {_INTERVALS}",
    )
    for row in found.rows:
        table.add_row(
            Text(shown(row.reducer)),
            *_near(row.nearness),
            f"{row.gmacs_per_view:.2f}\n{100 * row.gmacs_per_view / dense:.0f} %",
        )
        table.add_section()
    return table


def _right(*names: str) -> list[Column]:
    # Wrapped between numbers where a terminal is narrow: one that is cut says something else.
    return [Column(name, justify="right", overflow="fold") for name in names]


def _change(run: ComparedRun) -> str:
    """Points of top-1 with McNemar's p, and their interval; nothing of the reference itself."""
    if run.change is None:
        return ""
    value, _, bounds = _interval(run.change.points, "+.1f").partition("\n")
    return f"{value} ({run.change.mcnemar_p:.2g})\n{bounds}"


def _near(found: Nearness | None) -> tuple[str, str, str]:
    """Agreement, divergence and rank correlation; nothing where there is nothing to be near to."""
    if found is None:
        return "", "", ""
    return (
        _interval(found.agreement, ".1f", " %"),
        _interval(found.kl_nats, ".3f"),
        _interval(found.rank_correlation, ".3f"),
    )


def _interval(found: Interval | None, form: str, unit: str = "") -> str:
    """The value, and on a second line its bounds, where it has any."""
    if found is None:
        return "-"
    value = f"{found.value:{form}}{unit}"
    if found.low is None or found.high is None:
        return value
    return f"{value}\n{found.low:{form}}, {found.high:{form}}"


_DEMO_COLUMNS = ("top-1", "change", "same", "KL to dense", "GMACs", "clips/s")


def demo_table(found: Demo) -> Table:
    """What pruning cost and saved, against the dense model in the first row."""
    dense = found.rows[0]
    table = Table(
        Column("reducer", no_wrap=True),
        *(Column(name, justify="right", no_wrap=True) for name in _DEMO_COLUMNS),
        box=SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=f"{found.num_clips} generated clips that the model has not seen",
        caption=f"{hardware(found.environment)}, {found.dtype}, batch {found.batch_size}; forward "
        "passes timed in turn. Same: the class that dense gives. KL: with its standard error.",
    )
    for row in found.rows:
        table.add_row(
            row.name(dense),
            f"{row.top1:.1f} %",
            f"{row.top1 - dense.top1:+.1f}" if row is not dense else "",
            f"{row.agreement:.1f} %" if row is not dense else "",
            f"{row.kl_to_dense:.3f}±{row.kl_standard_error:.3f}" if row is not dense else "",
            f"{row.gmacs_per_view:.2f}",
            f"{row.clips_per_second:.3g} ({row.clips_per_second / dense.clips_per_second:.2f}x)",
        )
    return table


def costs_table(found: Mapping[str, Costs]) -> Table:
    """What a view costs with each reducer, in 10^9 multiply-accumulates; of a model that attends
    in windows also whether gaps are closed or filled, since closed ones may not be possible."""
    figures = ("GMACs", "of dense", "linear", "attention", "selection")
    windowed = any(cost.gaps for cost in found.values())
    table = Table(
        Column("reducer", overflow="fold"),
        *(Column(name, justify="right", no_wrap=True) for name in figures),
        Column("tokens left", overflow="fold"),
        # As wide as its words, which no narrow terminal is to cut.
        *([Column("gaps", min_width=len("filled,"))] if windowed else []),
        box=SIMPLE,
    )
    for reducer, cost in found.items():
        parts = (cost.linear, cost.attention, cost.selection)
        table.add_row(
            reducer,
            f"{cost.gmacs_per_view:.2f}",
            f"{100 * cost.gmacs_per_view / cost.gmacs_dense:.1f} %",
            *(f"{part:.2f}" for part in parts),
            _few(cost.tokens),
            *([_alike(cost.gaps)] if windowed else []),
        )
    return table


def _few(tokens: Sequence[int]) -> str:
    """All of a few numbers, the ends of many."""
    shown = [str(count) for count in tokens]
    return ", ".join(shown if len(shown) <= 4 else (shown[0], "...", shown[-1]))


def _alike(gaps: Sequence[str]) -> str:
    """What all stages have in common, or else that of each."""
    return ", ".join(gaps if len(set(gaps)) > 1 else gaps[:1])


def summary_table(found: Summary) -> Table:
    """What each reducer leaves, and what that holds, after its last stage."""
    figures = ("GMACs", "ms", "same\nclass", "tokens\nleft", "GradNorm\nheld", "at\nrandom")
    table = Table(
        Column("reducer", overflow="fold"),
        *_right(*figures, "trajec-\ntory sum"),
        box=SIMPLE,
        title=f"{found.num_clips} clip{'s' if found.num_clips > 1 else ''}",
        caption="Of each clip one view; ms: of a forward of one clip here. GradNorm held: its "
        "share at the places that are left, beside what as many places at random hold; "
        "trajectory sum: after the last block. " + (_INTERVALS if found.num_clips > 1 else ""),
    )
    for row in found.rows:
        last = row.stages[-1] if row.stages else None
        table.add_row(
            Text(row.reducer),
            f"{row.gmacs_per_view:.2f}",
            f"{row.milliseconds:.0f}",
            "" if row is found.rows[0] else _interval(row.same_class, ".1f", " %"),
            "" if last is None else f"{last.tokens:.0f}",
            "" if last is None else _interval(last.gradnorm, ".1f", " %"),
            "" if last is None else f"{last.at_random:.1f} %",
            _interval(row.trajectory[-1], ".2f"),
        )
    return table


def benchmark_tables(found: Benchmark, *, width: int) -> Iterator[Table | Text]:
    """One table per group of runs that took turns, and at the end how to read them.

    Where `width` letters are too few for all columns, those that others imply are left out.
    """
    for text in tables(found):
        table = Table(title=Text(text.title, style="bold"), title_justify="left", box=SIMPLE)
        table.pad_edge = False
        shown = [n for n, h in enumerate(text.headings) if width >= _WIDE or h not in _IMPLIED]
        table.add_column(text.headings[0], min_width=16, overflow="fold")
        for number in shown[1:]:
            table.add_column(text.headings[number], justify="right", no_wrap=True)
        for line in text.lines:
            # Intervals go where they do not fit; how near speed-ups are needs theirs.
            short = [
                cell.partition(" (")[0] if width < _WIDE and heading in NEAR else cell
                for cell, heading in zip(line, text.headings, strict=True)
            ]
            table.add_row(*(Text(short[number]) for number in shown))
        yield table
    yield Text(NOTES, style="dim")


class ProgressBar:
    """A bar with the accuracy so far, for `evaluate` to report to."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task("", accuracy="", total=None)

    def __call__(self, progress: Progress) -> None:
        """Show where the evaluation is."""
        found = progress.accuracy
        said = f"top-1 {_per_cent(found.top1)}  top-5 {_per_cent(found.top5)}"
        if progress.unreadable:
            said += f"  {progress.unreadable} unreadable"
        # Not before: an evaluation that cannot begin says why, and shows no bar.
        self._bar.start()
        self._bar.update(self._task, completed=progress.done, total=progress.total, accuracy=said)

    def close(self) -> None:
        """Leave the bar as it is; one that was never shown stays unseen."""
        if self._bar.live.is_started:
            self._bar.stop()


@contextmanager
def progress_of(total: int, what: str, console: Console) -> Iterator[Callable[[int], None]]:
    """A bar over so many things; what it gives is told how many are done."""
    columns = (MofNCompleteColumn(), BarColumn(), TextColumn(what), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


def progress_columns() -> tuple[
    TextColumn | BarColumn | MofNCompleteColumn | TimeRemainingColumn, ...
]:
    """Videos done, accuracy so far, time left."""
    return (
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[accuracy]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )


def _per_cent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} %"


def shown(name: str) -> str:
    """A name without what would steer the terminal or break the line."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in name
    )
