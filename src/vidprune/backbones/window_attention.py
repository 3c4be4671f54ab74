"""Attention within windows, over a whole grid or over what is left of one.

# Note [padding is attended to]
Where windows do not fill the grid, the originals append zeros to the normalised tokens and project
them too, so that padding holds the biases of query, key and value and takes part in the softmax.
Their checkpoints were trained so. Here one zero token stands behind the others, and every place
of padding points to it.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from vidprune.backbones.parts import joined, parts
from vidprune.backbones.windows import WindowTables


class WindowWeights(Protocol):
    """What attention within windows needs: projections, heads, biases by relative position.

    `relative_position_bias_table` (rows, heads): see `Cut.offsets`.
    """

    heads: int
    qkv: nn.Linear
    proj: nn.Linear
    relative_position_bias_table: nn.Parameter


def attend_whole(attention: WindowWeights, normalised: Tensor, tables: WindowTables) -> Tensor:
    """Attention over a full grid: `normalised` (B, N, C), time-major, to the same."""
    if tables.padded:
        qkv = attention.qkv(_with_padding(normalised))
        rows = [(places % qkv.shape[1])[:, None] for places in tables.places]
        mixed = _attend(attention, qkv, rows, tables)
        return attention.proj(taken_out(mixed, tables.homes[None]))
    rows = [places[:, None] for places in tables.places]
    mixed = _attend(attention, normalised, rows, tables, inside=True)
    return taken_out(mixed, tables.homes[None])


def attend_filled(
    attention: WindowWeights,
    normalised: Tensor,
    source: Tensor,
    kept_places: Tensor,
    tables: WindowTables,
) -> Tensor:
    """Attention of the kept tokens `normalised` (B, K, C) over a grid filled with copies of them.

    `source` (B, N) int64: for each place of the grid the kept token, 0 to K - 1, whose copy stands
    there. `kept_places` (B, K) int64: the flat places of the kept tokens. Only kept tokens are
    projected, before and after; attention itself costs what it costs over the full grid. The
    result (B, K, C) is that at the kept places; the copies' is discarded (Ding et al. 2023, 4.1).
    """
    kept = normalised.shape[1]
    qkv = attention.qkv(_with_padding(normalised) if tables.padded else normalised)
    standing = pad(source, (0, 1), value=kept) if tables.padded else source
    rows = [_standing_at(places, standing) for places in tables.places]
    mixed = _attend(attention, qkv, rows, tables)
    return attention.proj(taken_out(mixed, tables.homes[kept_places]))


def _standing_at(places: Tensor, standing: Tensor) -> Tensor:
    """Of `standing` (B, N) what is at `places` (W, n), (W, B, n)."""
    inside = places % standing.shape[1]
    return standing.index_select(1, inside.flatten()).unflatten(1, places.shape).transpose(0, 1)


def window_bias(attention: WindowWeights, offsets: Tensor) -> Tensor:
    """What is added to queries by keys by their relative positions, (heads, n, n); `offsets`
    (n, n) as of `Cut.offsets`."""
    # Transposed first: the large tensor is then gathered as it is needed.
    table = attention.relative_position_bias_table.t()
    return table.index_select(1, offsets.flatten()).unflatten(1, offsets.shape)


def _with_padding(normalised: Tensor) -> Tensor:
    """See Note [padding is attended to]."""
    return pad(normalised, (0, 0, 0, 1))


def in_windows(values: Tensor, rows: Tensor) -> Tensor:
    """Values (B, R, C) in windows, by `rows` (W, B or 1, n) of each clip's: (W, B, n, C).

    Windows before clips: those of one kind are then a slice, for all clips together.
    """
    batch, height, width = values.shape
    rows = rows + torch.arange(batch, device=values.device)[:, None] * height
    return values.reshape(-1, width).index_select(0, rows.flatten()).unflatten(0, rows.shape)


def attend_in_windows(attention: WindowWeights, qkv: Tensor, bias: Tensor) -> Tensor:
    """Attention within windows, from `qkv` (W, B, n, 3C) with `bias` (W * B or 1, heads, n, n) to
    (W, B, n, C)."""
    split = qkv.flatten(0, 1).unflatten(2, (3, attention.heads, -1))
    query, key, value = split.transpose(1, 3).unbind(2)
    mixed = scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return mixed.transpose(1, 2).flatten(2).unflatten(0, qkv.shape[:2])


def _attend(
    attention: WindowWeights,
    values: Tensor,
    rows: Sequence[Tensor],
    tables: WindowTables,
    *,
    inside: bool = False,
) -> Tensor:
    """Windows filled from `values` by `rows` (W, B or 1, n) of each kind, and attention within
    them, (all W, B, n, C).

    `values` (B, R, 3C) are projected, and the result is yet to be; or, to project `inside` the
    windows, before and after, (B, R, C): for where no place of theirs is projected in vain.
    """
    relative = window_bias(attention, tables.offsets)
    window = values.shape[0] * relative.shape[-1] * attention.qkv.out_features
    bytes_each = window * values.element_size()
    mixed = []
    for theirs, apart in zip(rows, tables.apart, strict=True):
        bias = (relative if apart is None else relative + apart)[None].to(values.dtype)
        for part in parts(theirs.shape[0], bytes_each, values.device):
            windows = in_windows(values, theirs[part])
            if inside:
                mixed.append(attend_and_project(attention, windows, bias))
            else:
                mixed.append(attend_in_windows(attention, windows, bias))
    return joined(mixed, 0)


def attend_and_project(attention: WindowWeights, windows: Tensor, bias: Tensor) -> Tensor:
    """As `attend_in_windows`, of normalised tokens `windows` (W, B, n, C), projected before and
    after."""
    return attention.proj(attend_in_windows(attention, attention.qkv(windows), bias))


def taken_out(mixed: Tensor, homes: Tensor) -> Tensor:
    """What stands at `homes` (B or 1, K) of every clip's W * n: `mixed` (W, B, n, C) to
    (B, K, C)."""
    _, batch, places, width = mixed.shape
    clip = torch.arange(batch, device=mixed.device)[:, None]
    rows = (homes // places * batch + clip) * places + homes % places
    return mixed.reshape(-1, width).index_select(0, rows.flatten()).unflatten(0, rows.shape)
