"""Position tables at another size or frame count."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vidprune.layout import TokenGrid

PositionRule = Literal["interpolate", "recompute"]
POSITION_RULES = ("interpolate", "recompute")


def sincos_table(tokens: int, width: int) -> Tensor:
    """VideoMAE's fixed table (1, tokens, width) float32: sines at even channels, cosines at odd,
    over the token's number in the flattened clip, not over its row, column and time."""
    channels = torch.arange(width, dtype=torch.float64)
    rates = 10000.0 ** (-2 * (channels // 2) / width)
    angles = torch.arange(tokens, dtype=torch.float64)[:, None] * rates
    return torch.where(channels % 2 == 0, angles.sin(), angles.cos()).float()[None]


def interpolated_table(table: Tensor, *, source: TokenGrid, target: TokenGrid) -> Tensor:
    """A table (1, source tokens, C) stretched over (time, row, column) to (1, target tokens, C).

    Recomputing a table that numbers the flattened tokens would give every patch another number at
    another size; stretching keeps each place near the numbers that the model was trained with.
    """
    shape = (source.frames, source.rows, source.columns)
    volume = table.unflatten(1, shape).permute(0, 4, 1, 2, 3)
    size = (target.frames, target.rows, target.columns)
    stretched = interpolate(volume, size=size, mode="trilinear", align_corners=False)
    return stretched.flatten(2).mT.contiguous()
