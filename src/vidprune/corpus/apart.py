"""That a job does not write where it reads."""

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from vidprune.corpus.items import Item
from vidprune.corpus.stores import is_address, placed

__all__ = ["check_apart"]


def check_apart(output: str, inputs: Iterable[str], items: Iterable[Item]) -> None:
    """Raise ValueError where a job would write among its videos, or read what it has written.

    A folder of answers is a table, and its readers take whatever lies in it for a part of that; a
    pattern that also stands for the answers names another corpus the next time. An output below a
    folder of videos is neither: nothing there but videos and archives is looked for.
    """
    folder = placed(output).rstrip("/")
    below = tuple(f"{each}/" for each in {folder, _real(folder)})
    for item in items:
        if placed(item.address).startswith(below):
            raise ValueError(_said(output, f"{item.name} lies in it"))
    for given in inputs:
        place = placed(given)
        if place.rstrip("/") == folder or place.startswith(below):
            raise ValueError(_said(output, f"{given} is an input"))
        if any(_matches(name, place) for name in (folder, f"{folder}/part-00000000.parquet")):
            raise ValueError(_said(output, f"{given!r} will stand for it, too"))


def _real(path: str) -> str:
    return path if is_address(path) else os.path.realpath(path)


def _matches(path: str, pattern: str) -> bool:
    """Whether a pattern stands for a path; `**` stands for any depth."""
    if not any(mark in pattern for mark in "*?["):
        return False
    return PurePosixPath(path).match(pattern) or ("**" in pattern and fnmatchcase(path, pattern))


def _said(output: str, reason: str) -> str:
    return (
        f"output {output} is where the job reads: {reason}, and answers are a table that nothing "
        "else may lie in or be read with; name a folder of its own"
    )
