"""Tables of classes and accuracy."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from vidprune.intervals import METHOD_OVER_SOURCES
from vidprune.printable import shown
from vidprune.report import (
    Agreement,
    ComparedRun,
    Comparison,
    Prediction,
    Report,
    SettingShare,
)
from vidprune.reproduction import Reproduction
from vidprune.terminal.words import INTERVALS, interval, intervals_by, near, per_cent, right
from vidprune.tradeoff import Point, TradeOff
from vidprune.training.record import Training


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
        ("top-1", per_cent(report.top1)),
        ("top-5", per_cent(report.top5)),
        ("videos", f"{report.num_videos}, {report.views_per_video} views each"),
        ("unreadable", str(len(report.unreadable))),
        ("GMACs per view", f"{report.gmacs_per_view:.2f}"),
        *_shares(report.settings),
        ("videos per second", "all were done before" if rate is None else f"{rate:.2f}"),
    ):
        table.add_row(name, Text(value))
    return table


def _shares(settings: Sequence[SettingShare]) -> list[tuple[str, str]]:
    """A row for each setting of a budget by content."""
    views = sum(each.views for each in settings)
    return [
        (
            f"of {each.gmacs_per_view:.2f}",
            f"{100 * each.views / max(views, 1):.1f} % of views: {each.reducer}",
        )
        for each in settings
    ]


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
        *((f"top-1 with {each.reducer}", per_cent(each.top1)) for each in found.evaluations),
    ):
        table.add_row(name, Text(value))
    return table


def comparison_table(found: Comparison) -> Group:
    """Which runs they are, then each against the first; intervals stand on second lines."""
    left_out = f", {len(found.left_out)} unreadable left out" if found.left_out else ""
    table = Table(
        *right("", "top-1", "change\n(p)", "same\nclass", "KL", "rank\ncorr."),
        *right("GMACs of\na video"),
        box=SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=f"{found.num_videos} videos, {found.num_classes} classes{left_out}",
        caption=f"Against the first run; change in points of top-1, p {_test_of(found)}, KL in "
        f"nats, rank correlation over the classes. {intervals_by(found.intervals)}",
    )
    for number, run in enumerate(found.runs, start=1):
        table.add_row(
            str(number),
            f"{run.top1:.1f} %",
            _change(run),
            *near(run.nearness),
            f"{run.gmacs_per_video:.2f}\n{run.views_per_video} x {run.gmacs_per_view:.4g}",
        )
        table.add_section()
    return Group(_runs_table(found.runs), "", table)


def _test_of(found: Comparison) -> str:
    by_sources = found.intervals == METHOD_OVER_SOURCES
    return "by flipping the signs of sources" if by_sources else "by McNemar's exact test"


def tradeoff_table(found: TradeOff) -> Group:
    """Each method at each cost, against the dense model, random pruning, and what was asked for."""
    asked = any(point.against for point in found.points)
    paired = ("over\nasked", "KL over\nasked") if asked else ()
    table = Table(
        *right("", "cost", "top-1", "change", "over\nrandom", "same\nclass", "KL", *paired),
        box=SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=f"{found.num_videos} videos, {found.num_classes} classes",
        caption="Cost: share of the dense arithmetic of a video. Change and over: points of "
        f"top-1, the same videos. {intervals_by(found.intervals)}",
    )
    for point in found.points:
        changes = [
            "" if change is None else interval(change.points, "+.1f")
            for change in (point.change, point.over_random)
        ]
        table.add_row(
            Text(f"{point.method}\n{point.setting}"),
            f"{point.share:.0%}",
            interval(point.top1, ".1f"),
            *changes,
            *near(point.nearness)[:2],
            *(_against(point) if asked else ()),
        )
        table.add_section()
    missing = [Text(f"out of reach: {each}") for each in found.out_of_reach]
    return Group(table, *missing)


def _against(point: Point) -> tuple[str, str]:
    """Points of top-1 and nats over the method that was asked for."""
    points, nats = point.against_points, point.against_kl_nats
    return (
        "" if points is None else interval(points, "+.1f"),
        "" if nats is None else interval(nats, "+.3f"),
    )


def _runs_table(runs: Iterable[ComparedRun]) -> Table:
    """The numbers that runs have in a comparison; names may be long, and have the width."""
    names = (Column(name, overflow="fold") for name in ("run", "model", "reducer"))
    table = Table("", *names, "dtype", box=SIMPLE, pad_edge=False)
    for number, run in enumerate(runs, start=1):
        named = (Text(shown(name)) for name in (run.run, run.checkpoint, run.reducer))
        table.add_row(str(number), *named, run.dtype)
    return table


def reproduction_table(found: Reproduction) -> Group:
    """The paper's figures over ours, row by row, and whether they are alike."""
    table = Table(
        Column("", overflow="fold", ratio=1, min_width=16),
        "",
        *right("top-1", "change", "GMACs"),
        Column("", min_width=len("GMACs differs")),
        box=SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        expand=True,
        title=f"{found.table} of Ding et al., ICCV 2023",
        caption="Change: points of top-1 against the unpruned model of the same table or run, on "
        "the same videos, with its 95 % interval. open: too few videos to say.",
    )
    for row in found.rows:
        what = " ".join(filter(None, (row.needs, row.views, row.setting)))
        verdicts = (("change", row.verdict), ("GMACs", row.gmacs_verdict))
        table.add_row(
            Text(f"{what}\n{row.reducer}"),
            "paper\nours",
            f"{row.told_top1:.2f}\n{row.top1.value:.2f}",
            ""
            if row.change is None
            else f"{row.told_change:+.2f}\n{interval(row.change.points, '+.2f')}",
            f"{'-' if row.told_gmacs is None else f'{row.told_gmacs:g}'}\n{row.gmacs:.1f}",
            "\n".join(f"{name} {verdict}" for name, verdict in verdicts if verdict),
        )
        table.add_section()
    unjudged = dict.fromkeys(
        f"not judged: {row.not_judged}" for row in found.rows if row.not_judged
    )
    missing = (f"not given: {each}" for each in found.missing)
    return Group(table, *(Text(line) for line in (*unjudged, *missing)))


def agreement_table(found: Agreement) -> Table:
    """Reducers under each other, how near each is to dense and what it saves."""
    dense = found.rows[0].gmacs_per_view
    views = "1 view" if found.views_per_video == 1 else f"{found.views_per_video} views"
    table = Table(
        Column("reducer", overflow="fold"),
        *right("same class", "KL", "rank corr.", "GMACs"),
        box=SIMPLE,
        pad_edge=False,
        title=f"{found.num_videos} videos, {views} of each",
        caption="Against the dense model; KL in nats, rank correlation over the classes, GMACs of "
        f"a view. {INTERVALS}",
    )
    for row in found.rows:
        table.add_row(
            Text(shown(row.reducer)),
            *near(row.nearness),
            f"{row.gmacs_per_view:.2f}\n{100 * row.gmacs_per_view / dense:.0f} %",
        )
        table.add_section()
    return table


def _change(run: ComparedRun) -> str:
    """Points of top-1 with McNemar's p, and their interval; nothing of the reference itself."""
    if run.change is None:
        return ""
    value, _, bounds = interval(run.change.points, "+.1f").partition("\n")
    return f"{value} ({run.change.p_value:.2g})\n{bounds}"
