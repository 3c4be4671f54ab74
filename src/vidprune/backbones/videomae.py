"""VideoMAE (Tong et al., NeurIPS 2022) as Hugging Face transformers writes it.

A plain ViT over 2x16x16 tubes with fixed positions, no class token, and a mean-pooled head. Every
name of transformers' modules that vidprune relies on stands in this file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import Linear
from torch.nn.functional import linear

from vidprune.backbones.base import Signal
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
class VideoMAEBackbone:
    """`Backbone` over VideoMAE's own modules.

    Similarity is taken from the keys as they enter attention: they have neither bias nor rotation.
    """

    model: "VideoMAEForVideoClassification"

    @property
    def depth(self) -> int:
        """Blocks in the encoder."""
        return len(self.model.videomae.encoder.layer)

    @property
    def grid(self) -> TokenGrid:
        """The configured token grid."""
        return grid_of(self.model.config)

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, channels, height, width) of the configured clips."""
        config = self.model.config
        return (config.num_frames, config.num_channels, *_pair(config.image_size))

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Tubes projected and given their positions."""
        return self.model.videomae.embeddings(pixel_values, None)

    def attend(self, block: int, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Attention with its residual, and what it was computed from."""
        layer = self.model.videomae.encoder.layer[block]
        normalised = layer.layernorm_before(tokens)
        return layer.attention(normalised) + tokens, normalised

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
        layer = self.model.videomae.encoder.layer[block]
        return layer.output(layer.intermediate(layer.layernorm_after(tokens)), tokens)

    def classify(self, tokens: Tensor) -> Tensor:
        """Mean over the tokens that are left, norm, linear head."""
        return self.model.classifier(self.model.fc_norm(tokens.mean(1)))
