"""From the logits of views to an accuracy over videos."""

from collections.abc import Mapping
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
    """How many classes score higher than the true one; of equal scores the lower class is first.

    Scores that are not numbers, as of logits that overflowed, put it behind all classes.
    """
    own = probabilities[label]
    later = torch.arange(len(probabilities), device=probabilities.device) >= label
    return int((~((probabilities < own) | ((probabilities == own) & later))).sum())


def accuracy(videos_by_rank: Mapping[int, int]) -> Accuracy:
    """Accuracy from the number of videos with each `rank_of`."""
    videos = sum(videos_by_rank.values())
    top1, top5 = (sum(count for rank, count in videos_by_rank.items() if rank < k) for k in (1, 5))
    return Accuracy(top1=_per_cent(top1, videos), top5=_per_cent(top5, videos), num_videos=videos)


def divergence(reference: Tensor, other: Tensor) -> Tensor:
    """How far predictions moved: Kullback-Leibler divergence KL(reference || other) in nats, (V,).

    Both are probabilities (V, classes) of the same videos; 0 where they are equal.
    """
    return (reference * (reference.log() - other.log())).sum(-1)


def _per_cent(hits: int, videos: int) -> float | None:
    return 100 * hits / videos if videos else None
