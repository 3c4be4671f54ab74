"""A full disk in one sentence, whichever library ran into it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from vidprune.disk import FULL


class DiskFull(RuntimeError):
    """What is to be written has no place any more."""


@contextmanager
def told_when_full(output: Path) -> Iterator[None]:
    """Raise DiskFull in the place of whatever is raised where a disk is full."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not _is_full(error):
            raise
        reason = " ".join(str(error).split())
        raise DiskFull(
            f"output {output}: the disk is full ({reason}); free some and give the same command "
            "again"
        ) from error


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL
    words = str(error)
    if isinstance(error, SafetensorError):
        return any(f"(os error {number})" in words for number in FULL)
    # torch's writer keeps the system's reason to itself: it only finds less written than it wrote.
    return "inline_container" in words and ("unexpected pos" in words or "Writer" in words)
