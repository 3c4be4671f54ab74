"""How far pruned predictions are from dense ones, on videos that nobody has labelled."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidprune.commands.shares import spent_on
from vidprune.environment import environment
from vidprune.inference import Classifier, Unreadable, ViewLogits, classify_with_each
from vidprune.metrics import Nearness, mean_probabilities, nearness
from vidprune.pruned import Pruned
from vidprune.reading import Request
from vidprune.reducers.spec import describe
from vidprune.report import Agreement, AgreementRow


def agreement(
    classifiers: Sequence[Classifier],
    videos: Sequence[Path],
    *,
    checkpoint: str,
    command: str = "",
    workers: int | None = None,
) -> Agreement:
    """How near each classifier's answers are to those of the first, which is the dense model.

    Every video is decoded once and counts once, also where it is named twice; all classifiers get
    the same batches. A video that cannot be read is named in the record, and the rest goes on.
    `checkpoint` and `command` are how the record names what was run.
    """
    ran_on = environment(classifiers[0].device)
    views = tuple(range(len(classifiers[0].protocol.views)))
    requests = [Request(str(path), path, views) for path in dict.fromkeys(videos)]
    answers: list[list[Tensor]] = [[] for _ in classifiers]
    settings: list[list[int | None]] = [[] for _ in classifiers]
    unreadable: list[Unreadable] = []
    waiting: list[list[Tensor]] = []
    for outcomes in classify_with_each(classifiers, requests, workers=workers):
        if isinstance(outcomes[0], Unreadable):
            unreadable.append(outcomes[0])
            continue
        waiting.append(_logits(outcomes))
        for answered, outcome in zip(settings, outcomes, strict=True):
            answered.append(outcome.setting if isinstance(outcome, ViewLogits) else None)
        if len(waiting) == len(views):
            for known, logits in zip(answers, zip(*waiting, strict=True), strict=True):
                known.append(mean_probabilities(torch.stack(logits)))
            waiting.clear()
    named = {"checkpoint": checkpoint, "command": command, "environment": ran_on}
    return _record(classifiers, answers, settings, unreadable, named)


def _logits(outcomes: Sequence[ViewLogits | Unreadable]) -> list[Tensor]:
    """One view's logits (classes,) by each classifier."""
    return [outcome.logits for outcome in outcomes if isinstance(outcome, ViewLogits)]


def _record(
    classifiers: Sequence[Classifier],
    answers: Sequence[Sequence[Tensor]],
    settings: Sequence[Sequence[int | None]],
    unreadable: Sequence[Unreadable],
    named: dict[str, Any],
) -> Agreement:
    dense = classifiers[0]
    rows = [_row(dense, None, ())]
    for place, classifier in enumerate(classifiers[1:], start=1):
        found = _nearness(answers[0], answers[place])
        rows.append(_row(classifier, found, settings[place]))
    return Agreement(
        rows=tuple(rows),
        num_videos=len(answers[0]),
        **named,
        unreadable=tuple({"path": video.name, "reason": video.reason} for video in unreadable),
        protocol=asdict(dense.protocol),
        views_per_video=len(dense.protocol.views),
        dtype=str(dense.model.dtype).removeprefix("torch."),
        batch_size=dense.batch_size,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _nearness(dense: Sequence[Tensor], pruned: Sequence[Tensor]) -> Nearness | None:
    """Of the answers (classes,) to the same videos; None where there are none."""
    return nearness(torch.stack([*dense]), torch.stack([*pruned])) if dense else None


def _row(
    classifier: Classifier, found: Nearness | None, settings: Sequence[int | None]
) -> AgreementRow:
    model = classifier.model
    return AgreementRow(
        reducer=describe(model.reducer if isinstance(model, Pruned) else None),
        **spent_on(model, settings),
        nearness=found,
    )
