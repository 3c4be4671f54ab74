"""VideoSwin once more, written in another way and without vidprune, to test it against.

Plain functions over a state dict in torchvision's layout: grids stay five-dimensional, windows are
cut by rolling and reshaping, the mask comes from numbered regions, and attention is written out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv3d, gelu, layer_norm, linear, pad

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    patch: Sequence[int]
    depths: Sequence[int]
    heads: Sequence[int]
    window: Sequence[int]


def logits(state: State, sizes: Sizes, pixels: Tensor) -> Tensor:
    """Pixels (B, T, channels, H, W) to (B, classes)."""
    x = last_grid(state, sizes, pixels).mean((1, 2, 3))
    return linear(x, state["head.weight"], state["head.bias"])


def last_grid(state: State, sizes: Sizes, pixels: Tensor) -> Tensor:
    """(B, T, H, W, C) after the last norm."""
    x = filled_up(pixels.permute(0, 1, 3, 4, 2), sizes.patch)
    weight, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
    x = conv3d(x.permute(0, 4, 1, 2, 3), weight, bias, stride=tuple(sizes.patch))
    x = normed(state, "patch_embed.norm", x.permute(0, 2, 3, 4, 1))
    for stage, depth in enumerate(sizes.depths):
        for index in range(depth):
            shift = [side // 2 * (index % 2) for side in sizes.window]
            name = f"features.{2 * stage}.{index}"
            x = block(state, name, x, sizes.heads[stage], sizes.window, shift)
        if stage < len(sizes.depths) - 1:
            x = merging(state, f"features.{2 * stage + 1}", x)
    return normed(state, "norm", x)


def block(
    state: State, name: str, x: Tensor, heads: int, window: Sequence[int], shift: Sequence[int]
) -> Tensor:
    x = x + attention(
        state, f"{name}.attn", normed(state, f"{name}.norm1", x), heads, window, shift
    )
    hidden = gelu(projected(state, f"{name}.mlp.0", normed(state, f"{name}.norm2", x)))
    return x + projected(state, f"{name}.mlp.3", hidden)


def merging(state: State, name: str, x: Tensor) -> Tensor:
    x = filled_up(x, (1, 2, 2))
    corners = [x[:, :, i::2, j::2] for j in (0, 1) for i in (0, 1)]
    return projected(
        state, f"{name}.reduction", normed(state, f"{name}.norm", torch.cat(corners, -1))
    )


def attention(
    state: State, name: str, x: Tensor, heads: int, window: Sequence[int], shift: Sequence[int]
) -> Tensor:
    """(B, T, H, W, C) to the same."""
    grid = x.shape[1:4]
    full = list(window)
    shift = [s if side > w else 0 for s, side, w in zip(shift, grid, window, strict=True)]
    window = [min(side, w) for side, w in zip(grid, window, strict=True)]
    x = filled_up(x, window)
    padded = x.shape[1:4]
    x = cut(x.roll([-s for s in shift], (1, 2, 3)), window)
    batch, windows, places, width = x.shape
    qkv = projected(state, f"{name}.qkv", x).view(batch, windows, places, 3, heads, width // heads)
    query, key, value = qkv.permute(3, 0, 1, 4, 2, 5)
    scores = (query * (width // heads) ** -0.5) @ key.transpose(-1, -2)
    scores = scores + relative_bias(state[f"{name}.relative_position_bias_table"], full, places)
    scores = scores + mask(padded, window, shift)[:, None].to(scores.dtype)
    mixed = (scores.softmax(-1) @ value).transpose(2, 3).reshape(batch, windows, places, width)
    x = joined(projected(state, f"{name}.proj", mixed), padded, window)
    return x.roll(list(shift), (1, 2, 3))[:, : grid[0], : grid[1], : grid[2]]


def relative_bias(table: Tensor, window: Sequence[int], places: int) -> Tensor:
    """(heads, n, n) of the first n places of the full window, pair by pair."""
    where = list(torch.cartesian_prod(*(torch.arange(side) for side in window)).tolist())[:places]
    rows = []
    for query in where:
        for key in where:
            t, r, c = (a - b + side - 1 for a, b, side in zip(query, key, window, strict=True))
            rows.append((t * (2 * window[1] - 1) + r) * (2 * window[2] - 1) + c)
    return table[torch.tensor(rows)].view(places, places, -1).permute(2, 0, 1)


def mask(padded: Sequence[int], window: Sequence[int], shift: Sequence[int]) -> Tensor:
    """(windows, n, n): -100 between regions that only the roll has brought together."""
    region = torch.zeros(1, *padded, 1)
    number = 0
    for t in bands(padded[0], window[0], shift[0]):
        for r in bands(padded[1], window[1], shift[1]):
            for c in bands(padded[2], window[2], shift[2]):
                region[:, t, r, c] = number
                number += 1
    regions = cut(region, window)[0, :, :, 0]
    return (regions[:, :, None] != regions[:, None, :]) * -100.0


def bands(side: int, window: int, shift: int) -> list[slice]:
    if not shift:
        return [slice(0, side)]
    return [slice(0, side - window), slice(side - window, side - shift), slice(side - shift, side)]


def cut(x: Tensor, window: Sequence[int]) -> Tensor:
    """(B, T, H, W, C) to (B, windows, n, C)."""
    batch, time, rows, columns, width = x.shape
    t, r, c = window
    x = x.reshape(batch, time // t, t, rows // r, r, columns // c, c, width)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(batch, -1, t * r * c, width)


def joined(x: Tensor, grid: Sequence[int], window: Sequence[int]) -> Tensor:
    """The inverse of `cut`."""
    counts = [side // w for side, w in zip(grid, window, strict=True)]
    x = x.reshape(x.shape[0], *counts, *window, x.shape[-1])
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(x.shape[0], *grid, x.shape[-1])


def filled_up(x: Tensor, multiple: Sequence[int]) -> Tensor:
    """Zeros at the end of the axes 1 to 3."""
    lacks: list[Any] = [-side % m for side, m in zip(x.shape[1:4], multiple, strict=True)]
    return pad(x, (0, 0, 0, lacks[2], 0, lacks[1], 0, lacks[0]))


def normed(state: State, name: str, x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)


def projected(state: State, name: str, x: Tensor) -> Tensor:
    return linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))
