"""The most likely classes of videos."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vidprune.inference import Classifier, Unreadable
from vidprune.metrics import mean_probabilities
from vidprune.reading import Request
from vidprune.report import Guess, Prediction


def predict(
    classifier: Classifier,
    videos: Sequence[Path],
    *,
    top_k: int = 5,
    workers: int | None = None,
) -> Iterator[Prediction]:
    """One prediction per video, in order, as soon as it is there.

    A video's probabilities are the mean over its views. `top_k` is cut to the number of classes.
    """
    if top_k < 1:
        raise ValueError(f"top_k={top_k} must be at least 1")
    wanted = tuple(range(len(classifier.protocol.views)))
    requests = [Request(str(path), path, wanted) for path in videos]
    views: list[Tensor] = []
    for outcome in classifier.classify(requests, workers=workers):
        if isinstance(outcome, Unreadable):
            yield Prediction(video=outcome.name, error=outcome.reason)
            continue
        views.append(outcome.logits)
        if len(views) == len(wanted):
            yield _prediction(outcome.name, torch.stack(views), classifier, top_k)
            views.clear()


def _prediction(video: str, logits: Tensor, classifier: Classifier, top_k: int) -> Prediction:
    if not logits.isfinite().all():
        return Prediction(
            video=video, error="the model's logits are not finite; try --dtype bf16 or fp32"
        )
    return Prediction(video=video, top=_top(logits, classifier, top_k))


def _top(logits: Tensor, classifier: Classifier, top_k: int) -> tuple[Guess, ...]:
    probabilities = mean_probabilities(logits)
    best = probabilities.sort(descending=True, stable=True)
    names = classifier.model.config.id2label
    return tuple(
        Guess(label=index, name=names[index], probability=probability)
        for probability, index in zip(
            best.values[:top_k].tolist(), best.indices[:top_k].tolist(), strict=True
        )
    )
