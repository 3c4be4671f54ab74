"""What plain video ViTs have in common: tubes of pixels, blocks of one width, attention over all.

A family says in its own file where its configuration and its modules keep things.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vidprune.backbones.attention import head_mean
from vidprune.backbones.base import ATTENTION, EMBEDDING, HEAD, Signal, compiled_half
from vidprune.layout import Layout, Level, Pattern, Quotas, TokenGrid


def pair(sides: int | Sequence[int]) -> tuple[int, int]:
    """Height and width from either one number or two."""
    return (sides, sides) if isinstance(sides, int) else (sides[0], sides[1])


@dataclass(frozen=True)
class ViTShape(ABC):
    """`Shape` of a configuration; `has_head` says whether a classifier's head comes on top."""

    config: Any
    has_head: bool = True
    prefix: ClassVar[int] = 0
    fills: ClassVar[bool] = False

    @property
    @abstractmethod
    def tube(self) -> tuple[int, int, int]:
        """Frames, height and width of what one token shows."""

    @property
    def depth(self) -> int:
        """Blocks in the encoder."""
        return int(self.config.num_hidden_layers)

    @property
    def levels(self) -> tuple[Level, ...]:
        """One."""
        return (Level(grid=self.grid, blocks=self.depth),)

    @property
    def grid(self) -> TokenGrid:
        """The configured token grid."""
        frames, _, height, width = self.clip_shape
        length, patch_height, patch_width = self.tube
        return TokenGrid(
            frames=frames // length, rows=height // patch_height, columns=width // patch_width
        )

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, channels, height, width) of the configured clips."""
        config = self.config
        return (config.num_frames, config.num_channels, *pair(config.image_size))

    @property
    def hidden_width(self) -> int:
        """Channels between the two layers of the MLP."""
        return int(self.config.intermediate_size)

    def pattern(self, block: int) -> Pattern:
        """Attention over all tokens takes any."""
        return Pattern.FREE

    def quotas(self, level: int, kept: int) -> Quotas | None:
        """None are asked for."""
        return None

    def patches(self, pixel_values: Tensor) -> Tensor:
        """Tubes as their frames of pixels."""
        length, height, width = self.tube
        split = pixel_values.unflatten(1, (-1, length)).unflatten(-1, (-1, width))
        split = split.unflatten(-3, (-1, height))
        # batch, time, frame, channel, row, y, column, x
        return split.permute(0, 1, 4, 6, 2, 3, 5, 7).flatten(5).flatten(1, 3)

    def widths(self, block: int) -> tuple[int, int]:
        """The same in every block."""
        config = self.config
        return config.hidden_size, config.hidden_size // config.num_attention_heads

    def embed_macs(self) -> dict[str, int]:
        """One projection of every tube."""
        length, height, width = self.tube
        pixels = self.clip_shape[1] * length * height * width
        return {EMBEDDING: self.grid.tokens * pixels * self.config.hidden_size}

    def attend_macs(self, block: int, tokens: int, quotas: Quotas | None = None) -> dict[str, int]:
        """Query, key, value and output projections; queries by keys, weights by values."""
        width, tokens = self.config.hidden_size, tokens + self.prefix
        return {
            "attention projections": 4 * tokens * width**2,
            ATTENTION: 2 * tokens**2 * width,
        }

    def attention_map_macs(self, block: int, tokens: int) -> int:
        """Queries and keys once more, and their product."""
        width, tokens = self.config.hidden_size, tokens + self.prefix
        return 2 * tokens * width**2 + tokens**2 * width

    def feed_forward_macs(self, block: int, tokens: int) -> dict[str, int]:
        """Two linear layers."""
        width = self.config.hidden_size
        return {"mlp": 2 * (tokens + self.prefix) * width * self.hidden_width}

    def downsample_macs(self, level: int) -> dict[str, int]:
        """There is one level."""
        return {}

    def head_macs(self, tokens: int) -> dict[str, int]:
        """The linear head, where there is one."""
        return {HEAD: self.config.hidden_size * self.config.num_labels if self.has_head else 0}


@dataclass(frozen=True)
class ViTBackbone(ViTShape):
    """`Backbone` over a model's own modules; `config` is the model's. With `compiled` the halves
    of its blocks run compiled.

    A family gives `layer`, `embed`, `features`, `pool` and, as plain functions of a layer so that
    one compiled piece of code serves all blocks, `attend_half` and `feed_forward_half`.
    """

    model: Any = None
    compiled: bool = False
    attend_half: ClassVar[Callable[..., tuple[Tensor, Tensor]]]
    feed_forward_half: ClassVar[Callable[..., Tensor]]

    @abstractmethod
    def layer(self, block: int) -> Any:
        """The model's own module of that block."""

    @abstractmethod
    def projection(self, block: int, signal: Signal) -> Any:
        """The linear layer of a block's attention that gives its keys, queries or values."""

    def places(self, device: torch.device) -> Tensor | None:
        """Time-major."""
        return None

    def attend(
        self, block: int, tokens: Tensor, layout: Layout, key_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attention with its residual, and what it was computed from."""
        half = self._half(type(self).attend_half)
        return half(self.layer(block), tokens, key_bias)

    def head_mean(self, block: int, normalised: Tensor, signal: Signal) -> Tensor:
        """Mean over heads, without opening the attention module."""
        projection = self.projection(block, signal)
        return head_mean(projection, normalised, self.config.num_attention_heads)

    def feed_forward(self, block: int, tokens: Tensor) -> Tensor:
        """The MLP with its residual."""
        return self._half(type(self).feed_forward_half)(self.layer(block), tokens)

    def downsample(self, level: int, tokens: Tensor) -> Tensor:
        """There is one level."""
        raise AssertionError("a plain ViT has one level")

    def classify(self, pooled: Tensor) -> Tensor:
        """The linear head."""
        logits: Tensor = self.model.classifier(pooled)
        return logits

    def _half(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return compiled_half(function) if self.compiled else function


def weighted_mean(tokens: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over tokens (B, N, C), each counted by its weight (B, N)."""
    if weights is None:
        return tokens.mean(1)
    return (tokens * weights[..., None]).sum(1).to(tokens.dtype)
