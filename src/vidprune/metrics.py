"""From the logits of views to an accuracy over videos, and to how near two models' answers are.

A video whose scores are not numbers, as of logits that overflowed, is nowhere a success: it counts
as a miss and agrees with nothing. A distance to it is not defined (nan), and no mean includes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vidprune.intervals import Interval, mean_interval, share_interval

_VIDEOS_AT_ONCE = 1024


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


def top_class(probabilities: Tensor) -> Tensor:
    """The likeliest class of each video, (V,) int64, of equal ones the lowest.

    `probabilities` is (V, classes); -1, which is no class, where they are not numbers.
    """
    return probabilities.argmax(-1).where(probabilities.isfinite().all(-1), -1)


def same_class(reference: Tensor, other: Tensor) -> Tensor:
    """Whether both give a video the same class, (V,) bool, of probabilities (V, classes)."""
    first = top_class(reference)
    return (first == top_class(other)) & (first >= 0)


def divergence(reference: Tensor, other: Tensor) -> Tensor:
    """How far predictions moved: Kullback-Leibler divergence KL(reference || other) in nats, (V,).

    Both are probabilities (V, classes) of the same videos; 0 where they are equal. A class that
    the reference rules out adds nothing (0 log 0 = 0). One that only the other rules out counts as
    the smallest number there is (2e-308), so that the result, up to 708, is finite.
    """
    floor = torch.finfo(reference.dtype).tiny
    moved = reference.clamp_min(floor).log() - other.clamp_min(floor).log()
    # Rounding can end a little below 0.
    return (reference * moved).sum(-1).clamp_min(0)


def rank_correlation(reference: Tensor, other: Tensor) -> Tensor:
    """Spearman's correlation of two orders of the classes, (V,) in [-1, 1]; 1: the same order.

    Both are scores (V, classes) of the same videos; equal scores share the mean of their ranks. All
    classes weigh the same, the unlikely ones too. Not defined (nan) where a row is constant or
    holds what is no number.
    """
    pairs = zip(reference.split(_VIDEOS_AT_ONCE), other.split(_VIDEOS_AT_ONCE), strict=True)
    return torch.cat([_correlation(_ranks(first), _ranks(second)) for first, second in pairs])


@dataclass(frozen=True, kw_only=True)
class Nearness:
    """How near predictions are to a reference's, each figure with its interval over videos.

    `agreement` is the per cent of videos that get the same class, `kl_nats` the mean `divergence`
    from the reference, `rank_correlation` the mean of Spearman's over the classes. In `not_finite`
    videos one of both gave no numbers: they do not agree, and the two means leave them out. None
    stands where no video is left.
    """

    agreement: Interval | None
    kl_nats: Interval | None
    rank_correlation: Interval | None
    not_finite: int


def nearness(reference: Tensor, other: Tensor, sources: Tensor | None = None) -> Nearness:
    """How near `other` is to `reference`, both probabilities (V, classes) of the same videos, of
    which `sources` (V,) says which belong together."""
    finite = (reference.isfinite() & other.isfinite()).all(-1)
    return Nearness(
        agreement=share_interval(same_class(reference, other), sources),
        kl_nats=mean_interval(divergence(reference, other), sources),
        rank_correlation=mean_interval(rank_correlation(reference, other), sources),
        not_finite=int((~finite).sum()),
    )


def _ranks(scores: Tensor) -> Tensor:
    """The rank of each score in its row (V, classes) float64, from 1; nan in rows with a nan."""
    scores = scores.contiguous()
    ordered = scores.sort(-1).values
    below, up_to = (torch.searchsorted(ordered, scores, right=right) for right in (False, True))
    ranks = (below + up_to + 1).double() / 2
    return ranks.masked_fill(scores.isnan().any(-1, keepdim=True), torch.nan)


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of rows (V, classes), (V,); 0/0, which is nan, of constant rows."""
    first, second = (rows - rows.mean(-1, keepdim=True) for rows in (first, second))
    spread = (first.square().sum(-1) * second.square().sum(-1)).sqrt()
    return ((first * second).sum(-1) / spread).clamp(-1, 1)


def _per_cent(hits: int, videos: int) -> float | None:
    return 100 * hits / videos if videos else None
