"""From the tokens that stayed back to the full grid."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from vidprune.layout import Layout, TokenGrid
from vidprune.nearest import nearest

Filling = Literal["nearest", "owner"]
FILLINGS = ("nearest", "owner")


def spread(values: Tensor, source: Tensor) -> Tensor:
    """Values (B, K, C) of live tokens copied to every place of the grid, (B, N, C).

    `source` (B, N) int64: which of the live tokens each place takes.
    """
    return values.gather(1, source[..., None].expand(-1, -1, values.shape[-1]))


def sources(layout: Layout, owners: tuple[Tensor, ...], stages: int, filling: Filling) -> Tensor:
    """For each place of the grid the live token that stands for it, (B, N) int64.

    "nearest": the one that lies nearest (see `nearest`); "owner": the one that its token was
    folded into, after all `stages`, of which `owners` has one entry each.

    Raises ValueError for "owner" where tokens were dropped that are nobody's.
    """
    if filling == "nearest":
        return nearest(layout.origin, layout.grid, valid=layout.valid)
    if len(owners) < stages:
        raise ValueError(
            "dense='owner' needs a reducer that folds what it drops, such as tome or sta with "
            "fold=true; this one leaves dropped tokens to nobody: take dense='nearest'"
        )
    whose = torch.arange(layout.grid.tokens, device=layout.origin.device)
    whose = whose.expand(layout.origin.shape[0], -1)
    for owner in owners:
        whose = owner.gather(1, whose)
    return whose


def cell_means(values: Tensor, grid: TokenGrid) -> Tensor:
    """Means of values (B, N, C) over the 2 x 2 places of a frame that patch merging joins, in
    the order of the merged tokens; at an odd border over those that there are."""
    frames = values.unflatten(1, (grid.frames, grid.rows, grid.columns)).flatten(0, 1)
    pooled = avg_pool2d(frames.permute(0, 3, 1, 2), 2, ceil_mode=True, count_include_pad=False)
    merged = pooled.permute(0, 2, 3, 1).flatten(1, 2)
    return merged.unflatten(0, (-1, grid.frames)).flatten(1, 2)
