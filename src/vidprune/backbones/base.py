"""What the forward loop asks of a model family."""

from collections.abc import Callable, Hashable
from functools import cache
from types import FunctionType
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from vidprune.layout import Layout, Level, Pattern, Quotas, TokenGrid

# Kinds of module that every family counts apart: attention's products, and what is not in a block.
ATTENTION, EMBEDDING, HEAD = "attention products", "embedding", "head"

Signal = Literal["keys", "queries", "values"]
SIGNALS: tuple[Signal, ...] = ("keys", "queries", "values")


@cache
def compiled_half(function: FunctionType, variant: Hashable = None) -> Callable[..., Any]:
    """Half a block, as a function of its layer and tokens, compiled once for all blocks and any
    number of tokens: a model that prunes has as many lengths as stages.

    `variant`: what of its arguments is no tensor and makes it other code. Each has code of its
    own, since compiled code is kept, counted and in the end given up by code object.
    """
    code = function.__code__.replace()
    copy = FunctionType(code, function.__globals__, function.__name__, function.__defaults__)
    return torch.compile(copy, dynamic=True, fullgraph=True)


class Shape(Protocol):
    """What a configuration alone tells of a model: how its tokens lie and what its parts cost.

    Costs are multiply-accumulates of one clip, by kind of module. Wherever tokens are counted, it
    is those of the grid: a model's own tokens (class tokens) come on top and are never reduced.
    """

    @property
    def depth(self) -> int:
        """How many blocks there are."""
        ...

    @property
    def levels(self) -> tuple[Level, ...]:
        """The grids that the blocks see, one after the other; plain ViTs have one."""
        ...

    @property
    def grid(self) -> TokenGrid:
        """The token grid on which a clip of the configured size enters the first block."""
        ...

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, channels, height, width) of the clips that the model is configured for."""
        ...

    @property
    def has_head(self) -> bool:
        """Whether it gives logits, or only features."""
        ...

    @property
    def prefix(self) -> int:
        """How many tokens of its own the model puts before those of the grid."""
        ...

    @property
    def fills(self) -> bool:
        """Whether attention works on whole grids, so that `layout.source` must be known, and
        a token cannot be attended to in proportion to its size."""
        ...

    def pattern(self, block: int) -> Pattern:
        """How regular the tokens must be that attention in a block is given, or, of block
        `depth`, those that `features` is given."""
        ...

    def quotas(self, level: int, kept: int) -> Quotas | None:
        """How many tokens of each cell of a frame have to stay on a level, of `kept` in all;
        None where it does not matter which."""
        ...

    def patches(self, pixel_values: Tensor) -> Tensor:
        """The pixels of each token's tube, (B, N, t, P), time-major: t frames of P numbers."""
        ...

    def widths(self, block: int) -> tuple[int, int]:
        """Channels of a token in a block, and of its head-mean key."""
        ...

    def embed_macs(self) -> dict[str, int]:
        """What `embed` costs."""
        ...

    def attend_macs(self, block: int, tokens: int, quotas: Quotas | None = None) -> dict[str, int]:
        """What `attend` costs over so many tokens, kept by `quotas` or not."""
        ...

    def attention_map_macs(self, block: int, tokens: int) -> int:
        """What `attention_map` costs over so many tokens."""
        ...

    def feed_forward_macs(self, block: int, tokens: int) -> dict[str, int]:
        """What `feed_forward` costs over so many tokens."""
        ...

    def downsample_macs(self, level: int) -> dict[str, int]:
        """What the way from a level to the next costs."""
        ...

    def head_macs(self, tokens: int) -> dict[str, int]:
        """What `pool` and `classify` cost over so many tokens."""
        ...


class Backbone(Shape, Protocol):
    """A model seen as embed, attend, feed_forward, pool and classify over its own modules.

    An adapter holds the model and nothing else: it is made anew wherever it is needed, adds no
    parameter and changes none. Run in turn with nothing dropped, its parts are the model's own
    forward, bit for bit. Tokens are (B, P + N, C): the model's own P before those of the grid.
    """

    def layer(self, block: int) -> Any:
        """The model's own module of a block, with all weights of that block in it."""
        ...

    def places(self, device: torch.device) -> Tensor | None:
        """The place (time-major) of each token as `embed` gives them, (N,) int64; None where
        they are time-major already."""
        ...

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Pixels (B, T, 3, H, W), normalised, to tokens."""
        ...

    def attend(
        self, block: int, tokens: Tensor, layout: Layout, key_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The attention half of a block with its residual; also its normalised input.

        `layout` says where the tokens lie. `key_bias` (B, P + N) is added to every query's logits
        before the softmax; None is no bias.
        """
        ...

    def head_mean(self, block: int, normalised: Tensor, signal: Signal) -> Tensor:
        """The keys, queries or values of a block, averaged over its heads, (B, N, d)."""
        ...

    def attention_map(
        self, block: int, normalised: Tensor, layout: Layout, key_bias: Tensor | None
    ) -> Tensor:
        """The attention weights of a block, averaged over its heads, (B, P + N, P + N) float32."""
        ...

    def feed_forward(self, block: int, tokens: Tensor) -> Tensor:
        """The MLP half of a block with its residual."""
        ...

    def downsample(self, level: int, tokens: Tensor) -> Tensor:
        """The tokens of a whole level to those of the whole next one."""
        ...

    def features(self, tokens: Tensor) -> Tensor:
        """What the model's encoder gives as its last hidden state, (B, P + N, C)."""
        ...

    def pool(self, features: Tensor, weights: Tensor | None = None) -> Tensor:
        """One vector per clip, (B, C).

        `weights` (B, N), summing to 1: how much each counts where tokens are averaged; None: alike.
        """
        ...

    def classify(self, pooled: Tensor) -> Tensor:
        """Logits (B, classes)."""
        ...
