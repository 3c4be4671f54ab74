"""ViViT (Arnab et al., ICCV 2021), the factorised-encoder-free "Model 1", as Hugging Face
transformers writes it: a plain ViT over 2x16x16 tubes with learned positions and a class token.

Similarity is taken from the keys of the patch tokens as they enter attention. The class token,
from which the model classifies, is never judged and never dropped.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from vidprune.backbones.attention import as_mask, heads_of, mean_map
from vidprune.backbones.base import HEAD, Signal
from vidprune.backbones.vit import ViTBackbone, ViTShape
from vidprune.layout import Layout

_PROJECTIONS: dict[Signal, str] = {"keys": "k_proj", "queries": "q_proj", "values": "v_proj"}


@dataclass(frozen=True)
class ViViTShape(ViTShape):
    """`Shape` of a configuration."""

    prefix: ClassVar[int] = 1

    @property
    def tube(self) -> tuple[int, int, int]:
        """Frames, height and width of a token's tube."""
        length, height, width = self.config.tubelet_size
        return length, height, width

    def head_macs(self, tokens: int) -> dict[str, int]:
        """The linear head; the bare model's pooler is one too."""
        config = self.config
        wide = config.num_labels if self.has_head else config.pooler_output_size
        return {HEAD: config.hidden_size * wide}


def attend_masked(layer: Any, tokens: Tensor, key_bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attention of a layer whose module takes a mask, with its residual."""
    normalised = layer.layernorm_before(tokens)
    mixed, _ = layer.attention(normalised, as_mask(key_bias, normalised.dtype))
    return layer.dropout(mixed) + tokens, normalised


def feed_forward(layer: Any, tokens: Tensor) -> Tensor:
    """The MLP of such a layer, with its residual."""
    output: Tensor = layer.dropout(layer.mlp(layer.layernorm_after(tokens))) + tokens
    return output


@dataclass(frozen=True)
class ViViTBackbone(ViViTShape, ViTBackbone):
    """`Backbone` over ViViT's own modules."""

    attend_half = staticmethod(attend_masked)
    feed_forward_half = staticmethod(feed_forward)

    @property
    def encoder(self) -> Any:
        """The bare model, which a classifier holds."""
        return getattr(self.model, "vivit", self.model)

    def layer(self, block: int) -> Any:
        """A VivitLayer of transformers."""
        return self.encoder.layers[block]

    def projection(self, block: int, signal: Signal) -> Any:
        """Each has its own layer."""
        return getattr(self.layer(block).attention, _PROJECTIONS[signal])

    def embed(self, pixel_values: Tensor) -> Tensor:
        """The class token, then tubes projected; all given their positions."""
        tokens: Tensor = self.encoder.embeddings(pixel_values)
        return tokens

    def attention_map(
        self, block: int, normalised: Tensor, layout: Layout, key_bias: Tensor | None
    ) -> Tensor:
        """Softmax of queries and keys, head by head."""
        module, heads = self.layer(block).attention, self.config.num_attention_heads
        query, key = (heads_of(p(normalised), heads) for p in (module.q_proj, module.k_proj))
        return mean_map(query, key, key_bias=key_bias, scale=module.scaling)

    def features(self, tokens: Tensor) -> Tensor:
        """Normed."""
        normed: Tensor = self.encoder.layernorm(tokens)
        return normed

    def pool(self, features: Tensor, weights: Tensor | None = None) -> Tensor:
        """The class token, through the bare model's own pooler where there is one."""
        pooler = self.encoder.pooler
        return features[:, 0] if pooler is None else pooler(features)
