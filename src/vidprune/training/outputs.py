"""Whose the output folder of `train` is: where it may lie, and what a restart may take away."""

import os
import shutil
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from vidprune.parallel import Process
from vidprune.runs import RunFolder

MODEL, RECORD, LOG, EVALUATIONS = "model", "train.json", "log.jsonl", "evaluations"
TENSORBOARD, CHECKPOINTS = "tensorboard", "checkpoint-*"
_SETTINGS = "run.json"
# In the order in which a restart takes them: without its record a run is no longer finished, and
# what is left of it when a restart is cut off is still accounted for by its settings.
_FOLDERS = (CHECKPOINTS, MODEL, EVALUATIONS, TENSORBOARD)
_OWN = (RECORD, LOG, *_FOLDERS)
# By what their settings hold, the runs that are told apart.
_RUNS = {
    "train": {"trained from", "videos"},
    "evaluate": {"checkpoint", "model", "reducer", "dtype", "videos"},
}


def check_beside(output: Path, folders: Path) -> None:
    """Raise ValueError for an output that is a folder of class folders, lies in it or holds it:
    what a run writes there would be a class, and a class may be called `model`."""
    data = located(folders)
    for place in (located(output), Path(os.path.abspath(output))):
        for relation, true in (
            ("is", place == data),
            ("lies within", place.is_relative_to(data)),
            ("holds", data.is_relative_to(place)),
        ):
            if true:
                raise ValueError(
                    f"output={str(output)!r} {relation} {folders}, a folder of class folders, and "
                    "what a run writes and --restart deletes must not get among them; name a "
                    "folder outside"
                )


def check_spared(output: Path, paths: Iterable[Path]) -> None:
    """Raise ValueError where one of the paths that a run begins with lies in a folder that it
    writes, and that --restart deletes."""
    own = located(output)
    for path in paths:
        place = located(path)
        name = place.relative_to(own).parts[0] if own in place.parents else ""
        if any(fnmatch(name, each) for each in _FOLDERS):
            raise ValueError(
                f"output={str(output)!r}: a run writes {name}/ there, and --restart deletes it, "
                f"but it begins with {path}, which lies in it; name another folder"
            )


def located(path: Path) -> Path:
    """Where a path leads; one that no file can have is left as it is, to be unreadable later."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return path.absolute()


def claim_for_training(
    output: Path, process: Process, settings: Mapping[str, Any], *, restart: bool
) -> None:
    """Make a folder this run's, or find it again; `restart` forgets what was done.

    Raises FileExistsError where it belongs to another run, and where it holds what no run of ours
    accounts for under the names that `train` uses, which nothing here deletes or writes over.
    """
    earlier = None
    if process.reports and output.is_dir():
        earlier = _run_in(output)
        if earlier != "train":
            _check_free(output, earlier, restart)
        elif restart:
            _discard(output)
    RunFolder(output, process).claim(settings, restart=restart and earlier == "evaluate")


def _run_in(output: Path) -> str | None:
    """Which verb's run a folder holds; None where that is not known, or there is none."""
    settings = RunFolder(output, Process()).settings() or {}
    return next((verb for verb, names in _RUNS.items() if names <= settings.keys()), None)


def _check_free(output: Path, earlier: str | None, restart: bool) -> None:
    if earlier is not None and not restart:
        raise FileExistsError(
            f"output {output} holds a run of {earlier}; choose another folder, or restart "
            "(--restart) to discard it"
        )
    known = _OWN if earlier else (_SETTINGS, *_OWN)
    if strangers := [path.name for name in known for path in sorted(output.glob(name))]:
        raise FileExistsError(
            f"output {output} holds {strangers[0]}, which is of no run of train; choose another "
            "folder, or take it away yourself"
        )


def _discard(output: Path) -> None:
    for path in [path for name in (*_OWN, _SETTINGS) for path in output.glob(name)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
