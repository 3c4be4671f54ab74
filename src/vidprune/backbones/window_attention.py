"""Attention within windows, over a whole grid or over what is left of one.

# Note [padding is attended to]
Where windows do not fill the grid, the originals append zeros to the normalised tokens and project
them too, so that padding holds the biases of query, key and value and takes part in the softmax.
Their checkpoints were trained so. Here one zero token stands behind the others, and every place
of padding points to it.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from vidprune.backbones.windows import Cut

# Added between places that may not attend each other. Not infinity: the originals leave them a
# share of e^-100, and where all other places are far below, it counts.
APART = -100.0


class WindowWeights(Protocol):
    """What attention within windows needs: projections, heads, biases by relative position.

    `relative_position_bias_table` (rows, heads): see `Cut.offsets`.
    """

    heads: int
    qkv: nn.Linear
    proj: nn.Linear
    relative_position_bias_table: nn.Parameter


def attend_whole(attention: WindowWeights, normalised: Tensor, cut: Cut) -> Tensor:
    """Attention over a full grid: `normalised` (B, N, C), time-major, to the same."""
    qkv = attention.qkv(_with_padding(normalised, cut))
    places = cut.places(normalised.device) % qkv.shape[1]
    mixed = _attend(attention, qkv, places[:, None], cut)
    return attention.proj(_taken_out(mixed, cut.homes(normalised.device)[None]))


def attend_filled(
    attention: WindowWeights, normalised: Tensor, source: Tensor, kept_places: Tensor, cut: Cut
) -> Tensor:
    """Attention of the kept tokens `normalised` (B, K, C) over a grid filled with copies of them.

    `source` (B, N) int64: for each place of the grid the kept token, 0 to K - 1, whose copy stands
    there. `kept_places` (B, K) int64: the flat places of the kept tokens. Only kept tokens are
    projected, before and after; attention itself costs what it costs over the full grid. The
    result (B, K, C) is that at the kept places; the copies' is discarded (Ding et al. 2023, 4.1).
    """
    kept = normalised.shape[1]
    qkv = attention.qkv(_with_padding(normalised, cut))
    standing = pad(source, (0, 1), value=kept) if cut.padded else source
    places = cut.places(normalised.device) % standing.shape[1]
    rows = standing.index_select(1, places.flatten()).unflatten(1, places.shape)
    mixed = _attend(attention, qkv, rows.transpose(0, 1), cut)
    return attention.proj(_taken_out(mixed, cut.homes(normalised.device)[kept_places]))


def window_bias(attention: WindowWeights, cut: Cut) -> Tensor:
    """What is added to queries by keys, (kinds, heads, n, n); see Note [order of windows]."""
    offsets = cut.offsets(attention.relative_position_bias_table.device)
    # Transposed first: the large tensor is then gathered as it is needed.
    table = attention.relative_position_bias_table.t()
    relative = table.index_select(1, offsets.flatten()).unflatten(1, offsets.shape)
    regions = cut.regions(offsets.device)
    if regions is None:
        return relative[None]
    return torch.where(regions[:, None], relative, relative + APART)


def _with_padding(normalised: Tensor, cut: Cut) -> Tensor:
    """See Note [padding is attended to]."""
    return pad(normalised, (0, 0, 0, 1)) if cut.padded else normalised


def _attend(attention: WindowWeights, qkv: Tensor, rows: Tensor, cut: Cut) -> Tensor:
    """Windows filled from `qkv` (B, R, 3C) by `rows` (W, B or 1, n), and attention within them,
    (W, B, n, C)."""
    batch, height, width = qkv.shape
    # Windows before clips: those of one kind are then a slice, for all clips together.
    rows = rows + torch.arange(batch, device=qkv.device)[:, None] * height
    filled = qkv.reshape(-1, width).index_select(0, rows.flatten())
    filled = filled.view(cut.windows, batch, cut.places_per_window, 3, attention.heads, -1)
    bias = window_bias(attention, cut).to(qkv.dtype)
    mixed = []
    for part, added in zip(filled.split(cut.kinds), bias, strict=True):
        query, key, value = part.flatten(0, 1).transpose(1, 3).unbind(2)
        out = scaled_dot_product_attention(query, key, value, attn_mask=added[None])
        mixed.append(out.transpose(1, 2).flatten(2))
    together = mixed[0] if len(mixed) == 1 else torch.cat(mixed)
    return together.unflatten(0, (cut.windows, batch))


def _taken_out(mixed: Tensor, homes: Tensor) -> Tensor:
    """What stands at `homes` (B or 1, K) of every clip's W * n: `mixed` (W, B, n, C) to
    (B, K, C)."""
    _, batch, places, width = mixed.shape
    clip = torch.arange(batch, device=mixed.device)[:, None]
    rows = (homes // places * batch + clip) * places + homes % places
    return mixed.reshape(-1, width).index_select(0, rows.flatten()).unflatten(0, rows.shape)
