"""VideoPrism (Zhao et al., ICML 2024) as Hugging Face transformers writes it: blocks that attend
within frames, then blocks that attend through time at one place, and an attentive pooler.

The second kind has one line of tokens per place, so only tubes may be pruned: the same places in
every frame. Similarity is taken from the keys as they enter attention.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vidprune.backbones.attention import as_mask, log_weights
from vidprune.backbones.base import ATTENTION, HEAD, Signal
from vidprune.backbones.vit import ViTBackbone, ViTShape, weighted_mean
from vidprune.backbones.vivit import attend_masked, feed_forward
from vidprune.layout import Layout, Pattern, Quotas

_PROJECTIONS: dict[Signal, str] = {"keys": "k_proj", "queries": "q_proj", "values": "v_proj"}


@dataclass(frozen=True)
class VideoPrismShape(ViTShape):
    """`Shape` of a configuration."""

    @property
    def depth(self) -> int:
        """Spatial blocks, then temporal ones."""
        return int(self.config.num_spatial_layers + self.config.num_temporal_layers)

    @property
    def tube(self) -> tuple[int, int, int]:
        """Frames, height and width of a token's tube."""
        length, height, width = self.config.tubelet_size
        return length, height, width

    def pattern(self, block: int) -> Pattern:
        """As many in every frame; in temporal blocks the same places; then any."""
        if block == self.depth:
            return Pattern.FREE
        return Pattern.PER_FRAME if self.in_space(block) else Pattern.TUBES

    def in_space(self, block: int) -> bool:
        """Whether a block attends within frames."""
        return block < self.config.num_spatial_layers

    def attend_macs(self, block: int, tokens: int, quotas: Quotas | None = None) -> dict[str, int]:
        """Four projections; products within frames or through time."""
        width, frames = self.config.hidden_size, self.grid.frames
        seen = tokens // frames if self.in_space(block) else frames
        return {
            "attention projections": 4 * tokens * width**2,
            ATTENTION: 2 * tokens * seen * width,
        }

    def head_macs(self, tokens: int) -> dict[str, int]:
        """The attentive pooler, whose heads are as wide as the MLP, and the linear head."""
        config, width = self.config, self.config.hidden_size
        if not self.has_head:
            return {HEAD: 0}
        inner = config.intermediate_size
        pooler = 2 * (tokens + 1) * width * inner + 2 * tokens * inner
        return {HEAD: pooler + width * config.num_labels}


@dataclass(frozen=True)
class VideoPrismBackbone(VideoPrismShape, ViTBackbone):
    """`Backbone` over VideoPrism's own modules."""

    attend_half = staticmethod(attend_masked)
    feed_forward_half = staticmethod(feed_forward)

    @property
    def encoder(self) -> Any:
        """The bare vision model, which a classifier holds."""
        return getattr(self.model, "vision_model", self.model)

    def layer(self, block: int) -> Any:
        """A VideoPrismLayer of transformers."""
        if self.in_space(block):
            return self.encoder.spatial_layers[block]
        return self.encoder.temporal_layers[block - self.config.num_spatial_layers]

    def projection(self, block: int, signal: Signal) -> Any:
        """Each has its own layer."""
        return getattr(self.layer(block).attention, _PROJECTIONS[signal])

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Tubes projected and given their places in the frame."""
        by_frame: Tensor = self.encoder.spatial_embeddings(pixel_values)
        return by_frame.unflatten(0, (pixel_values.shape[0], -1)).flatten(1, 2)

    def attend(
        self, block: int, tokens: Tensor, layout: Layout, key_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attention with its residual, frame by frame or place by place."""
        half, layer, frames = self._half(attend_masked), self.layer(block), layout.grid.frames
        split = _frames if self.in_space(block) else _lines
        bias = None if key_bias is None else split(key_bias[..., None], frames)[..., 0]
        if self.in_space(block):
            mixed, normalised = half(layer, _frames(tokens, frames), bias)
            return _from_frames(mixed, frames), _from_frames(normalised, frames)
        lines = _lines(tokens, frames)
        if block == self.config.num_spatial_layers:
            entered = self.encoder.layernorm1(lines)
            temporal = self.encoder.temporal_embeddings
            lines = temporal.dropout(entered + temporal.position_embeddings)
        places = tokens.shape[1] // frames
        mixed, normalised = half(layer, lines, bias)
        return _from_lines(mixed, places), _from_lines(normalised, places)

    def attention_map(
        self, block: int, normalised: Tensor, layout: Layout, key_bias: Tensor | None
    ) -> Tensor:
        """Never asked for: who needs it takes any tokens, and is refused when it is planned."""
        raise AssertionError("refused when the reducer is planned")

    def features(self, tokens: Tensor) -> Tensor:
        """Normed."""
        normed: Tensor = self.encoder.layernorm2(tokens)
        return normed

    def pool(self, features: Tensor, weights: Tensor | None = None) -> Tensor:
        """The classifier's attentive pooler (B, 1, C), in whose one query every token counts by
        its weight; without one, the mean (B, C)."""
        if not hasattr(self.model, "head"):
            return weighted_mean(features, weights)
        mask = None if weights is None else as_mask(log_weights(weights), features.dtype)
        pooled: Tensor = self.model.head_layernorm(self.model.head(features, mask)[0])
        return pooled


def _frames(tokens: Tensor, frames: int) -> Tensor:
    """(B, T n, C) to (B T, n, C)."""
    return tokens.unflatten(1, (frames, -1)).flatten(0, 1)


def _from_frames(by_frame: Tensor, frames: int) -> Tensor:
    """The way back from `_frames`."""
    return by_frame.unflatten(0, (-1, frames)).flatten(1, 2)


def _lines(tokens: Tensor, frames: int) -> Tensor:
    """(B, T n, C) to (B n, T, C)."""
    return tokens.unflatten(1, (frames, -1)).transpose(1, 2).flatten(0, 1)


def _from_lines(lines: Tensor, places: int) -> Tensor:
    """The way back from `_lines`."""
    return lines.unflatten(0, (-1, places)).transpose(1, 2).flatten(1, 2)
