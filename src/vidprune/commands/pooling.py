"""Runs of every setting pooled, and paired video by video at the same costs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidprune.commands.compare import Run, change_of
from vidprune.commands.wishes import NEAR, Setting, Wish
from vidprune.intervals import difference_interval, mean_interval, share_interval
from vidprune.metrics import Nearness, divergence, nearness, same_class, top_class
from vidprune.report import Change
from vidprune.sources import sources_of
from vidprune.tradeoff import Pairing, Point


@dataclass(frozen=True, eq=False)
class Pooled:
    """A setting over the videos of all its runs: `names`, labels (V,), probabilities
    (V, classes)."""

    names: tuple[str, ...]
    labels: Tensor
    probabilities: Tensor
    gmacs_per_video: float

    @property
    def hits(self) -> Tensor:
        """Which videos it gets right, (V,) bool."""
        return top_class(self.probabilities) == self.labels


@dataclass(frozen=True, eq=False)
class _Entry:
    """A setting with what came of it."""

    setting: Setting
    pooled: Pooled

    def apart(self, other: "_Entry", dense: Pooled) -> float:
        """How far their costs are from each other, as a share of the dense cost."""
        gmacs = other.pooled.gmacs_per_video - self.pooled.gmacs_per_video
        return abs(gmacs) / dense.gmacs_per_video

    def strayed(self, dense: Pooled) -> float:
        """How far its predictions are from the dense model's, in nats a video."""
        return divergence(dense.probabilities, self.pooled.probabilities).mean().item()


def _alike(entry: _Entry, others: Sequence[_Entry], dense: Pooled) -> _Entry | None:
    """The one of the others that it is compared with, None where none costs about as much: where it
    is told where to drop, of those that drop there the nearest in cost; or else the one that stays
    nearest to the dense model's predictions."""
    near = [other for other in others if entry.apart(other, dense) <= NEAR]
    places = entry.setting.places
    same = [other for other in near if places and other.setting.places == places]
    if same:
        return min(same, key=lambda other: entry.apart(other, dense))
    return min(near, key=lambda other: other.strayed(dense), default=None)


def pool(runs: Sequence[Sequence[Run]], settings: Sequence[Setting]) -> list[Pooled]:
    """Every setting over the videos that all settings could read, in one order; `runs` are those of
    each setting, one for each trial.

    Raises ValueError where no video could be read in every setting.
    """
    names = [
        [name for name in own[0].labels if all(name in run.labels for run in own)]
        for own in zip(*runs, strict=True)
    ]
    if not any(names):
        raise ValueError(
            "no video could be read in every setting; see what the reports below runs/ name as "
            "unreadable"
        )
    return [_over(own, names, setting) for own, setting in zip(runs, settings, strict=True)]


def _over(runs: Sequence[Run], names: Sequence[Sequence[str]], setting: Setting) -> Pooled:
    pairs = [(run, name) for run, own in zip(runs, names, strict=True) for name in own]
    report = runs[0].report
    views = report["views_per_video"] if setting.views is None else len(setting.views)
    return Pooled(
        tuple(name for _, name in pairs),
        torch.tensor([run.labels[name] for run, name in pairs]),
        torch.stack([run.probabilities[name] for run, name in pairs]),
        report["gmacs_per_view"] * views,
    )


def _change(reference: Pooled | None, each: Pooled, sources: Tensor | None) -> Change | None:
    return None if reference is None else change_of(reference.hits, each.hits, sources)


def _near(reference: Pooled | None, each: Pooled, sources: Tensor | None) -> Nearness | None:
    if reference is None:
        return None
    return nearness(reference.probabilities, each.probabilities, sources)


def points_of(
    settings: Sequence[Setting], pooled: Sequence[Pooled], wish: Wish
) -> tuple[Point, ...]:
    """What is said of each setting, of which the first is the dense model."""
    dense = pooled[0]
    sources = None if wish.source is None else sources_of(dense.names, wish.source)
    entries = [_Entry(setting, each) for setting, each in zip(settings, pooled, strict=True)]
    return tuple(_point(entry, entries, wish, sources) for entry in entries)


def _point(entry: _Entry, entries: Sequence[_Entry], wish: Wish, sources: Tensor | None) -> Point:
    """One setting against the dense model, and against what it is paired with at its cost."""
    setting, each, dense = entry.setting, entry.pooled, entries[0].pooled
    reference = None if each is dense else dense
    chance = [other for other in entries if other.setting.is_reference]
    rivals = [other for other in entries if other.setting.method == wish.against]
    random = None if entry in chance or each is dense else _alike(entry, chance, dense)
    rival = None if entry in rivals or each is dense else _alike(entry, rivals, dense)
    top1 = share_interval(each.hits, sources)
    assert top1 is not None, "there are videos"
    return Point(
        method=setting.method,
        setting=setting.said(wish),
        share=each.gmacs_per_video / dense.gmacs_per_video,
        gmacs_per_video=each.gmacs_per_video,
        top1=top1,
        change=_change(reference, each, sources),
        nearness=_near(reference, each, sources),
        over_random=_change(random.pooled if random else None, each, sources),
        random=None if random is None else random.setting.said(wish),
        against=None if rival is None else _pairing(entry, rival, dense, sources, wish),
    )


def _pairing(
    entry: _Entry, rival: _Entry, dense: Pooled, sources: Tensor | None, wish: Wish
) -> Pairing:
    """One against the other, the same videos."""
    both = [each.pooled.probabilities for each in (entry, rival)]
    own, theirs = (divergence(dense.probabilities, each) for each in both)
    shares, they_share = (same_class(dense.probabilities, each) for each in both)
    return Pairing(
        setting=rival.setting.said(wish),
        change=change_of(rival.pooled.hits, entry.pooled.hits, sources),
        kl_nats=mean_interval(own - theirs, sources),
        agreement=difference_interval(they_share, shares, sources),
    )
