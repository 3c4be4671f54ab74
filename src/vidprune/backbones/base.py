"""What the forward loop asks of a model family."""

from typing import Literal, Protocol

from torch import Tensor

from vidprune.layout import TokenGrid

Signal = Literal["keys", "queries", "values"]


class Backbone(Protocol):
    """A classifier seen as embed, attend, feed_forward and classify over its own modules.

    An adapter holds the model and nothing else: it is made anew wherever it is needed, adds no
    parameter and changes none. Run in turn with nothing dropped, its parts are the model's own
    forward, bit for bit. Tokens are (B, N, C), time-major.
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

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Pixels (B, T, 3, H, W), normalised, to tokens."""
        ...

    def attend(self, block: int, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The attention half of a block with its residual; also its normalised input."""
        ...

    def head_mean(self, block: int, normalised: Tensor, signal: Signal) -> Tensor:
        """The keys, queries or values of a block, averaged over its heads, (B, N, d)."""
        ...

    def feed_forward(self, block: int, tokens: Tensor) -> Tensor:
        """The MLP half of a block with its residual."""
        ...

    def classify(self, tokens: Tensor) -> Tensor:
        """The tokens that are left to logits (B, classes)."""
        ...
