"""The trajectory sum: how much of the last frame was there before (Ding et al. 2023, Eq. 6)."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vidprune.insight.watching import Watched
from vidprune.layout import Layout, TokenGrid


def trajectory_sum(
    tokens: Tensor, origin: Tensor, grid: TokenGrid, *, valid: Tensor | None = None
) -> Tensor:
    """For each token of the last frame the sum over earlier frames of its highest cosine similarity
    to a token of that frame; the mean over these tokens, (B,) float32.

    `tokens` (B, K, C), at the places `origin` (B, K) int64 of `grid`; `valid` (B, K) bool is False
    for padding. From -F to F, where F is the number of earlier frames: large means that time
    brings little new. A frame of which nothing is left adds nothing; NaN where nothing is left of
    the last.
    """
    frames = origin // grid.tokens_per_frame
    if valid is not None:
        frames = frames.masked_fill(~valid, -1)
    unit = normalize(tokens.float(), dim=-1)
    return torch.stack([_of_one(*clip, grid.frames) for clip in zip(unit, frames, strict=True)])


def _of_one(unit: Tensor, frame: Tensor, frames: int) -> Tensor:
    """As `trajectory_sum`, of one clip's tokens (K, C) of length 1 in these frames (K,)."""
    last = unit[frame == frames - 1]
    if not len(last):
        return unit.new_full((), float("nan"))
    total = unit.new_zeros(len(last))
    for number in range(frames - 1):
        # Frame by frame: all likenesses at once would be larger than a pyramid's activations.
        earlier = unit[frame == number]
        if len(earlier):
            total = total + (last @ earlier.mT).amax(1)
    return total.mean()


def trajectory_sums(watched: Watched) -> tuple[Tensor, ...]:
    """The trajectory sum of what came out of each block, each (B,)."""
    return tuple(_of_layout(output.tokens, output.layout) for output in watched.outputs)


def _of_layout(tokens: Tensor, layout: Layout) -> Tensor:
    return trajectory_sum(tokens, layout.origin, layout.grid, valid=layout.valid)
