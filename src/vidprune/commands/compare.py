"""What pruning did to accuracy: runs of `evaluate` on the same videos, paired video by video."""

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidprune.intervals import METHOD, METHOD_OVER_SOURCES, difference_interval, mcnemar
from vidprune.metrics import mean_probabilities, nearness, top_class
from vidprune.parallel import Process
from vidprune.report import Change, ComparedRun, Comparison, hardware
from vidprune.runs import RunFolder
from vidprune.sources import sign_flip_p, sources_of

# What a row says of a run, by the names that report.json has for it.
_SAID = ("checkpoint", "reducer", "dtype", "protocol", "gmacs_per_view", "views_per_video")
_NEEDED = {*_SAID, "num_videos", "unreadable", "environment", "command"}


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its report, and the label and probabilities (classes,) of every video."""

    path: Path
    report: dict[str, Any]
    labels: dict[str, int]
    probabilities: dict[str, Tensor]

    @property
    def unreadable(self) -> list[str]:
        """The videos that it could not read."""
        return [video["path"] for video in self.report["unreadable"]]

    @property
    def num_classes(self) -> int | None:
        """The classes of its head; None where it could read no video."""
        return next((len(scores) for scores in self.probabilities.values()), None)


def compare(paths: Sequence[Path], *, source: str | None = None, command: str = "") -> Comparison:
    """Compare the runs in these folders, which `evaluate` wrote, with the first of them.

    They may differ in model, reducer, precision and views. Videos that one of them could not read
    are left out of all. `source`, a regular expression, finds in a video's name which videos are of
    one source; intervals are then over sources.

    Raises FileNotFoundError or ValueError for what is no finished run, and ValueError where videos,
    labels or classes are not the same, or no video is left.
    """
    runs = [read_run(path) for path in paths]
    for run in runs[1:]:
        _check_same_data(runs[0], run)
    videos = [name for name in runs[0].labels if all(name in run.labels for run in runs)]
    if not videos:
        raise ValueError(
            f"the runs {', '.join(map(str, paths))} share no video that all of them could read; "
            "see what their reports name as unreadable"
        )
    rows = _rows(runs, videos, None if source is None else sources_of(videos, source))
    return Comparison(
        runs=tuple(rows),
        num_videos=len(videos),
        num_classes=len(runs[0].probabilities[videos[0]]),
        left_out=tuple(dict.fromkeys(name for run in runs for name in run.unreadable)),
        command=command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        intervals=METHOD if source is None else METHOD_OVER_SOURCES,
    )


def _rows(runs: Sequence[Run], videos: Sequence[str], sources: Tensor | None) -> list[ComparedRun]:
    labels = torch.tensor([runs[0].labels[name] for name in videos])
    reference = torch.stack([runs[0].probabilities[name] for name in videos])
    rows = [_row(runs[0], labels, reference, None, None)]
    for run in runs[1:]:
        predicted = torch.stack([run.probabilities[name] for name in videos])
        rows.append(_row(run, labels, predicted, reference, sources))
    return rows


def _row(
    run: Run,
    labels: Tensor,
    predicted: Tensor,
    reference: Tensor | None,
    sources: Tensor | None,
) -> ComparedRun:
    hits = top_class(predicted) == labels
    said = {name: run.report[name] for name in _SAID}
    return ComparedRun(
        **said,
        run=str(run.path),
        top1=100 * hits.double().mean().item(),
        not_finite=int((~predicted.isfinite().all(-1)).sum()),
        gmacs_per_video=said["gmacs_per_view"] * said["views_per_video"],
        change=None
        if reference is None
        else change_of(top_class(reference) == labels, hits, sources),
        nearness=None if reference is None else nearness(reference, predicted, sources),
        hardware=hardware(run.report["environment"]),
        command=run.report["command"],
    )


def change_of(reference: Tensor, hits: Tensor, sources: Tensor | None = None) -> Change:
    """From what both get right, (V,) bool each, of the same videos; `sources` (V,) says which of
    them belong together."""
    points = difference_interval(reference, hits, sources)
    assert points is not None, "there are videos"
    lost, gained = int((reference & ~hits).sum()), int((hits & ~reference).sum())
    if sources is None:
        p = mcnemar(lost, gained)
    else:
        p = sign_flip_p(hits.double() - reference.double(), sources)
    return Change(points=points, lost=lost, gained=gained, p_value=p)


def _check_same_data(first: Run, other: Run) -> None:
    listed, theirs = ({*run.labels, *run.unreadable} for run in (first, other))
    for run, names in ((first, listed - theirs), (other, theirs - listed)):
        if names:
            raise ValueError(
                f"runs {first.path} and {other.path} are of different videos: {min(names)!r} is "
                f"only in {run.path}; compare runs of one list"
            )
    for name, label in first.labels.items():
        if other.labels.get(name, label) != label:
            raise ValueError(
                f"runs {first.path} and {other.path} label {name!r} differently, {label} and "
                f"{other.labels[name]}; compare runs of one list"
            )
    if None not in (a := first.num_classes, b := other.num_classes) and a != b:
        raise ValueError(
            f"runs {first.path} and {other.path} predict {a} and {b} classes; compare models with "
            "one set of classes"
        )


# --- reading ------------------------------------------------------------------------------------


def read_run(path: Path, *, chosen: Collection[int] | None = None) -> Run:
    """What `evaluate` left in a folder; of each video the views that are `chosen`, None for all.

    Raises FileNotFoundError where it left nothing, and ValueError where it has not finished.
    """
    report = read_report(path)
    classes = 0
    labels: dict[str, int] = {}
    probabilities: dict[str, Tensor] = {}
    pending: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for row in RunFolder(path, Process()).rows():
        name, views = row["video"], pending[row["video"]]
        views[row["view"]] = logits = _logits(path, row)
        classes = classes or len(logits)
        if len(logits) != classes:
            raise ValueError(
                f"run {path}: view {row['view']} of {name!r} has {len(logits)} logits where others "
                f"have {classes}; evaluate it again with --restart"
            )
        if len(views) == report["views_per_video"]:
            told = [views[index] for index in sorted(views) if chosen is None or index in chosen]
            stacked = torch.stack(told)
            labels[name], probabilities[name] = row["label"], mean_probabilities(stacked)
            del pending[name]
    run = Run(path, report, labels, probabilities)
    if len(labels) != report["num_videos"] or not pending.keys() <= {*run.unreadable}:
        raise ValueError(
            f"run {path} is not finished: report.json counts {report['num_videos']} videos, but "
            f"the views of {len(labels)} are there; give its evaluate command again, which goes on"
        )
    return run


def _logits(path: Path, row: dict[str, Any]) -> Tensor:
    try:
        return torch.tensor(row["logits"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"run {path}: view {row['view']} of {row['video']!r} has no logits; evaluate it again "
            "with --restart"
        ) from error


def read_report(path: Path) -> dict[str, Any]:
    """What the finished run in a folder says of itself; its views are not read.

    Raises FileNotFoundError where there is none, and ValueError where it has not finished.
    """
    if not (path / "run.json").is_file():
        raise FileNotFoundError(
            f"run {path} holds no run.json; name a folder that vidprune evaluate --output wrote"
        )
    if not (path / "report.json").is_file():
        raise ValueError(
            f"run {path} is not finished: it has no report.json; give its evaluate command again, "
            "which goes on"
        )
    try:
        report = json.loads((path / "report.json").read_text(encoding="utf-8"))
    except ValueError:
        report = None
    if not isinstance(report, dict) or not report.keys() >= _NEEDED:
        raise ValueError(
            f"run {path}: report.json is not the record of an evaluation; evaluate again with "
            "--restart"
        )
    return report
