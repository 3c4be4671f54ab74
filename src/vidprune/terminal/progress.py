"""Bars that say how far a command is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from vidprune.report import Progress
from vidprune.terminal.words import per_cent


class ProgressBar:
    """A bar with the accuracy so far, for `evaluate` to report to."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task("", accuracy="", total=None)

    def __call__(self, progress: Progress) -> None:
        """Show where the evaluation is."""
        found = progress.accuracy
        said = f"top-1 {per_cent(found.top1)}  top-5 {per_cent(found.top5)}"
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
