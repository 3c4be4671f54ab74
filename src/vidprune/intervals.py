"""How sure a figure over videos is: bootstrap intervals, and McNemar's exact test of pairs.

All intervals are of 95 %: percentiles of the figure over resamples of the videos, drawn with
replacement (Efron & Tibshirani 1993, chapter 13), the same ones for the same number of videos.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

RESAMPLES = 2000
SEED = 0
METHOD = f"95 %, percentile bootstrap over videos, {RESAMPLES} resamples, seed {SEED}"

_TAIL = 0.025
_DRAWS_AT_ONCE = 2**21


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A `value` and where it lies in 95 of 100 samples of videos, `low` to `high`.

    These are None where there is one video, whose spread nobody knows.
    """

    value: float
    low: float | None
    high: float | None


def mean_interval(
    values: Tensor, *, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval | None:
    """The mean over videos of `values` (V,), of those that are finite; None where none is."""
    values = values[values.isfinite()].double().cpu()
    if not len(values):
        return None
    mean = values.mean().item()
    if len(values) == 1:
        return Interval(value=mean, low=None, high=None)
    tails = torch.tensor([_TAIL, 1 - _TAIL], dtype=torch.float64)
    low, high = _resampled_means(values, resamples, seed).quantile(tails).tolist()
    return Interval(value=mean, low=low, high=high)


def share_interval(
    hits: Tensor, *, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval | None:
    """The share of videos that hit, `hits` (V,) bool, in per cent; None of no video.

    Where all hit, or none, every resample says the same and the bootstrap would claim certainty;
    there it is the exact interval of Clopper and Pearson (1934), which narrows with their number.
    """
    found = mean_interval(100 * hits.double(), resamples=resamples, seed=seed)
    if found is None or 0 < found.value < 100:
        return found
    room = _unseen_per_cent(len(hits))
    low, high = (0.0, room) if found.value == 0 else (100 - room, 100.0)
    return Interval(value=found.value, low=low, high=high)


def difference_interval(
    reference: Tensor, other: Tensor, *, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval | None:
    """By how many points `other` hits more often than `reference`, both (V,) bool, pair by pair.

    Videos are resampled with both their outcomes, so that what is hard for both adds no noise.
    Where no pair differs it reaches as far as the share of pairs that may differ unseen.
    """
    moved = other.double() - reference.double()
    if moved.any() or not len(moved):
        return mean_interval(100 * moved, resamples=resamples, seed=seed)
    room = _unseen_per_cent(len(moved))
    return Interval(value=0.0, low=-room, high=room)


def mcnemar(lost: int, gained: int) -> float:
    """McNemar's exact two-sided p of `lost` pairs that only the first hit, `gained` only the other.

    How likely it is that a fair coin divides the pairs that differ at least as unevenly; 1 where
    none differs. Counted in whole numbers, so that it is exact for any number of pairs.
    """
    pairs, rarer = lost + gained, min(lost, gained)
    ways = total = 1
    for taken in range(rarer):
        ways = ways * (pairs - taken) // (taken + 1)
        total += ways
    return min(1.0, 2 * total / 2**pairs)


def _unseen_per_cent(videos: int) -> float:
    """How frequent something may be that was seen in none of so many videos."""
    return 100 * (1 - _TAIL ** (1 / videos))


def _resampled_means(values: Tensor, resamples: int, seed: int) -> Tensor:
    """The mean of each resample (R,); drawn in blocks, so that memory does not grow with them."""
    generator = torch.Generator().manual_seed(seed)
    videos = len(values)
    rows = max(1, _DRAWS_AT_ONCE // videos)
    blocks = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    return torch.cat(
        [values[torch.randint(videos, (n, videos), generator=generator)].mean(1) for n in blocks]
    )
