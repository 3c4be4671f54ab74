"""Where words for people go."""

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def open_console(*, stderr: bool = False) -> "Console":
    """Where tables go, or progress."""
    from rich.console import Console

    return Console(stderr=stderr)


def name_unreadable(videos: Iterable[Mapping[str, str]]) -> None:
    """Say on stderr which videos could not be read, a line each whatever their names hold."""
    from vidprune.terminal import shown

    for video in videos:
        print(f"unreadable: {shown(video['path'])}: {shown(video['reason'])}", file=sys.stderr)
