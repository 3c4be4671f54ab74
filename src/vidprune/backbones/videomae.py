"""VideoMAE (Tong et al., NeurIPS 2022) and VideoMAE V2 (Wang et al., CVPR 2023) as Hugging Face
transformers writes them.

A plain ViT over 2x16x16 tubes with fixed positions, no class token, and a mean-pooled head. Every
name of transformers' modules that vidprune relies on stands in this file.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vidprune.backbones.attention import fused, heads_of, mean_map
from vidprune.backbones.base import Signal
from vidprune.backbones.vit import ViTBackbone, ViTShape, pair, weighted_mean
from vidprune.layout import Layout

_PROJECTIONS: dict[Signal, str] = {"keys": "key", "queries": "query", "values": "value"}


def patch_sides(config: Any) -> tuple[int, int]:
    """Height and width of a patch, in pixels."""
    return pair(config.patch_size)


@dataclass(frozen=True)
class VideoMAEShape(ViTShape):
    """`Shape` of a configuration."""

    @property
    def tube(self) -> tuple[int, int, int]:
        """Frames, height and width of a token's tube."""
        return (self.config.tubelet_size, *patch_sides(self.config))


def _attend(layer: Any, tokens: Tensor, key_bias: Tensor | None) -> tuple[Tensor, Tensor]:
    normalised = layer.layernorm_before(tokens)
    if key_bias is None:
        return layer.attention(normalised) + tokens, normalised
    return _biased_attention(layer.attention, normalised, key_bias) + tokens, normalised


def _biased_attention(module: Any, normalised: Tensor, key_bias: Tensor) -> Tensor:
    """What the attention module does, which takes no bias itself, with one; still fused."""
    inner = module.attention
    query, key, value = (_heads(inner, normalised, name) for name in ("query", "key", "value"))
    dropout = inner.dropout_prob if inner.training else 0.0
    mixed = fused(
        query,
        key,
        value,
        key_bias=key_bias,
        scale=inner.scaling,
        dropout=dropout,
        implementation=inner.config._attn_implementation,
    )
    output: Tensor = module.output(mixed, normalised)
    return output


def _feed_forward(layer: Any, tokens: Tensor) -> Tensor:
    output: Tensor = layer.output(layer.intermediate(layer.layernorm_after(tokens)), tokens)
    return output


def _heads(inner: Any, normalised: Tensor, name: str) -> Tensor:
    """One projection, split into heads, (B, H, N, d)."""
    return heads_of(getattr(inner, name)(normalised), inner.num_attention_heads)


@dataclass(frozen=True)
class VideoMAEBackbone(VideoMAEShape, ViTBackbone):
    """`Backbone` over VideoMAE's own modules.

    Similarity is taken from the keys as they enter attention: they have neither bias nor rotation.
    """

    attend_half = staticmethod(_attend)
    feed_forward_half = staticmethod(_feed_forward)

    @property
    def encoder(self) -> Any:
        """The bare model, which a classifier holds."""
        return getattr(self.model, "videomae", self.model)

    def layer(self, block: int) -> Any:
        """A VideoMAELayer of transformers."""
        return self.encoder.encoder.layer[block]

    def projection(self, block: int, signal: Signal) -> Any:
        """Each has its own layer."""
        return getattr(self.layer(block).attention.attention, _PROJECTIONS[signal])

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Tubes projected and given their positions."""
        tokens: Tensor = self.encoder.embeddings(pixel_values, None)
        return tokens

    def attention_map(
        self, block: int, normalised: Tensor, layout: Layout, key_bias: Tensor | None
    ) -> Tensor:
        """Softmax of queries and keys, head by head."""
        inner = self.layer(block).attention.attention
        query, key = (_heads(inner, normalised, name) for name in ("query", "key"))
        return mean_map(query, key, key_bias=key_bias, scale=inner.scaling)

    def features(self, tokens: Tensor) -> Tensor:
        """Normed, unless the model norms their mean."""
        norm = self.encoder.layernorm
        return tokens if norm is None else norm(tokens)

    def pool(self, features: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean over the tokens that are left, and the norm that a classifier has after it."""
        mean = weighted_mean(features, weights)
        norm = getattr(self.model, "fc_norm", None)
        return mean if norm is None else norm(mean)
