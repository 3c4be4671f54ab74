"""Records that others left where a new one goes: kept beside it, never replaced."""

import json
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

__all__ = ["set_aside"]


def set_aside(
    record: Path, command: str, tell: Callable[[str], object] = lambda text: None
) -> None:
    """Keep a record, about to be written, that another command than `command` left there.

    It and what is called like it (curves.json, curves.svg) get the next free number (curves.1.json,
    curves.1.svg), and `tell` hears so. The same command's own is left to be replaced.
    """
    if not record.exists() or _command_in(record) == command:
        return
    alike = [path for path in record.parent.iterdir() if path.stem == record.stem]
    taken = {path.name for path in record.parent.iterdir()}
    number = next(n for n in count(1) if not {_numbered(path, n) for path in alike} & taken)
    for path in alike:
        os.replace(path, path.with_name(_numbered(path, number)))
    tell(f"the {record.name} that another command left there is {_numbered(record, number)} now")


def _numbered(path: Path, number: int) -> str:
    return f"{path.stem}.{number}{path.suffix}"


def _command_in(record: Path) -> object:
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return found.get("command") if isinstance(found, dict) else None
