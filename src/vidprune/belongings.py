"""Whose an output folder is, by the files that lie in it."""

from pathlib import Path
from typing import Literal

__all__ = ["check_not_of"]

Kind = Literal["answers", "run"]
_FILES: dict[Kind, tuple[str, ...]] = {
    "answers": ("_job.json", "part-????????.parquet"),
    "run": ("run.json", "report.json", "views.parquet", "views.jsonl", "views.*.jsonl"),
}
_WHOSE: dict[Kind, str] = {
    "answers": "which predict or embed left",
    "run": "of a run such as evaluate's",
}


def check_not_of(kind: Kind, folder: Path) -> None:
    """Raise FileExistsError where a folder holds what commands of the other kind leave: answers
    are a table, whose readers take whatever lies in it for a part."""
    for name in _FILES[kind]:
        if found := next(folder.glob(name), None):
            raise FileExistsError(
                f"output {folder} holds {found.name}, {_WHOSE[kind]}, and answers in tables and "
                "runs do not share a folder; name another one"
            )
