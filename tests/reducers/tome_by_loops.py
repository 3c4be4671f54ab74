"""Token merging written from the paper with loops, one clip at a time: slow, and easy to check.

Sizes are taken literally: a token that stands for n is there n times where it is attended to, and
n times where tokens are averaged.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = float(np.sqrt(np.sum(one**2)) * np.sqrt(np.sum(other**2)))
    return float(np.sum(one * other)) / lengths if lengths else 0.0


def match(keys: np.ndarray, merge: int) -> tuple[list[int], dict[int, int]]:
    """Positions that stay, in their new order, and which of them each of the others joins."""
    edges = {}
    for source in range(0, len(keys), 2):
        best = None
        for destination in range(1, len(keys), 2):
            likeness = cosine(keys[source], keys[destination])
            if best is None or likeness > best[0]:
                best = (likeness, destination)
        edges[source] = best
    ranked = sorted(edges, key=lambda source: -edges[source][0])
    stay = ranked[merge:] + list(range(1, len(keys), 2))
    return stay, {source: edges[source][1] for source in ranked[:merge]}


def merged(
    tokens: Tensor, sizes: list[int], stay: list[int], joins: dict[int, int]
) -> tuple[Tensor, list[int]]:
    rows, totals = [], []
    for position in stay:
        members = [position, *(source for source, to in joins.items() if to == position)]
        total = sum(sizes[member] for member in members)
        rows.append(sum(tokens[member] * sizes[member] for member in members) / total)
        totals.append(total)
    return torch.stack(rows), totals


def repeated(sizes: list[int]) -> list[int]:
    return [position for position, size in enumerate(sizes) for _ in range(size)]


def attention(layer: Any, tokens: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """A block's attention with its residual, and its keys averaged over heads."""
    module = layer.attention.attention
    heads, normalised = module.num_attention_heads, layer.layernorm_before(tokens)
    query, key, value = (
        project(normalised).unflatten(-1, (heads, -1)).unbind(1)
        for project in (module.query, module.key, module.value)
    )
    mixed, there = [], repeated(sizes)
    for q, k, v in zip(query, key, value, strict=True):
        logits = q @ k[there].T / q.shape[-1] ** 0.5
        mixed.append(logits.softmax(-1) @ v[there])
    out = layer.attention.output.dense(torch.cat(mixed, dim=-1))
    return tokens + out, sum(key) / heads


def forward(
    model: Any, pixels: Tensor, *, merges: list[int], drop: bool, proportional: bool
) -> tuple[Tensor, list[list[int]], list[int]]:
    """Logits of one clip (T, 3, H, W), what stays in each block, and the last sizes."""
    tokens = model.videomae.embeddings(pixels[None], None)[0]
    sizes, stages = [1] * len(tokens), []
    for layer, merge in zip(model.videomae.encoder.layer, merges, strict=True):
        tokens, keys = attention(layer, tokens, sizes if proportional else [1] * len(tokens))
        if merge:
            stay, joins = match(keys.numpy(), merge)
            tokens, sizes = merged(tokens, sizes, stay, {} if drop else joins)
            stages.append(stay)
        hidden = layer.intermediate(layer.layernorm_after(tokens))
        tokens = layer.output(hidden, tokens)
    mean = tokens[repeated(sizes)].mean(0)
    return model.classifier(model.fc_norm(mean)), stages, sizes
