"""Ways to choose and to merge tokens that were tried on the way to `ward` and are not in vidprune:
each is a reducer like any other, made of r, and is run by `tried.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from vidprune.layout import Layout, TokenGrid
from vidprune.reducers.base import Need, Reducer, Reduction, Signals
from vidprune.reducers.baselines import Random
from vidprune.reducers.exact import exact, rising, unit_rows
from vidprune.reducers.run_length import RunLength
from vidprune.reducers.schedule import Place, Stage
from vidprune.reducers.sta import STA, scores
from vidprune.reducers.ward import (
    Ward,
    counts_of_rounds,
    nearest_survivors,
    sketch,
    squared_distances,
    stages_of,
)

Idea = Callable[[int], Reducer]
EARLY = (0, 1, 2)


# STA, and what its dropped tokens can be of use for.


@dataclass(frozen=True, kw_only=True)
class FoldedByTokens(STA):
    """Each dropped token joins the survivor that it lies nearest to, not the one whose key is most
    alike."""

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        """As STA does, but for whom a token joins."""
        keep = self.choose(tokens, signals, layout, stage)
        return Reduction(keep=keep, owner=nearest_survivors(sketch(tokens), keep))


@dataclass(frozen=True, kw_only=True)
class OtherSemantics(STA):
    """Importance by another activation than the token's own: of what it adds to the classifier, or
    of its distance to its group's mean. `head` (classes, C)."""

    head: Tensor | None = None

    def choose(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Tensor:
        """As STA does."""
        if self.head is not None:
            seen = tokens @ self.head.to(tokens).T
        else:
            groups = tokens.unflatten(1, (stage.groups, -1))
            seen = (groups - groups.mean(2, keepdim=True)).flatten(1, 2)
        return super().choose(seen, signals, layout, stage)


@dataclass(frozen=True, kw_only=True)
class TwoSided(STA):
    """Redundancy accumulated forwards and backwards, and the mean of both."""

    def choose(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Tensor:
        """Every group by its mean score; the first and the last by one direction."""
        similar = self._similar(tokens, signals)
        there, back = (
            self._scores_of(tokens, similar, stage, backward) for backward in (False, True)
        )
        both = torch.stack([there, back]).nanmean(0).unflatten(1, (stage.groups, -1))
        stay = rising(both)[..., : stage.kept_per_group]
        starts = torch.arange(stage.groups, device=tokens.device) * stage.group_size
        return (stay + starts[:, None]).flatten(1)

    def _scores_of(self, tokens: Tensor, similar: Tensor, stage: Stage, backward: bool) -> Tensor:
        rule = {"groups": stage.groups, "drop": stage.drop, "backward": backward}
        return scores(tokens, similar, **rule)["score"]


@dataclass(frozen=True, kw_only=True)
class AcrossGroups(STA):
    """One stage in which groups keep as many tokens as their scores ask for, at equal total."""

    def choose(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Tensor:
        """The group visited first is thinned as ever, all others together."""
        keep = super().choose(tokens, signals, layout, stage).unflatten(1, (stage.groups, -1))
        judged = self.scores(tokens, signals, layout, stage)["score"]
        backward = self._backward(stage)
        first = keep[:, -1 if backward else 0]
        count = stage.kept - first.shape[1]
        rest = rising(judged.nan_to_num(float("inf")))[:, :count]
        return torch.cat([first, rest], 1).sort(1).values


# Merging down to a few.


@dataclass(frozen=True, kw_only=True)
class Merging(Ward):
    """Ward's merging after its blocks alone, with one thing otherwise.

    `by`: what tokens are compared by; `parts`: which of them may merge in a round; `price`: of a
    merging; `joins`: whom a token joins at the end.
    """

    by: Literal["tokens", "normalised", "keys", "keys and values", "all channels"] = "tokens"
    parts: Literal["alternating", "checkerboard", "time", "drawn"] = "alternating"
    price: Literal["ward", "distance", "cosine"] = "ward"
    joins: Literal["nearest", "nearest mean", "its destination"] = "nearest"

    @property
    def needs(self) -> frozenset[Need]:
        """What tokens are compared by, too."""
        also: dict[str, frozenset[Need]] = {
            "keys": frozenset({"keys"}),
            "keys and values": frozenset({"keys", "values"}),
        }
        return super().needs | also.get(self.by, frozenset())

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        """Survivors and owners of tokens (B, N, C)."""
        state = self._state(tokens, signals)
        sizes = layout.sizes
        if sizes is None:
            sizes = torch.ones(tokens.shape[:2], dtype=torch.float32, device=tokens.device)
        keep, owner, means = self._merged(state, sizes, layout, stage.kept)
        if self.joins == "nearest":
            owner = nearest_survivors(state, keep)
        elif self.joins == "nearest mean":
            nearest = squared_distances(state, means).argmin(-1)
            own = torch.arange(stage.kept, device=tokens.device).expand_as(keep)
            owner = nearest.scatter(1, keep, own)
        return Reduction(keep=keep, owner=owner)

    def _state(self, tokens: Tensor, signals: Signals) -> Tensor:
        if self.by == "tokens":
            return sketch(tokens)
        values = exact(tokens)
        if self.by == "normalised":
            return sketch(layer_norm(values, values.shape[-1:]))
        if self.by == "all channels":
            return values - values.mean(1, keepdim=True)
        found = [signals.keys] if self.by == "keys" else [signals.keys, signals.values]
        values = torch.cat([exact(each) for each in found if each is not None], -1)
        return values - values.mean(1, keepdim=True)

    def _merged(
        self, state: Tensor, sizes: Tensor, layout: Layout, kept: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Survivors (B, K), rising, who has merged into whom (B, N), and their means (B, K, d)."""
        batch, entering, _ = state.shape
        places = torch.arange(entering, device=state.device).expand(batch, -1)
        owner = places
        for count in counts_of_rounds(entering, kept, self.rounds):
            merge = places.shape[1] - count
            order = self._order(layout, places)
            sources, others = order[:, 0::2], order[:, 1::2]
            cost, best = self._prices(state, sizes, sources, others).min(-1)
            ranked = rising(cost)
            go = sources.gather(1, ranked[:, :merge])
            to = others.gather(1, best.gather(1, ranked[:, :merge]))
            state, sizes, stays = _one_merged(state, sizes, go, to)
            left = rising((~stays).long())[:, :count]
            # Where each token's owner stands now.
            moved = torch.arange(places.shape[1], device=state.device).expand(batch, -1)
            moved = moved.scatter(1, go, to)
            rank = stays.long().cumsum(1) - 1
            owner = rank.gather(1, moved.gather(1, owner))
            state, sizes, places = _at(state, left), sizes.gather(1, left), places.gather(1, left)
        return places, owner, state

    def _order(self, layout: Layout, places: Tensor) -> Tensor:
        """The tokens in an order of which every second is a source, (B, N)."""
        count = places.shape[1]
        usual = torch.arange(count, device=places.device).expand_as(places)
        if self.parts == "alternating":
            return usual
        at, grid = layout.origin.gather(1, places), layout.grid
        frame, row = at // grid.tokens_per_frame, at % grid.tokens_per_frame // grid.columns
        column = at % grid.columns
        if self.parts == "drawn":
            key = torch.rand(places.shape, generator=torch.Generator().manual_seed(0)).to(at.device)
        else:
            side = frame if self.parts == "time" else frame + row + column
            key = (side % 2 * grid.tokens + at).double()
        halves = rising(key)
        half = count // 2
        mixed = torch.stack([halves[:, count - half :], halves[:, :half]], 2).flatten(1)
        return torch.cat([halves[:, half : count - half], mixed], 1) if count % 2 else mixed

    def _prices(self, state: Tensor, sizes: Tensor, sources: Tensor, others: Tensor) -> Tensor:
        rows, columns = _at(state, sources), _at(state, others)
        if self.price == "cosine":
            return 1 - unit_rows(rows) @ unit_rows(columns).mT
        apart = squared_distances(rows, columns)
        if self.price == "distance":
            return apart
        own, theirs = sizes.gather(1, sources)[..., None], sizes.gather(1, others)[:, None]
        return apart * (own * theirs / (own + theirs))


def _one_merged(
    state: Tensor, sizes: Tensor, go: Tensor, to: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """State (B, N, d) and sizes (B, N) in which `go` (B, M) have joined `to`, and who stays."""
    moved = sizes.gather(1, go)
    sums = state * sizes[..., None]
    sums = sums.scatter_add(
        1, to[..., None].expand(-1, -1, state.shape[-1]), _at(state, go) * moved[..., None]
    )
    total = sizes.scatter_add(1, to, moved)
    stays = torch.ones_like(sizes, dtype=torch.bool).scatter(1, go, False)
    return sums / total[..., None], total, stays


def _at(rows: Tensor, places: Tensor) -> Tensor:
    return rows.gather(1, places[..., None].expand(-1, -1, rows.shape[-1]))


@dataclass(frozen=True, kw_only=True)
class PixelsFirst(Ward):
    """Repeated pixels go before block 0, `share` of all that go; Ward merges the rest."""

    share: float = 0.25

    @property
    def needs(self) -> frozenset[Need]:
        """Pixels, too."""
        return super().needs | {"pixels"}

    def _repeats(self) -> RunLength:
        assert self.r is not None, "no schedule is tried"
        return RunLength(r=round(self.share * self.r), fold=True, proportional_attention=True)

    def plan(self, depth: int, grid: TokenGrid) -> tuple[Stage, ...]:
        """A stage of RunLength's, then Ward's on what it leaves."""
        first = self._repeats().plan(depth, grid)
        left = first[-1].kept if first else grid.tokens
        acts = [(0, Place.BEFORE_BLOCK, left)]
        last = Ward(r=self.r).plan(depth, grid)[-1].kept
        for number, block in enumerate(EARLY, start=1):
            left = round(left * (last / left) ** (1 / (len(EARLY) + 1 - number)))
            acts.append((block, Place.AFTER_BLOCK, left))
        return stages_of(acts, grid.tokens)

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        """RunLength's reduction, or Ward's."""
        if stage.place is Place.BEFORE_BLOCK:
            return self._repeats()(tokens, signals, layout, stage)
        return super().__call__(tokens, signals, layout, stage)


def ideas(head: Tensor) -> dict[str, Idea]:
    """By name, for a model whose classifier is `head` (classes, C)."""
    sta = STA(r=0, blocks=EARLY)
    by_size = {"fold": True, "proportional_attention": True}
    bases: dict[str, Reducer] = {
        "random": Random(r=0, blocks=EARLY),
        "random, folded by keys": Random(r=0, blocks=EARLY, fold=True),
        "random, folded by keys, attention by size": Random(r=0, blocks=EARLY, **by_size),
        "STA": sta,
        "STA, folded by keys": replace(sta, fold=True),
        "STA, folded by keys, attention by size": replace(sta, **by_size),
        "STA, folded by tokens, attention by size": FoldedByTokens(r=0, blocks=EARLY, **by_size),
        "STA, no semantics": replace(sta, score="temporal"),
        "STA, semantics: share in the head": OtherSemantics(r=0, blocks=EARLY, head=head),
        "STA, semantics: distance to the group's mean": OtherSemantics(r=0, blocks=EARLY),
        "STA, accumulated on both sides": TwoSided(r=0, blocks=EARLY),
        "STA, one stage": STA(r=0, blocks=(0,), stages=1),
        "STA, one stage, groups keep what they need": AcrossGroups(r=0, blocks=(0,), stages=1),
        "Ward": Ward(r=0),
        "Ward, in one round": Ward(r=0, rounds=1),
        "Ward, in six rounds": Ward(r=0, rounds=6),
        "Ward, without attention by size": Ward(r=0, proportional_attention=False),
        "Ward, after its blocks alone": Ward(r=0, where="after"),
        "Ward, before its blocks alone": Ward(r=0, where="before"),
        "Ward, once": Ward(r=0, blocks=(0,)),
        "Ward, spread over the first third": Ward(r=0, blocks=(0, 2, 4)),
        "Ward, spread over all": Ward(r=0, blocks=(0, 4, 8)),
        "Ward, repeated pixels first": PixelsFirst(r=0),
        "by all channels": Merging(r=0, where="after", by="all channels"),
        "by normalised tokens": Merging(r=0, where="after", by="normalised"),
        "by keys": Merging(r=0, where="after", by="keys"),
        "by keys and values": Merging(r=0, where="after", by="keys and values"),
        "price: distance alone": Merging(r=0, where="after", price="distance"),
        "price: cosine": Merging(r=0, where="after", price="cosine"),
        "sources: a checkerboard": Merging(r=0, where="after", parts="checkerboard"),
        "sources: every second frame": Merging(r=0, where="after", parts="time"),
        "sources: drawn": Merging(r=0, where="after", parts="drawn"),
        "joins its own destination": Merging(r=0, where="after", joins="its destination"),
        "joins the nearest mean": Merging(r=0, where="after", joins="nearest mean"),
    }
    return {name: _of(base) for name, base in bases.items()}


def _of(base: Reducer) -> Idea:
    return lambda r: replace(base, r=r)  # type: ignore[type-var]
