"""V-JEPA 2 (Assran et al., 2025) as Hugging Face transformers writes it: a plain ViT over 2x16x16
tubes whose positions are rotations of queries and keys, with an attentive pooler as its head.

Similarity is taken from the keys before they are rotated, which is what a token shows and not
where it lies. Every later layer rotates by the places that the survivors came from.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidprune.backbones.attention import as_mask, fused, heads_of, log_weights, mean_map
from vidprune.backbones.base import HEAD, Signal
from vidprune.backbones.vit import ViTBackbone, ViTShape, weighted_mean
from vidprune.layout import Layout, TokenGrid

_PROJECTIONS: dict[Signal, str] = {"keys": "key", "queries": "query", "values": "value"}


@dataclass(frozen=True)
class VJEPA2Shape(ViTShape):
    """`Shape` of a configuration."""

    @property
    def tube(self) -> tuple[int, int, int]:
        """Frames, height and width of a token's tube."""
        config = self.config
        return config.tubelet_size, config.patch_size, config.patch_size

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, channels, height, width) of the configured clips."""
        config = self.config
        return config.frames_per_clip, config.in_chans, config.crop_size, config.crop_size

    @property
    def hidden_width(self) -> int:
        """Channels between the two layers of the MLP."""
        return int(self.config.hidden_size * self.config.mlp_ratio)

    def head_macs(self, tokens: int) -> dict[str, int]:
        """The attentive pooler, self-attention and one cross-attention, and the linear head."""
        if not self.has_head:
            return {HEAD: 0}
        config, width = self.config, self.config.hidden_size
        # The pooler's MLPs are four times as wide, whatever the encoder's ratio.
        selves = tokens * (4 + 8) * width**2 + 2 * tokens**2 * width
        crossing = 2 * tokens * width**2 + (1 + 8) * width**2 + 2 * tokens * width
        return {HEAD: config.num_pooler_layers * selves + crossing + width * config.num_labels}


Places = tuple[Tensor, Tensor, Tensor]


def _attend(
    layer: Any, tokens: Tensor, key_bias: Tensor | None, places: Places | None
) -> tuple[Tensor, Tensor]:
    normalised = layer.norm1(tokens)
    if places is None and key_bias is None:
        mixed, _ = layer.attention(normalised)
    else:
        mixed = _placed_attention(layer.attention, normalised, key_bias, places)
    return layer.drop_path(mixed) + tokens, normalised


def _placed_attention(
    module: Any, normalised: Tensor, key_bias: Tensor | None, places: Places | None
) -> Tensor:
    """What the attention module does, with each token rotated by its own place. The module can be
    told places too, but then works out every angle once per head."""
    query, key = _rotated(module, normalised, places or module.get_position_ids(normalised))
    value = heads_of(module.value(normalised), module.num_attention_heads)
    dropout = module.dropout_prob if module.training else 0.0
    mixed = fused(
        query,
        key,
        value,
        key_bias=key_bias,
        scale=module.scaling,
        dropout=dropout,
        implementation=module.config._attn_implementation,
    )
    output: Tensor = module.proj(mixed)
    return output


def _rotated(module: Any, normalised: Tensor, places: Places) -> tuple[Tensor, Tensor]:
    """Queries and keys (B, H, N, d), each turned by its token's place."""
    query, key = (
        module.apply_rotary_embeddings(
            heads_of(project(normalised), module.num_attention_heads), places
        )
        for project in (module.query, module.key)
    )
    return query, key


def _feed_forward(layer: Any, tokens: Tensor) -> Tensor:
    output: Tensor = layer.drop_path(layer.mlp(layer.norm2(tokens))) + tokens
    return output


def _places(origin: Tensor, grid: TokenGrid) -> Places:
    """Frame, row and column of each token, (B, 1, N) each, alike for all heads."""
    origin = origin[:, None]
    inside = origin % grid.tokens_per_frame
    return origin // grid.tokens_per_frame, inside // grid.columns, inside % grid.columns


@dataclass(frozen=True)
class VJEPA2Backbone(VJEPA2Shape, ViTBackbone):
    """`Backbone` over V-JEPA 2's own modules."""

    attend_half = staticmethod(_attend)
    feed_forward_half = staticmethod(_feed_forward)

    @property
    def encoder(self) -> Any:
        """The encoder; the predictor of the bare model is not run."""
        return getattr(self.model, "vjepa2", self.model).encoder

    def layer(self, block: int) -> Any:
        """A VJEPA2Layer of transformers."""
        return self.encoder.layer[block]

    def projection(self, block: int, signal: Signal) -> Any:
        """Each has its own layer."""
        return getattr(self.layer(block).attention, _PROJECTIONS[signal])

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Tubes projected."""
        tokens: Tensor = self.encoder.embeddings(pixel_values)
        return tokens

    def attend(
        self, block: int, tokens: Tensor, layout: Layout, key_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attention with its residual; the places are told once tokens are missing."""
        whole = tokens.shape[1] == layout.grid.tokens and layout.valid is None
        places = None if whole else _places(layout.origin, layout.grid)
        return self._half(_attend)(self.layer(block), tokens, key_bias, places)

    def attention_map(
        self, block: int, normalised: Tensor, layout: Layout, key_bias: Tensor | None
    ) -> Tensor:
        """Softmax of rotated queries and keys, head by head."""
        module = self.layer(block).attention
        query, key = _rotated(module, normalised, _places(layout.origin, layout.grid))
        return mean_map(query, key, key_bias=key_bias, scale=module.scaling)

    def features(self, tokens: Tensor) -> Tensor:
        """Normed."""
        normed: Tensor = self.encoder.layernorm(tokens)
        return normed

    def pool(self, features: Tensor, weights: Tensor | None = None) -> Tensor:
        """The classifier's attentive pooler; without one, the mean.

        In the pooler's one query every token counts by its weight, as if it were there that often;
        among themselves tokens attend alike, but not to padding.
        """
        pooler = getattr(self.model, "pooler", None)
        if pooler is None:
            return weighted_mean(features, weights)
        if weights is None:
            return pooler(features)
        here = torch.zeros_like(weights).masked_fill(weights == 0, float("-inf"))
        for layer in pooler.self_attention_layers:
            features = layer(features, attention_mask=as_mask(here, features.dtype))[0]
        query = pooler.query_tokens.repeat(features.shape[0], 1, 1)
        mask = as_mask(log_weights(weights), features.dtype)
        return pooler.cross_attention_layer(query, features, mask)[0].squeeze(1)
