"""Attention within windows among kept tokens alone; see Note [packed windows]."""

import torch
from torch import Tensor

from vidprune.backbones.packing import PackedTables
from vidprune.backbones.parts import joined, parts
from vidprune.backbones.window_attention import (
    WindowWeights,
    attend_and_project,
    in_windows,
    taken_out,
)
from vidprune.backbones.windows import APART


def attend_packed(
    attention: WindowWeights, normalised: Tensor, origin: Tensor, tables: PackedTables
) -> Tensor:
    """Attention of the kept tokens `normalised` (B, K, C) among themselves, to the same.

    `origin` (B, K) int64: their flat places in the grid, by which their relative positions and
    with them the biases differ from clip to clip.
    """
    codes = tables.codes[origin][..., None]
    mixed = []
    for members, regions in zip(tables.members, tables.regions, strict=True):
        pairs = normalised.shape[0] * attention.heads * members.shape[1] ** 2
        bytes_each = pairs * normalised.element_size()
        for part in parts(members.shape[0], bytes_each, normalised.device):
            rows = members[part][:, None]
            bias = _bias(attention, in_windows(codes, rows).flatten(0, 1).squeeze(-1), regions)
            mixed.append(attend_and_project(attention, in_windows(normalised, rows), bias))
    # Every kept token is a member once.
    return taken_out(joined(mixed, 0), tables.homes[None])


def _bias(attention: WindowWeights, codes: Tensor, regions: Tensor | None) -> Tensor:
    """What is added to queries by keys of windows with these `codes` (W, m): (W, heads, m, m)."""
    table = attention.relative_position_bias_table.t().contiguous()
    # A token and itself are in the middle of the table.
    row = codes[:, :, None] - codes[:, None] + table.shape[1] // 2
    if regions is not None:
        # Behind the table stands another, for tokens that may not attend each other.
        row = row + ~regions * table.shape[1]
        table = torch.cat([table, table + APART], 1)
    # Every head reads the same indices: on a CPU several times as fast as to index the table.
    bias = table.gather(1, row.flatten().expand(table.shape[0], -1))
    return bias.unflatten(1, row.shape).transpose(0, 1)
