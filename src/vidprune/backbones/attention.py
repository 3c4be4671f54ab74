"""What adapters need of attention besides running a model's own module."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import linear

from vidprune.backbones.attention_in_parts import attend
from vidprune.backbones.onednn import is_linear


def heads_of(projected: Tensor, heads: int) -> Tensor:
    """A projection (B, N, H d) split into heads, (B, H, N, d)."""
    return projected.unflatten(-1, (heads, -1)).transpose(1, 2)


def as_mask(key_bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A bias of keys (B, N) as fused attention takes it, (B, 1, 1, N)."""
    return None if key_bias is None else key_bias[:, None, None].to(dtype)


def fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_bias: Tensor | None = None,
    scale: float,
    dropout: float = 0.0,
    implementation: str | None = None,
) -> Tensor:
    """Fused attention of heads (B, H, N, d), `key_bias` (B, N) added to its logits, joined again
    to (B, N, H d); `implementation` as the model's configuration names it."""
    mask = as_mask(key_bias, query.dtype)
    mixed = attend(
        query, key, value, mask, scale=scale, dropout=dropout, implementation=implementation
    )
    return mixed.flatten(2)


def mean_map(query: Tensor, key: Tensor, *, key_bias: Tensor | None, scale: float) -> Tensor:
    """Softmax of queries and keys (B, H, N, d), averaged over heads, (B, N, N) float32: what
    fused attention never writes down."""
    # Head by head, since all at once would be the largest thing that a forward holds.
    heads: Iterable[tuple[Tensor, Tensor]] = zip(
        (query * scale).unbind(1), key.unbind(1), strict=True
    )
    total = torch.zeros((), device=query.device)
    for q, k in heads:
        weights = q @ k.mT if key_bias is None else q @ k.mT + key_bias[:, None]
        total = total + weights.float().softmax(-1)
    return total / query.shape[1]


def head_mean(projection: Module, normalised: Tensor, heads: int) -> Tensor:
    """A projection of (B, N, C) averaged over its heads, (B, N, d), without opening attention."""
    if not is_linear(projection):
        # Quantised, or with an adapter beside its weight: only it knows what it computes.
        return projection(normalised).unflatten(-1, (heads, -1)).mean(-2)
    return mean_projection(normalised, projection.weight, projection.bias, heads)


def mean_projection(normalised: Tensor, weight: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    """It is linear, so the mean over heads is one projection with the mean weight."""
    mean = weight.unflatten(0, (heads, -1)).mean(0)
    return linear(normalised, mean, None if bias is None else bias.view(heads, -1).mean(0))


def fused_head_mean(qkv: Module, normalised: Tensor, heads: int, third: int) -> Tensor:
    """As `head_mean`, of queries (0), keys (1) or values (2) that one layer projects together."""
    if not is_linear(qkv):
        return qkv(normalised).chunk(3, -1)[third].unflatten(-1, (heads, -1)).mean(-2)
    bias = None if qkv.bias is None else qkv.bias.chunk(3)[third]
    return mean_projection(normalised, qkv.weight.chunk(3)[third], bias, heads)


def fused_parts(qkv: Module, normalised: Tensor, thirds: int) -> Tensor:
    """The first so many thirds of queries, keys and values that one layer projects together."""
    if not is_linear(qkv):
        return torch.cat(qkv(normalised).chunk(3, -1)[:thirds], -1)
    wide = qkv.weight.shape[0] // 3 * thirds
    return linear(normalised, qkv.weight[:wide], None if qkv.bias is None else qkv.bias[:wide])


def log_weights(weights: Tensor) -> Tensor:
    """Weights (B, N) of an average as what attention adds to its logits; 0 becomes -inf. The
    largest is 0, near which half precision is finest; a constant cancels in the softmax."""
    return (weights / weights.amax(-1, keepdim=True)).log()
