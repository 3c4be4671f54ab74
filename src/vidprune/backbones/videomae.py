"""VideoMAE (Tong et al., NeurIPS 2022) as Hugging Face transformers writes it.

A plain ViT over 2x16x16 tubes with fixed positions, no class token, and a mean-pooled head. Every
name of transformers' modules that vidprune relies on stands in this file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Linear
from torch.nn.functional import linear, scaled_dot_product_attention

from vidprune.backbones.base import ATTENTION, EMBEDDING, HEAD, Signal, compiled_half
from vidprune.layout import TokenGrid

if TYPE_CHECKING:
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification


def grid_of(config: "VideoMAEConfig") -> TokenGrid:
    """The token grid of a clip of the size that a configuration asks for."""
    height, width = _pair(config.image_size)
    patch_height, patch_width = patch_sides(config)
    return TokenGrid(
        frames=config.num_frames // config.tubelet_size,
        rows=height // patch_height,
        columns=width // patch_width,
    )


def patch_sides(config: "VideoMAEConfig") -> tuple[int, int]:
    """Height and width of a patch, in pixels."""
    return _pair(config.patch_size)


def _pair(sides: int | Sequence[int]) -> tuple[int, int]:
    return (sides, sides) if isinstance(sides, int) else (sides[0], sides[1])


@dataclass(frozen=True)
class VideoMAEShape:
    """`Shape` of a configuration."""

    config: "VideoMAEConfig"

    @property
    def depth(self) -> int:
        """Blocks in the encoder."""
        return self.config.num_hidden_layers

    @property
    def grid(self) -> TokenGrid:
        """The configured token grid."""
        return grid_of(self.config)

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, channels, height, width) of the configured clips."""
        config = self.config
        return (config.num_frames, config.num_channels, *_pair(config.image_size))

    def patches(self, pixel_values: Tensor) -> Tensor:
        """Tubes as their frames of pixels, in the order of the tokens."""
        height, width = patch_sides(self.config)
        tubelet = self.config.tubelet_size
        split = pixel_values.unflatten(1, (-1, tubelet)).unflatten(-1, (-1, width))
        split = split.unflatten(-3, (-1, height))
        # batch, time, frame, channel, row, y, column, x
        return split.permute(0, 1, 4, 6, 2, 3, 5, 7).flatten(5).flatten(1, 3)

    def widths(self, block: int) -> tuple[int, int]:
        """The same in every block."""
        config = self.config
        return config.hidden_size, config.hidden_size // config.num_attention_heads

    def embed_macs(self) -> dict[str, int]:
        """One projection of every tube."""
        config = self.config
        height, width = patch_sides(config)
        tube = config.num_channels * config.tubelet_size * height * width
        return {EMBEDDING: self.grid.tokens * tube * config.hidden_size}

    def attend_macs(self, block: int, tokens: int) -> dict[str, int]:
        """Query, key, value and output projections; queries by keys, weights by values."""
        width = self.config.hidden_size
        return {
            "attention projections": 4 * tokens * width**2,
            ATTENTION: 2 * tokens**2 * width,
        }

    def attention_map_macs(self, block: int, tokens: int) -> int:
        """Queries and keys once more, and their product."""
        width = self.config.hidden_size
        return 2 * tokens * width**2 + tokens**2 * width

    def feed_forward_macs(self, block: int, tokens: int) -> dict[str, int]:
        """Two linear layers."""
        config = self.config
        return {"mlp": 2 * tokens * config.hidden_size * config.intermediate_size}

    def classify_macs(self, tokens: int) -> dict[str, int]:
        """The linear head."""
        return {HEAD: self.config.hidden_size * self.config.num_labels}


@dataclass(frozen=True)
class VideoMAEBackbone(VideoMAEShape):
    """`Backbone` over VideoMAE's own modules; `config` is the model's. With `compiled` the halves
    of its blocks run compiled.

    Similarity is taken from the keys as they enter attention: they have neither bias nor rotation.
    """

    model: "VideoMAEForVideoClassification"
    compiled: bool = False

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Tubes projected and given their positions."""
        return self.model.videomae.embeddings(pixel_values, None)

    def attend(
        self, block: int, tokens: Tensor, key_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attention with its residual, and what it was computed from."""
        half = compiled_half(_attend) if self.compiled else _attend
        return half(self.model.videomae.encoder.layer[block], tokens, key_bias)

    def attention_map(self, block: int, normalised: Tensor, key_bias: Tensor | None) -> Tensor:
        """Softmax of queries and keys, which fused attention never writes down, head by head."""
        inner = self.model.videomae.encoder.layer[block].attention.attention
        query, key = (_heads(inner, normalised, name) for name in ("query", "key"))
        # Head by head, since all at once would be the largest thing that a forward holds.
        heads = zip((query * inner.scaling).unbind(1), key.unbind(1), strict=True)
        total = torch.zeros((), device=query.device)
        for q, k in heads:
            weights = q @ k.mT if key_bias is None else q @ k.mT + key_bias[:, None]
            total = total + weights.float().softmax(-1)
        return total / query.shape[1]

    def head_mean(self, block: int, normalised: Tensor, signal: Signal) -> Tensor:
        """Mean over heads, without opening the attention module."""
        attention = self.model.videomae.encoder.layer[block].attention.attention
        projection = {
            "keys": attention.key,
            "queries": attention.query,
            "values": attention.value,
        }[signal]
        heads = attention.num_attention_heads
        if type(projection) is not Linear:
            # Quantised, or with an adapter beside its weight: only it knows what it computes.
            return projection(normalised).unflatten(-1, (heads, -1)).mean(-2)
        # It is linear, so the mean over heads is one projection with the mean weight.
        weight = projection.weight.unflatten(0, (heads, -1)).mean(0)
        bias = projection.bias
        return linear(normalised, weight, None if bias is None else bias.view(heads, -1).mean(0))

    def feed_forward(self, block: int, tokens: Tensor) -> Tensor:
        """The MLP with its residual."""
        half = compiled_half(_feed_forward) if self.compiled else _feed_forward
        return half(self.model.videomae.encoder.layer[block], tokens)

    def classify(self, tokens: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean over the tokens that are left, norm, linear head."""
        if weights is None:
            mean = tokens.mean(1)
        else:
            mean = (tokens * weights[..., None]).sum(1).to(tokens.dtype)
        return self.model.classifier(self.model.fc_norm(mean))


def _attend(layer: Any, tokens: Tensor, key_bias: Tensor | None) -> tuple[Tensor, Tensor]:
    normalised = layer.layernorm_before(tokens)
    if key_bias is None:
        return layer.attention(normalised) + tokens, normalised
    return _biased_attention(layer.attention, normalised, key_bias) + tokens, normalised


def _feed_forward(layer: Any, tokens: Tensor) -> Tensor:
    return layer.output(layer.intermediate(layer.layernorm_after(tokens)), tokens)


def _biased_attention(module: Any, normalised: Tensor, key_bias: Tensor) -> Tensor:
    """What the attention module does, which takes no bias itself, with one; still fused."""
    inner = module.attention
    query, key, value = (_heads(inner, normalised, name) for name in ("query", "key", "value"))
    mixed = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=key_bias[:, None, None].to(query.dtype),
        dropout_p=inner.dropout_prob if inner.training else 0.0,
        scale=inner.scaling,
    )
    return module.output(mixed.transpose(1, 2).flatten(2), normalised)


def _heads(inner: Any, normalised: Tensor, name: str) -> Tensor:
    """One projection, split into heads, (B, H, N, d)."""
    projected = getattr(inner, name)(normalised)
    return projected.unflatten(-1, (inner.num_attention_heads, -1)).transpose(1, 2)
