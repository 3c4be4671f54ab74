"""How sure a figure over videos is: 95 % intervals, and McNemar's exact test of pairs.

# Note [counts are not resampled]
A mean of measured values has the percentiles of its resamples (Efron & Tibshirani 1993, chapter
13), the same ones for the same number of videos. A share or a difference of shares that is near
its end has hardly anything to resample: one miss in 480 would be surer than none. They have
intervals of their own, which widen as they should: Wilson's score interval (1927), and that of
Bonett & Price (2012) for pairs.
"""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import torch
from torch import Tensor

RESAMPLES = 2000
SEED = 0
METHOD = (
    "95 %: Wilson's score interval for shares, Bonett and Price's for paired differences, "
    f"percentile bootstrap over videos ({RESAMPLES} resamples, seed {SEED}) for means"
)

_TAIL = 0.025
_Z = NormalDist().inv_cdf(1 - _TAIL)
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


def share_interval(hits: Tensor) -> Interval | None:
    """The share of videos that hit, `hits` (V,) bool, in per cent; None of no video.

    See Note [counts are not resampled].
    """
    if not len(hits):
        return None
    videos, share = len(hits), hits.double().mean().item()
    shrunk = 1 + _Z**2 / videos
    middle = (share + _Z**2 / (2 * videos)) / shrunk
    reach = _Z * sqrt(share * (1 - share) / videos + (_Z / (2 * videos)) ** 2) / shrunk
    # Rounding must not part the bound from a share that is all or nothing.
    low, high = max(0.0, min(middle - reach, share)), min(1.0, max(middle + reach, share))
    return Interval(value=100 * share, low=100 * low, high=100 * high)


def difference_interval(reference: Tensor, other: Tensor) -> Interval | None:
    """By how many points `other` hits more often than `reference`, both (V,) bool, pair by pair.

    Only pairs that differ count, so that what is hard for both adds no noise; one of each kind is
    added before the spread is taken. See Note [counts are not resampled].
    """
    if not len(reference):
        return None
    lost, gained = int((reference & ~other).sum()), int((other & ~reference).sum())
    videos = len(reference)
    more, less = (gained + 1) / (videos + 2), (lost + 1) / (videos + 2)
    reach = _Z * sqrt((more + less - (more - less) ** 2) / (videos + 2))
    low, high = max(more - less - reach, -1.0), min(more - less + reach, 1.0)
    return Interval(value=100 * (gained - lost) / videos, low=100 * low, high=100 * high)


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


def _resampled_means(values: Tensor, resamples: int, seed: int) -> Tensor:
    """The mean of each resample (R,); drawn in blocks, so that memory does not grow with them."""
    generator = torch.Generator().manual_seed(seed)
    videos = len(values)
    rows = max(1, _DRAWS_AT_ONCE // videos)
    blocks = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    return torch.cat(
        [values[torch.randint(videos, (n, videos), generator=generator)].mean(1) for n in blocks]
    )
