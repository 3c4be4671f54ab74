"""Attention within windows among kept tokens alone; see Note [packed windows]."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from vidprune.backbones.packing import Packing
from vidprune.backbones.window_attention import APART, WindowWeights
from vidprune.backbones.windows import Cut


def attend_packed(
    attention: WindowWeights, normalised: Tensor, origin: Tensor, packing: Packing
) -> Tensor:
    """Attention of the kept tokens `normalised` (B, K, C) among themselves, to the same.

    `origin` (B, K) int64: their flat places in the grid, by which their relative positions and
    with them the biases differ from clip to clip.
    """
    batch, device = normalised.shape[0], normalised.device
    clips = torch.arange(batch, device=device)[:, None]
    qkv = attention.qkv(normalised)
    # Windows before clips: those of one kind are then a slice, for all clips together.
    rows = packing.members(device)[:, None] + clips * qkv.shape[1]
    windows = qkv.reshape(-1, qkv.shape[2]).index_select(0, rows.flatten())
    windows = windows.view(*rows.shape, 3, attention.heads, -1)
    codes = _codes(origin, packing.cut).flatten()[rows].int()
    mixed, first = [], 0
    for kind, count in enumerate(packing.cut.kinds):
        regions = packing.regions(kind, device)
        part = slice(first, first + count)
        query, key, value = windows[part].flatten(0, 1).transpose(1, 3).unbind(2)
        bias = _bias(attention, codes[part].flatten(0, 1), packing.cut, regions)
        out = scaled_dot_product_attention(query, key, value, attn_mask=bias.to(qkv.dtype))
        mixed.append(out.transpose(1, 2).flatten(2))
        first += count
    together = torch.cat(mixed).flatten(0, 1)
    # Every kept token is a member once.
    homes, members = packing.homes(device), rows.shape[2]
    rows = (homes // members * batch + clips) * members + homes % members
    return attention.proj(together.index_select(0, rows.flatten()).unflatten(0, rows.shape))


def _codes(origin: Tensor, cut: Cut) -> Tensor:
    """A number per token (B, K), of which the difference of two, with `_middle`, is the row of
    the table of relative position biases."""
    inside = cut.homes(origin.device)[origin] % cut.places_per_window
    _, rows, columns = cut.window
    time, row, column = inside // (rows * columns), inside // columns % rows, inside % columns
    return (time * (2 * rows - 1) + row) * (2 * columns - 1) + column


def _middle(cut: Cut) -> int:
    """The row of the table for a token and itself."""
    frames, rows, columns = cut.window
    return ((frames - 1) * (2 * rows - 1) + rows - 1) * (2 * columns - 1) + columns - 1


def _bias(attention: WindowWeights, codes: Tensor, cut: Cut, regions: Tensor | None) -> Tensor:
    """What is added to queries by keys of windows with these `codes` (W, m): (W, heads, m, m)."""
    apart = (codes[:, :, None] - codes[:, None] + _middle(cut)).flatten()
    # Head by head: to look numbers up in one row of the table is several times as fast.
    rows = attention.relative_position_bias_table.t().contiguous().unbind()
    bias = torch.stack([row.index_select(0, apart) for row in rows])
    bias = bias.view(-1, codes.shape[0], codes.shape[1], codes.shape[1])
    if regions is not None:
        bias = torch.where(regions, bias, bias + APART)
    return bias.transpose(0, 1)
