"""What the forward loop asks of a model family."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from vidprune.layout import TokenGrid

# Kinds of module that every family counts apart: attention's products, and what is not in a block.
ATTENTION, EMBEDDING, HEAD = "attention products", "embedding", "head"

Signal = Literal["keys", "queries", "values"]
SIGNALS: tuple[Signal, ...] = ("keys", "queries", "values")


@cache
def compiled_half(function: Callable[..., Any]) -> Callable[..., Any]:
    """Half a block, as a function of its layer and tokens, compiled once for all blocks and any
    number of tokens: a model that prunes has as many lengths as stages."""
    return torch.compile(function, dynamic=True, fullgraph=True)


class Shape(Protocol):
    """What a configuration alone tells of a model: how its tokens lie and what its parts cost.

    Costs are multiply-accumulates of one clip, by kind of module.
    """

    @property
    def depth(self) -> int:
        """How many blocks there are."""
        ...

    @property
    def grid(self) -> TokenGrid:
        """The token grid of a clip of the size that the model is configured for."""
        ...

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, channels, height, width) of the clips that the model is configured for."""
        ...

    def patches(self, pixel_values: Tensor) -> Tensor:
        """The pixels of each token's tube, (B, N, t, P): t frames of P numbers."""
        ...

    def widths(self, block: int) -> tuple[int, int]:
        """Channels of a token that enters a block, and of its head-mean key."""
        ...

    def embed_macs(self) -> dict[str, int]:
        """What `embed` costs."""
        ...

    def attend_macs(self, block: int, tokens: int) -> dict[str, int]:
        """What `attend` costs over so many tokens."""
        ...

    def attention_map_macs(self, block: int, tokens: int) -> int:
        """What `attention_map` costs over so many tokens."""
        ...

    def feed_forward_macs(self, block: int, tokens: int) -> dict[str, int]:
        """What `feed_forward` costs over so many tokens."""
        ...

    def classify_macs(self, tokens: int) -> dict[str, int]:
        """What `classify` costs over so many tokens."""
        ...


class Backbone(Shape, Protocol):
    """A classifier seen as embed, attend, feed_forward and classify over its own modules.

    An adapter holds the model and nothing else: it is made anew wherever it is needed, adds no
    parameter and changes none. Run in turn with nothing dropped, its parts are the model's own
    forward, bit for bit. Tokens are (B, N, C), time-major.
    """

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Pixels (B, T, 3, H, W), normalised, to tokens."""
        ...

    def attend(
        self, block: int, tokens: Tensor, key_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The attention half of a block with its residual; also its normalised input.

        `key_bias` (B, N) is added to every query's logits before the softmax; None is no bias.
        """
        ...

    def head_mean(self, block: int, normalised: Tensor, signal: Signal) -> Tensor:
        """The keys, queries or values of a block, averaged over its heads, (B, N, d)."""
        ...

    def attention_map(self, block: int, normalised: Tensor, key_bias: Tensor | None) -> Tensor:
        """The attention weights of a block, averaged over its heads, (B, N, N) float32."""
        ...

    def feed_forward(self, block: int, tokens: Tensor) -> Tensor:
        """The MLP half of a block with its residual."""
        ...

    def classify(self, tokens: Tensor, weights: Tensor | None = None) -> Tensor:
        """The tokens that are left to logits (B, classes).

        `weights` (B, N), summing to 1: how much each counts where tokens are averaged; None: alike.
        """
        ...
