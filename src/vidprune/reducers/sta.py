"""STA: a token goes when its like has been seen in earlier frames and it carries little activation.

Ding et al., "Prune Spatio-temporal Tokens by Semantic-aware Temporal Accumulation", ICCV 2023.
The functions follow the authors' release where it differs from the paper.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isqrt
from typing import Any, Literal

import torch
from torch import Tensor

from vidprune.layout import Layout
from vidprune.reducers.backend import BACKENDS, Backend
from vidprune.reducers.base import Need, Signals, chosen, dropped
from vidprune.reducers.draws import check_seed, draw
from vidprune.reducers.dropping import Dropping
from vidprune.reducers.exact import for_products, full_precision, rising, unit_rows
from vidprune.reducers.schedule import Stage
from vidprune.reducers.sta_backend import select_by_triton, sta_takes_triton

FIRST_GROUPS = ("bipartite", "grid", "random")
SCORES = ("both", "temporal", "semantic")
SIMILARITIES = ("key", "query", "value", "output")

Score = Literal["both", "temporal", "semantic"]
Stays = Callable[[Tensor], Tensor]


def select(
    tokens: Tensor,
    keys: Tensor,
    *,
    groups: int,
    drop: int,
    backward: bool = False,
    score: Score = "both",
    first_kept: Tensor | None = None,
    stay_of: Stays | None = None,
) -> Tensor:
    """Positions of the tokens that stay at one stage, (B, groups * (L / groups - drop)) int64.

    `tokens` (B, L, C): the block's output, time-major; `keys` (B, L, d): what similarity is
    taken from, in the paper the block's keys averaged over heads. L splits into `groups`
    consecutive groups; each loses `drop` tokens. `backward` visits the last group first.
    `first_kept` (B, L / groups - drop) int64 replaces the bipartite rule in the group visited
    first. `stay_of` takes a group's positions (B, N), those to keep first, to the ones that stay;
    by default the first. Selection computes in float32, or in float64 (see `for_products`).

    Note [order of kept tokens]: groups stand in temporal order; inside a group the tokens stand
    in the order in which the rule ranked them, which is not their order in space. Later stages
    split their first group by position, so another order would keep other tokens.
    """
    _check(tokens, keys, groups, drop)
    batch, length = tokens.shape[:2]
    if drop == 0:
        return torch.arange(length, device=tokens.device).expand(batch, length)
    with full_precision(tokens.device):
        metric, importance = _grouped(tokens, keys, groups)
        stay_of = _first(length // groups - drop) if stay_of is None else stay_of
        kept, _ = _visit(metric, importance, stay_of, backward, score, first_kept)
    starts = torch.arange(groups, device=tokens.device) * (length // groups)
    return (kept + starts[:, None]).flatten(1)


def scores(
    tokens: Tensor,
    keys: Tensor,
    *,
    groups: int,
    drop: int,
    backward: bool = False,
    score: Score = "both",
    first_kept: Tensor | None = None,
    stay_of: Stays | None = None,
) -> dict[str, Tensor]:
    """What `select`, given the same, judges the tokens by, each (B, L).

    `redundancy`: how much of what came before a token repeats, where 1 is the mean of its group
    (which is ranked by itself), NaN throughout where `score` is semantic and does not ask;
    `importance`: its activation within its group; `score`: what ranks it, of which the largest go.
    Redundancy and score are NaN in the group visited first, which is thinned by another rule
    (`bipartite_order`).
    """
    _check(tokens, keys, groups, drop)
    with full_precision(tokens.device):
        metric, importance = _grouped(tokens, keys, groups)
        stay_of = stay_of or _first(tokens.shape[1] // groups - drop)
        _, found = _visit(metric, importance, stay_of, backward, score, first_kept)
    unasked = torch.full_like(importance[:, 0], float("nan"))
    redundancy = torch.stack([found.get(group, unasked) for group in range(groups)], 1)
    # The group visited second sees weights of 1, later ones see weights that sum to 1.
    redundancy = redundancy / redundancy.mean(-1, keepdim=True)
    ranks = 1 - importance if score == "semantic" else sta_score(redundancy, importance, score)
    ranks[:, groups - 1 if backward else 0] = float("nan")
    parts = {"redundancy": redundancy, "importance": importance, "score": ranks}
    return {name: values.flatten(1) for name, values in parts.items()}


def _grouped(tokens: Tensor, keys: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Keys of length 1 (B, G, N, d), and importance (B, G, N)."""
    metric = unit_rows(for_products(keys)).unflatten(1, (groups, -1))
    importance = semantic_importance(tokens.unflatten(1, (groups, -1)))
    return metric, importance.to(metric.dtype)


def _first(kept: int) -> Stays:
    """The first so many positions."""
    return lambda order: order[:, :kept]


def semantic_importance(tokens: Tensor) -> Tensor:
    """Activation of each token within its group, (B, G, N, C) -> (B, G, N) in [0, 1].

    1 for the largest sum of absolute channel values in the group, 0 for the smallest, and 0
    throughout a group whose tokens are all alike (section 3.3 of the paper).
    """
    # Summed in float32, but without a float32 copy of the tokens: that would be most of the time
    # that half precision spends on a selection.
    wide = torch.promote_types(tokens.dtype, torch.float32)
    activation = tokens.abs().sum(-1, dtype=wide)
    low = activation.amin(-1, keepdim=True)
    span = activation.amax(-1, keepdim=True) - low
    return (activation - low) / torch.where(span > 0, span, torch.ones_like(span))


def bipartite_order(metric: Tensor) -> Tensor:
    """The group visited first, (B, N, d) -> (B, N) int64, tokens to keep first.

    Even positions are sources, odd ones destinations. All destinations in order, then the
    sources from the least to the most redundant; a source is as redundant as its best cosine
    similarity to any destination.
    """
    batch, size, _ = metric.shape
    positions = torch.arange(size, device=metric.device).expand(batch, size)
    sources, destinations = positions[:, 0::2], positions[:, 1::2]
    redundancy = (metric[:, 0::2] @ metric[:, 1::2].mT).amax(-1)
    return torch.cat([destinations, sources.gather(1, rising(redundancy))], dim=1)


def transition(metric: Tensor, previous: Tensor) -> Tensor:
    """How the tokens of a group (B, N, d) share each token of the previous one (B, P, d).

    (B, N, P), each column a distribution over the new group's tokens (the paper's Eq. 3, where
    the release takes no temperature).
    """
    return (metric @ previous.mT).softmax(dim=1)


def _visit(
    metric: Tensor,
    importance: Tensor,
    stay_of: Stays,
    backward: bool,
    score: Score,
    first_kept: Tensor | None,
) -> tuple[Tensor, dict[int, Tensor]]:
    """Visit the groups in turn; kept positions within each group, (B, G, N - drop), and the
    accumulated redundancy (B, N) of each group for which it was asked."""
    groups = importance.shape[1]
    order = list(range(groups))[::-1] if backward else list(range(groups))
    first, *later = order
    kept = {first: stay_of(bipartite_order(metric[:, first]))}
    if first_kept is not None:
        kept[first] = first_kept
    # The group visited second sees every token of the first, dropped ones included, at weight 1.
    previous, accumulated = metric[:, first], torch.ones_like(importance[:, first])
    found: dict[int, Tensor] = {}
    for group in later:
        if score == "semantic":
            kept[group] = stay_of(rising(1 - importance[:, group]))
            continue
        redundancy = accumulated_redundancy(metric[:, group], previous, accumulated)
        found[group] = redundancy
        stay = stay_of(rising(sta_score(redundancy, importance[:, group], score)))
        previous = metric[:, group].gather(1, stay[..., None].expand(-1, -1, metric.shape[-1]))
        accumulated = redundancy.gather(1, stay)
        accumulated = accumulated / accumulated.sum(-1, keepdim=True)
        kept[group] = stay
    return torch.stack([kept[group] for group in range(groups)], dim=1), found


def accumulated_redundancy(metric: Tensor, previous: Tensor, accumulated: Tensor) -> Tensor:
    """How much of what came before each token repeats, (B, N); large means seen often.

    `metric` (B, N, d) of the new group, `previous` (B, P, d) and `accumulated` (B, P) of
    the tokens kept in the group before: its redundancy, summing to 1 (the paper's Eq. 4).
    """
    # A product also where all weights are 1: a sum rounds differently, and flips close ranks
    # against the release.
    return (transition(metric, previous) @ accumulated[..., None]).squeeze(-1)


def sta_score(redundancy: Tensor, importance: Tensor, score: Score) -> Tensor:
    """What ranks the tokens, (B, N): the largest go (the paper's Eq. 5)."""
    return redundancy if score == "temporal" else redundancy * (1 - importance)


def _check(tokens: Tensor, keys: Tensor, groups: int, drop: int) -> None:
    length = tokens.shape[1]
    if keys.shape[:2] != tokens.shape[:2]:
        raise ValueError(
            f"keys of shape {tuple(keys.shape)} do not match tokens of shape "
            f"{tuple(tokens.shape)}: both need the same batch and number of tokens"
        )
    if groups < 1 or length % groups:
        raise ValueError(f"groups={groups} must divide the {length} tokens of a clip")
    if not 0 <= drop < length // groups:
        raise ValueError(
            f"drop={drop} must be at least 0 and less than the {length // groups} tokens that a "
            f"group holds"
        )


def spared_by_cells(draws: Tensor, grid_shape: tuple[int, int] | None, drop: int) -> Tensor:
    """Drop one random token from each of `drop` cells; the rest in order, (B, N - drop) int64.

    `draws` (B, N) int64: a random word per token. A whole frame of `grid_shape` (rows,
    columns) and a square number of cells are split into square-root by square-root cells, as in
    the paper. It does not say what is done elsewhere: we cut the group into that many runs of
    consecutive tokens.
    """
    batch, size = draws.shape
    cell = _cells(size, grid_shape, drop, draws)
    outside = cell != torch.arange(drop, device=draws.device)[:, None]
    dropped = draws[:, None].masked_fill(outside, -1).argmax(-1)
    is_dropped = torch.zeros(batch, size, dtype=torch.int64, device=draws.device)
    is_dropped = is_dropped.scatter(1, dropped, 1)
    return rising(is_dropped)[:, : size - drop]


def _cells(size: int, grid_shape: tuple[int, int] | None, drop: int, like: Tensor) -> Tensor:
    """The cell (0 to drop - 1) of each of `size` positions, (N,) int64."""
    positions = torch.arange(size, device=like.device)
    side = isqrt(drop)
    if grid_shape is None or side * side != drop or side > min(grid_shape):
        return positions * drop // size
    rows, columns = grid_shape
    return positions // columns * side // rows * side + positions % columns * side // columns


@dataclass(frozen=True, kw_only=True)
class STA(Dropping):
    """Semantic-aware temporal accumulation. Every default is the authors' release.

    `order`: the direction in which each stage visits its groups, F(orwards) or B(ackwards);
    None alternates F, B, F. `similarity`: what likeness is taken from: the block's head-mean
    key, query or value, or the block's output (the paper's "FFN", as we read it). `score`: both
    factors, the temporal or the semantic alone. `first_group`: how the group visited first is
    thinned; "grid" and "random" draw per clip, from `seed`. `backend`: which code selects, torch or
    Triton's kernels; "auto" takes these on CUDA wherever they can (see `sta_backend`).

    >>> STA(r=64).plan(depth=12, grid=TokenGrid(frames=8, rows=14, columns=14))[0].kept
    1056
    """

    order: str | None = None
    similarity: Literal["key", "query", "value", "output"] = "key"
    score: Score = "both"
    first_group: Literal["bipartite", "grid", "random"] = "bipartite"
    seed: int = 0
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seed(self.seed)
        for name, known in (
            ("similarity", SIMILARITIES),
            ("score", SCORES),
            ("first_group", FIRST_GROUPS),
            ("backend", BACKENDS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is not known; choose one of {', '.join(known)}"
                )
        if self.order is not None and (
            not isinstance(self.order, str)
            or len(self.order) != self.num_stages
            or set(self.order) - set("FB")
        ):
            raise ValueError(
                f"order={self.order!r} must hold one F or B for each of the {self.num_stages} "
                f"stages, such as {'FBFB' * self.num_stages:.{self.num_stages}}"
            )

    @property
    def chooses_by(self) -> frozenset[Need]:
        """What similarity is taken from, and clip keys where the first group is drawn."""
        taken: dict[str, frozenset[Need]] = {
            "key": frozenset({"keys"}),
            "query": frozenset({"queries"}),
            "value": frozenset({"values"}),
            "output": frozenset(),
        }
        drawn: frozenset[Need] = frozenset({"clip_keys"})
        return taken[self.similarity] | (frozenset() if self.first_group == "bipartite" else drawn)

    def choose(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Tensor:
        """Keep `stage.kept` of tokens (B, N, C). See Note [order of kept tokens]."""
        similar = self._similar(tokens, signals)
        if stage.drop and sta_takes_triton(self.backend, tokens, similar, stage):
            _check(tokens, similar, stage.groups, stage.drop)
            return self._by_triton(tokens, similar, layout, stage)
        return select(tokens, similar, **self._rule(layout, stage))

    def scores(
        self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage
    ) -> dict[str, Tensor]:
        """Redundancy, importance and score of tokens (B, N, C), each (B, N); see `scores`."""
        return scores(tokens, self._similar(tokens, signals), **self._rule(layout, stage))

    def _by_triton(self, tokens: Tensor, similar: Tensor, layout: Layout, stage: Stage) -> Tensor:
        """The same, with what is drawn for the group visited first in its place."""
        backward = self._backward(stage)
        keep = select_by_triton(tokens, similar, stage.groups, stage.drop, backward, self.score)
        drawn = self._first_kept(layout, stage, backward)
        if drawn is None:
            return keep
        start = (stage.groups - 1) * stage.group_size if backward else 0
        first, rest = drawn + start, keep.unflatten(1, (stage.groups, -1))
        rest = rest[:, :-1].flatten(1) if backward else rest[:, 1:].flatten(1)
        return torch.cat([rest, first] if backward else [first, rest], 1)

    def _similar(self, tokens: Tensor, signals: Signals) -> Tensor:
        """What likeness is taken from, (B, N, d)."""
        similar = {
            "key": signals.keys,
            "query": signals.queries,
            "value": signals.values,
            "output": tokens,
        }[self.similarity]
        assert similar is not None, "the model computes what needs names"
        return similar

    def _rule(self, layout: Layout, stage: Stage) -> dict[str, Any]:
        """The options of `select` at a stage."""
        backward = self._backward(stage)
        return {
            "groups": stage.groups,
            "drop": stage.drop,
            "backward": backward,
            "score": self.score,
            "first_kept": self._first_kept(layout, stage, backward),
            "stay_of": partial(chosen, stage=stage),
        }

    def _backward(self, stage: Stage) -> bool:
        if self.order is None:
            return stage.index % 2 == 1
        return self.order[stage.index] == "B"

    def _first_kept(self, layout: Layout, stage: Stage, backward: bool) -> Tensor | None:
        """The random first-group rules; None leaves the bipartite one in place."""
        if self.first_group == "bipartite":
            return None
        assert layout.clip_keys is not None, "the model computes what needs names"
        size = stage.group_size
        origin = layout.origin[:, -size:] if backward else layout.origin[:, :size]
        draws = draw(layout.clip_keys, origin, seed=self.seed, stage=stage.index)
        if self.first_group == "random":
            stay = chosen(rising(draws), stage)
            return stay if stage.quotas else stay.sort(dim=-1).values
        grid = layout.grid
        frames_are_whole = stage.entering == grid.tokens and stage.groups == grid.frames
        shape = (grid.rows, grid.columns) if frames_are_whole else None
        spared = spared_by_cells(draws, shape, stage.drop)
        return chosen(torch.cat([spared, dropped(spared, size)], 1), stage)
