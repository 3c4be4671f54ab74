"""What people see in a terminal: tables and a progress bar."""

from collections.abc import Iterable

from rich.box import SIMPLE
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column, Table
from rich.text import Text

from vidprune.report import Demo, Prediction, Progress, Report, hardware


def prediction_table(predictions: Iterable[Prediction]) -> Table:
    """Videos with their classes, likeliest first."""
    # Folded where they are long: of a name that is cut nobody knows which it was.
    table = Table(Column("video", overflow="fold"), Column("class", overflow="fold"), "probability")
    for prediction in predictions:
        # As Text, in which neither markup nor :emoji: in a name means anything.
        video = Text(_shown(prediction.video))
        if prediction.error is not None:
            table.add_row(video, Text(prediction.error, style="red"), "")
        for place, guess in enumerate(prediction.top):
            name = Text(_shown(guess.name))
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


_DEMO_COLUMNS = ("top-1", "change", "same", "KL to dense", "GMACs", "clips/s")


def demo_table(found: Demo) -> Table:
    """What pruning cost and saved, against the dense model in the first row."""
    dense = found.rows[0]
    table = Table(
        Column("reducer", no_wrap=True),
        *(Column(name, justify="right", no_wrap=True) for name in _DEMO_COLUMNS),
        box=SIMPLE,
        pad_edge=False,
        title=f"{found.num_clips} generated clips that the model has not seen",
        caption=f"{hardware(found.environment)}, {found.dtype}, batch {found.batch_size}; forward "
        "passes timed in turn. Same: the class that dense gives. KL: with its standard error.",
    )
    for row in found.rows:
        table.add_row(
            row.reducer,
            f"{row.top1:.1f} %",
            f"{row.top1 - dense.top1:+.1f}" if row is not dense else "",
            f"{row.agreement:.1f} %" if row is not dense else "",
            f"{row.kl_to_dense:.3f}±{row.kl_standard_error:.3f}" if row is not dense else "",
            f"{row.gmacs_per_view:.2f}",
            f"{row.clips_per_second:.1f} ({row.clips_per_second / dense.clips_per_second:.2f}x)",
        )
    return table


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


def _shown(name: str) -> str:
    """A name without what would steer the terminal or break the line."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in name
    )
