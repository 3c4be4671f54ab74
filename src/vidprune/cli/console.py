"""Where words for people go."""

import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from vidprune.printable import shown

if TYPE_CHECKING:
    from rich.console import Console


def open_console(*, stderr: bool = False) -> "Console":
    """Where tables go, or progress."""
    from rich.console import Console

    return Console(stderr=stderr)


def name_unreadable(videos: Iterable[Mapping[str, str]]) -> None:
    """Say on stderr which videos could not be read, a line each whatever their names hold."""
    for video in videos:
        print(f"unreadable: {shown(video['path'])}: {shown(video['reason'])}", file=sys.stderr)


def observers_of_evaluations(stack: ExitStack) -> dict[str, Any]:
    """What says on stderr which evaluation runs, and how far it is."""
    from rich.progress import Progress as Bar

    from vidprune.terminal import ProgressBar, progress_columns

    console = open_console(stderr=True)
    bar = stack.enter_context(closing(ProgressBar(Bar(*progress_columns(), console=console))))
    return {"tell": lambda text: console.print(shown(text), markup=False), "observe": bar}
