"""From the grid of one level of a pyramid to that of another; a plain ViT has one alone."""

import torch
from torch import Tensor

from vidprune.layout import TokenGrid


def parents(fine: TokenGrid, coarse: TokenGrid, device: torch.device | None = None) -> Tensor:
    """For each place of the finer grid the place of the coarser one that covers it, (N,) int64.

    Levels merge two rows and two columns into one, rounded up, as often as it takes.
    """
    assert fine.frames == coarse.frames, "levels share their frames"
    row, column = (
        torch.arange(length, device=device) // factor(length, shorter)
        for length, shorter in ((fine.rows, coarse.rows), (fine.columns, coarse.columns))
    )
    frame = torch.arange(fine.frames, device=device)[:, None, None] * coarse.tokens_per_frame
    return (frame + row[:, None] * coarse.columns + column).flatten()


def factor(length: int, shorter: int) -> int:
    """How many of an axis of `length` places one of the `shorter` axis covers."""
    covers = 1
    while -(-length // covers) > shorter:
        covers *= 2
    return covers


def divided(values: Tensor, fine: TokenGrid, coarse: TokenGrid) -> Tensor:
    """Values (B, coarse places) shared out evenly among the finer places, (B, fine places)."""
    parent = parents(fine, coarse, values.device)
    shares = values / torch.bincount(parent, minlength=coarse.tokens)
    return shares[:, parent]


def collected(values: Tensor, fine: TokenGrid, coarse: TokenGrid) -> Tensor:
    """Sums (B, coarse places) of values (B, fine places) over what each place covers."""
    parent = parents(fine, coarse, values.device)
    sums = values.new_zeros(len(values), coarse.tokens)
    return sums.index_add(1, parent, values)
