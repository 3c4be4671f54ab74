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

from vidprune.sources import design_effect, resampled_means

RESAMPLES = 2000
SEED = 0
METHOD = (
    "95 %: Wilson's score interval for shares, Bonett and Price's for paired differences, "
    f"percentile bootstrap over videos ({RESAMPLES} resamples, seed {SEED}) for means"
)

METHOD_OVER_SOURCES = (
    "95 %, over sources: Wilson's score interval for shares and Bonett and Price's for paired "
    "differences, widened by the design effect, percentile bootstrap over sources "
    f"({RESAMPLES} resamples, seed {SEED}) for means, p by flipping the signs of sources"
)

_TAIL = 0.025
_Z = NormalDist().inv_cdf(1 - _TAIL)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A `value` and where it lies in 95 of 100 samples of videos, `low` to `high`.

    These are None where there is one video, whose spread nobody knows.
    """

    value: float
    low: float | None
    high: float | None


def mean_interval(
    values: Tensor,
    sources: Tensor | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval | None:
    """The mean over videos of `values` (V,), of those that are finite; None where none is.

    `sources` (V,) int64 says which videos belong together; see Note [clips of one source].
    """
    finite = values.isfinite().cpu()
    values = values.cpu()[finite].double()
    sources = None if sources is None else _renumbered(sources[finite])
    if not len(values):
        return None
    mean = values.mean().item()
    if len(values) == 1:
        return Interval(value=mean, low=None, high=None)
    tails = torch.tensor([_TAIL, 1 - _TAIL], dtype=torch.float64)
    each = torch.arange(len(values)) if sources is None else sources
    means = resampled_means(values, each, resamples, torch.Generator().manual_seed(seed))
    low, high = means.quantile(tails).tolist()
    return Interval(value=mean, low=low, high=high)


def share_interval(
    hits: Tensor, sources: Tensor | None = None, *, errors: float = _Z
) -> Interval | None:
    """The share of videos that hit, `hits` (V,) bool, in per cent; None of no video.

    `sources` (V,) as in `mean_interval`; `errors`: how many standard errors the interval reaches to
    either side, those of 95 % where nothing is said. See Note [counts are not resampled].
    """
    if not len(hits):
        return None
    videos, share = len(hits) / _widening(hits, sources), hits.double().mean().item()
    shrunk = 1 + errors**2 / videos
    middle = (share + errors**2 / (2 * videos)) / shrunk
    reach = errors * sqrt(share * (1 - share) / videos + (errors / (2 * videos)) ** 2) / shrunk
    # Rounding must not part the bound from a share that is all or nothing.
    low, high = max(0.0, min(middle - reach, share)), min(1.0, max(middle + reach, share))
    return Interval(value=100 * share, low=100 * low, high=100 * high)


def difference_interval(
    reference: Tensor, other: Tensor, sources: Tensor | None = None
) -> Interval | None:
    """By how many points `other` hits more often than `reference`, both (V,) bool, pair by pair.

    Only pairs that differ count, so that what is hard for both adds no noise; one of each kind is
    added before the spread is taken. `sources` (V,) as in `mean_interval`. See Note [counts are
    not resampled].
    """
    if not len(reference):
        return None
    lost, gained = int((reference & ~other).sum()), int((other & ~reference).sum())
    videos = len(reference)
    more, less = (gained + 1) / (videos + 2), (lost + 1) / (videos + 2)
    widened = _widening(other.double() - reference.double(), sources)
    reach = _Z * sqrt(widened * (more + less - (more - less) ** 2) / (videos + 2))
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


def _widening(values: Tensor, sources: Tensor | None) -> float:
    """How many times a variance grows where videos are not strangers to each other."""
    return 1.0 if sources is None or len(values) < 2 else design_effect(values, sources)


def _renumbered(sources: Tensor) -> Tensor:
    """The same sources, numbered without gaps."""
    return sources.unique(return_inverse=True)[1]
