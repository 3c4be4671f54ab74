"""What every reducer is: a frozen dataclass that plans its stages and picks tokens at each."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from vidprune.layout import Layout, Level, TokenGrid
from vidprune.reducers.schedule import Stage

Need = Literal[
    "keys",
    "queries",
    "values",
    "attention",
    "pixels",
    "clip_keys",
    "proportional_attention",
]


@dataclass(frozen=True, kw_only=True)
class Signals:
    """What a reducer may ask of the model; only what its `needs` names is computed, else None.

    `keys`, `queries`, `values` (B, N, d): what the block's attention computed, averaged over heads.
    `attention` (B, N, N): its weights, averaged over heads; rows sum to 1. It is computed a
    second time, since fused attention does not give it away: that costs as much as attention.
    `pixels` (B, N, t, P): each token's tube of t frames and P numbers, before block 0 alone.
    """

    keys: Tensor | None = None
    queries: Tensor | None = None
    values: Tensor | None = None
    attention: Tensor | None = None
    pixels: Tensor | None = None


@dataclass(frozen=True)
class Reduction:
    """The outcome of one stage, in which N tokens enter and K go on.

    `keep` (B, K) int64: positions among the tokens that entered, each at most once, in the
    order in which they go on. The order is part of the contract: later stages may depend on it.
    `owner` (B, N) int64: for each token that entered, the place in `keep` of the survivor that
    it is folded into, which for a survivor is its own. None where what is dropped is nobody's.
    `weight` (B, N): how much of each dropped token's size its owner takes on; None for all of it.
    `valid` (B, K) bool: False for padding where clips keep different numbers; None for none.
    """

    keep: Tensor
    owner: Tensor | None = None
    weight: Tensor | None = None
    valid: Tensor | None = None


def dropped(keep: Tensor, entering: int) -> Tensor:
    """The positions that are not in `keep` (B, K), rising, (B, entering - K) int64."""
    stays = torch.zeros(keep.shape[0], entering, dtype=torch.int64, device=keep.device)
    order = stays.scatter(1, keep, 1).sort(dim=-1, stable=True).indices
    return order[:, : entering - keep.shape[1]]


def chosen(order: Tensor, stage: Stage) -> Tensor:
    """Which tokens of each group stay, given all in the order in which they should,
    (..., N) to (..., `stage.kept_per_group`) int64.

    The first ones; with quotas the first ones of each cell, cell by cell.
    """
    quotas = stage.quotas
    if quotas is None:
        return order[..., : stage.kept_per_group]
    cells = torch.tensor(quotas.cells, device=order.device)
    # Stable, so that the order within a cell is kept.
    by_cell = order.gather(-1, cells[order].sort(dim=-1, stable=True).indices)
    first = 0
    stay: list[int] = []
    for cell, kept in enumerate(quotas.kept):
        stay.extend(range(first, first + kept))
        first += quotas.cells.count(cell)
    return by_cell[..., torch.tensor(stay, device=order.device)]


@runtime_checkable
class Reducer(Protocol):
    """Chooses tokens. Stateless: everything it is told stands in its fields.

    `needs` names the signals that it is given, `clip_keys` where it draws, and
    `proportional_attention` where tokens are to be attended to in proportion to their size.
    """

    @property
    def needs(self) -> frozenset[Need]:
        """What the model must compute for it."""
        ...

    def plan(self, depth: int, grid: TokenGrid) -> tuple[Stage, ...]:
        """The stages for a model of `depth` blocks on `grid`, at most one at each place
        of a block.

        Raises ValueError where the settings do not fit, so that nothing runs on a bad plan.
        """
        ...

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        """Reduce tokens (B, N, C) to `stage.kept` per clip; each clip is judged alone."""
        ...


@runtime_checkable
class Scoring(Reducer, Protocol):
    """A reducer that also tells what it judges tokens by."""

    def scores(
        self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage
    ) -> dict[str, Tensor]:
        """By name, in the order of computation, what it makes of tokens (B, N, C): each (B, N),
        NaN where it judges a token otherwise."""
        ...


@runtime_checkable
class LevelReducer(Reducer, Protocol):
    """A reducer that also fits pyramids, whose levels each have a grid of their own."""

    @property
    def gaps(self) -> str:
        """Whether gaps are to be "closed", for which it must keep to quotas (see `chosen`; it is
        tried when it is planned), or "filled"."""
        ...

    def plan_levels(self, levels: tuple[Level, ...]) -> tuple[Stage, ...]:
        """The stages for a pyramid: at the end of each level but the last, on the tokens of the
        next one. They may come back with `quotas`, by which to choose (see `chosen`).

        Raises ValueError where the settings do not fit.
        """
        ...
