"""From the logits of views to an accuracy over videos."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Top-1 and top-5 over `num_videos` videos, in per cent; 0 videos have neither."""

    top1: float | None
    top5: float | None
    num_videos: int


def mean_probabilities(logits: Tensor) -> Tensor:
    """A video's score: the mean over its views (V, classes) of softmax(logits), (classes,)."""
    return logits.double().softmax(-1).mean(0)


def rank_of(label: int, probabilities: Tensor) -> int:
    """How many classes score higher than the true one; of equal scores the lower class is first."""
    own = probabilities[label]
    earlier = torch.arange(len(probabilities), device=probabilities.device) < label
    return int(((probabilities > own) | ((probabilities == own) & earlier)).sum())


def accuracy(ranks: Iterable[int]) -> Accuracy:
    """Accuracy over videos from the `rank_of` each."""
    ranks = list(ranks)
    return Accuracy(
        top1=_per_cent(sum(rank < 1 for rank in ranks), len(ranks)),
        top5=_per_cent(sum(rank < 5 for rank in ranks), len(ranks)),
        num_videos=len(ranks),
    )


def _per_cent(hits: int, videos: int) -> float | None:
    return 100 * hits / videos if videos else None
