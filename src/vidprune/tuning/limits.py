"""A budget by content out of settings that were tried: which two, and the limit between them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidprune.intervals import share_interval
from vidprune.metrics import divergence, same_class, top_class
from vidprune.reducers.by_content import ByContent, Signal
from vidprune.reducers.spec import NONE, describe, parse
from vidprune.tuning.search import Search, Tried, excess, objective

# Of the settings that no other beats; between two of them so many limits are tried.
_MOST_SETTINGS, _LIMITS = 8, 12
# Of those that seem to reach the target with an error to spare, the most to be looked at closely.
_LOOKED_AT = 100
# It takes two graphs, some clips twice, and was chosen among hundreds: what it gains over the best
# setting for all clips alike must be worth that.
_WORTH = 0.9


@dataclass(frozen=True, kw_only=True)
class _Guess:
    """A budget on the videos of the search: by how much it misses the target, near enough, and what
    of it is to be as small as can be."""

    reducer: str
    excess: float
    objective: float


def best_budget(
    search: Search, tried: Sequence[Tried], signals: Sequence[Signal], alike: Tried | None
) -> Tried | None:
    """The best budget by content that reaches the target on the videos of the search; None where
    none does, or none is by a tenth better than `alike`, the best setting for all clips.

    It is put together from two settings that were tried on all of them, or from one and the dense
    model, so that nothing new is computed by a model.
    """
    pool = _pool(tried, alike)
    spelt = [reducer for signal in signals for reducer in _spelt(search, pool, signal)]
    # Of which both settings answer some: what one answers alone is that one.
    guesses = [
        _guess(search, each) for each in spelt if search.bench.is_parted(each, search.videos)
    ]
    most = _WORTH * objective(search.target, alike) if alike else float("inf")
    likely = [each for each in guesses if each.excess <= 0 and each.objective <= most]
    likely.sort(key=lambda each: each.objective)
    for guess in likely[:_LOOKED_AT]:
        found = search.whole(guess.reducer)
        if excess(search.target, found) <= 0:
            return found
    return None


def _pool(tried: Sequence[Tried], alike: Tried | None) -> list[str]:
    """The dense model and settings that none beats in cost and KL, the cheapest first; the best for
    all clips is among them."""
    front: list[Tried] = []
    for each in sorted(tried, key=lambda each: (each.costs.share, each.losses.kl_nats.value)):
        better = not front or each.losses.kl_nats.value < front[-1].losses.kl_nats.value
        if each.whole and (better or each == alike):
            front.append(each)
    step = -(-len(front) // _MOST_SETTINGS) or 1
    kept = [each for place, each in enumerate(front) if place % step == 0 or each == alike]
    return [*(each.reducer for each in kept), NONE]


def _spelt(search: Search, pool: Sequence[str], signal: Signal) -> Iterator[str]:
    """Every two settings of the pool with limits between them that part the views evenly."""
    for place, cheap in enumerate(pool):
        values = _values(search, cheap, signal)
        for dear in pool[place + 1 :]:
            for limit in values:
                # Whether what changes more takes more or less is for the videos to say.
                for pair in [(cheap, dear), (dear, cheap)][: 2 if signal == "change" else 1]:
                    yield describe(
                        ByContent(signal=signal, settings=tuple(map(parse, pair)), limits=(limit,))
                    )


def _values(search: Search, cheap: str, signal: Signal) -> list[float]:
    """Of the signal on the views of the search, evenly spread; those that can be limits."""
    bench = search.bench
    if signal == "change":
        found = [each for video in search.videos for each in bench.changes(video)]
    else:
        found = bench.confidences(cheap, search.videos)
    ranks = torch.linspace(0, 1, _LIMITS + 2, dtype=torch.float64)[1:-1]
    spread = torch.tensor(found, dtype=torch.float64).quantile(ranks).tolist()
    return [
        limit for limit in dict.fromkeys(float(f"{each:.6g}") for each in spread) if 0 < limit <= 1
    ]


def _guess(search: Search, reducer: str) -> _Guess:
    bench, target = search.bench, search.target
    dense, other = (bench.probabilities(each, search.videos) for each in (NONE, reducer))
    strayed = divergence(dense, other)
    spent = bench.spent(reducer, search.videos, repeats=search.repeats)
    if target.is_cost:
        figure, wanted = spent.of(target, cautious=True), float(strayed.mean())
    else:
        figure, wanted = _cautious_loss(search, dense, other, strayed), spent.share
    return _Guess(reducer=reducer, excess=target.excess(figure), objective=wanted)


def _cautious_loss(search: Search, dense: Tensor, other: Tensor, strayed: Tensor) -> float:
    """What a target of loss is about, one standard error worse, without resampling."""
    if search.target.kind == "agreement":
        spared = share_interval(same_class(dense, other), search.sources, errors=1)
        assert spared is not None, "there are videos"
        assert spared.low is not None, "shares have bounds"
        return spared.low
    if search.target.kind == "kl_nats":
        return float(strayed.mean() + strayed.std() / len(strayed) ** 0.5)
    labels = search.bench.labels(search.videos)
    assert labels is not None, "a target of top-1 has labels"
    right = [(top_class(each) == labels).double().mean() for each in (dense, other)]
    return 100 * float(right[0] - right[1])
