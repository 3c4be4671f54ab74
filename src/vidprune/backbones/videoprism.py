"""VideoPrism (Zhao et al., ICML 2024) as Hugging Face transformers writes it: a factorised encoder
over 18x18 patches of single frames, with learned positions and an attentive pooler as its head.

In its first blocks the tokens of a frame attend to each other, in the others those of one place
through time; so the same places have to go from every frame, which leaves tubes. Similarity is
taken from the keys as they enter attention, in space or in time, whichever the block has.
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
    def tube(self) -> tuple[int, int, int]:
        """One frame, and the patch's height and width."""
        length, height, width = self.config.tubelet_size
        return length, height, width

    @property
    def depth(self) -> int:
        """Blocks in space, then blocks in time."""
        return int(self.config.num_spatial_layers + self.config.num_temporal_layers)

    def in_space(self, block: int) -> bool:
        """Whether a block attends within frames, and not along time."""
        return block < self.config.num_spatial_layers

    def pattern(self, block: int) -> Pattern:
        """Frames alike, then tubes; the head takes any tokens."""
        if block == self.depth:
            return Pattern.FREE
        return Pattern.PER_FRAME if self.in_space(block) else Pattern.TUBES

    def attend_macs(self, block: int, tokens: int, quotas: Quotas | None = None) -> dict[str, int]:
        """Projections; and products over each frame, or over each tube."""
        width, frames = self.config.hidden_size, self.grid.frames
        seen = tokens // frames if self.in_space(block) else frames
        return {
            "attention projections": 4 * tokens * width**2,
            ATTENTION: 2 * tokens * seen * width,
        }

    def head_macs(self, tokens: int) -> dict[str, int]:
        """The attentive pooler, whose one query attends in the width of the MLP, and the linear
        head."""
        if not self.has_head:
            return {HEAD: 0}
        config, heads = self.config, self.config.num_attention_heads
        inner = config.intermediate_size // heads * heads
        pooler = 2 * (tokens + 1) * config.hidden_size * inner + 2 * tokens * inner
        return {HEAD: pooler + config.hidden_size * config.num_labels}


@dataclass(frozen=True)
class VideoPrismBackbone(VideoPrismShape, ViTBackbone):
    """`Backbone` over VideoPrism's own modules."""

    attend_half = staticmethod(attend_masked)
    feed_forward_half = staticmethod(feed_forward)

    @property
    def encoder(self) -> Any:
        """The bare model, which a classifier holds."""
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
        """Patches projected and given their positions in space."""
        return _from_frames(self.encoder.spatial_embeddings(pixel_values), self.grid.frames)

    def attend(
        self, block: int, tokens: Tensor, layout: Layout, key_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attention with its residual, frame by frame or place by place, and its input."""
        half, layer, frames = self._half(attend_masked), self.layer(block), layout.grid.frames
        if self.in_space(block):
            bias = None if key_bias is None else _by_frame(key_bias, frames)
            mixed, normalised = half(layer, _by_frame(tokens, frames), bias)
            return _from_frames(mixed, frames), _from_frames(normalised, frames)
        entering = block == self.config.num_spatial_layers
        lines = self._into_time(tokens) if entering else _by_place(tokens, frames)
        bias = None if key_bias is None else _by_place(key_bias, frames)
        mixed, normalised = half(layer, lines, bias)
        return _from_places(mixed, tokens.shape[0]), _from_places(normalised, tokens.shape[0])

    def _into_time(self, tokens: Tensor) -> Tensor:
        """What leaves the blocks in space, normed and given its positions in time, by place."""
        frames, batch = self.grid.frames, tokens.shape[0]
        normed = self.encoder.layernorm1(_by_frame(tokens, frames))
        # Of the shape of the clips it reads these two.
        lines: Tensor = self.encoder.temporal_embeddings(normed, (batch, frames, 0, 0, 0))
        return lines

    def attention_map(
        self, block: int, normalised: Tensor, layout: Layout, key_bias: Tensor | None
    ) -> Tensor:
        """Never asked for: who needs it takes any tokens, and is refused when it is planned."""
        raise AssertionError("refused when the reducer is planned")

    def feed_forward(self, block: int, tokens: Tensor) -> Tensor:
        """The MLP with its residual, in the model's own order: with several threads the last bits
        of a product can depend on where a row stands."""
        if self.in_space(block):
            return super().feed_forward(block, tokens)
        lines = self._half(feed_forward)(self.layer(block), _by_place(tokens, self.grid.frames))
        return _from_places(lines, tokens.shape[0])

    def features(self, tokens: Tensor) -> Tensor:
        """Normed."""
        if not self.config.num_temporal_layers:
            tokens = _from_places(self._into_time(tokens), tokens.shape[0])
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


def _by_frame(values: Tensor, frames: int) -> Tensor:
    """(B, T n, ...) to (B T, n, ...)."""
    return values.unflatten(1, (frames, -1)).flatten(0, 1)


def _from_frames(by_frame: Tensor, frames: int) -> Tensor:
    """The way back from `_by_frame`."""
    return by_frame.unflatten(0, (-1, frames)).flatten(1, 2)


def _by_place(values: Tensor, frames: int) -> Tensor:
    """(B, T n, ...) to (B n, T, ...)."""
    return values.unflatten(1, (frames, -1)).transpose(1, 2).flatten(0, 1)


def _from_places(lines: Tensor, batch: int) -> Tensor:
    """The way back from `_by_place`."""
    return lines.unflatten(0, (batch, -1)).transpose(1, 2).flatten(1, 2)
