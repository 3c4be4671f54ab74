"""TimeSformer (Bertasius et al., ICML 2021) as Hugging Face transformers writes it: 16x16 patches
of single frames, learned positions, a class token, and one of three kinds of attention.

- `joint_space_time`: all tokens attend to all; any may go.
- `space_only`: the tokens of a frame, with a class token of their own, attend to each other; as
  many have to go from every frame.
- `divided_space_time`: the tokens of one place attend to each other through time, then those of
  one frame; the same places have to go from every frame, which leaves tubes.

Similarity is taken from the keys of (spatial) attention. Class tokens are never judged nor dropped.
transformers numbers the patches by place first and frame second, except without time.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidprune.backbones.attention import (
    fused,
    fused_head_mean,
    fused_parts,
    heads_of,
    mean_map,
)
from vidprune.backbones.base import ATTENTION, Signal
from vidprune.backbones.vit import ViTBackbone, ViTShape, pair
from vidprune.layout import Layout, Pattern, Quotas

_THIRDS: dict[Signal, int] = {"queries": 0, "keys": 1, "values": 2}
_PATTERNS = {
    "joint_space_time": Pattern.FREE,
    "space_only": Pattern.PER_FRAME,
    "divided_space_time": Pattern.TUBES,
}


@dataclass(frozen=True)
class TimeSformerShape(ViTShape):
    """`Shape` of a configuration."""

    @property
    def attention_type(self) -> str:
        """Which of the three kinds."""
        return str(self.config.attention_type)

    @property
    def tube(self) -> tuple[int, int, int]:
        """One frame, and the patch's height and width."""
        return (1, *pair(self.config.patch_size))

    @property
    def prefix(self) -> int:  # type: ignore[override]
        """One class token, or one per frame where frames do not see each other."""
        return self.grid.frames if self.attention_type == "space_only" else 1

    def pattern(self, block: int) -> Pattern:
        """As its kind of attention says; features of single frames stay apart as well."""
        if block == self.depth and self.attention_type == "divided_space_time":
            return Pattern.FREE
        return _PATTERNS[self.attention_type]

    def attend_macs(self, block: int, tokens: int, quotas: Quotas | None = None) -> dict[str, int]:
        """Projections; and products over all tokens, over frames, or over tubes and frames."""
        width, frames = self.config.hidden_size, self.grid.frames
        if self.attention_type == "joint_space_time":
            return super().attend_macs(block, tokens)
        in_frame = tokens // frames + 1
        projections = 4 * frames * in_frame * width**2
        products = 2 * frames * in_frame**2 * width
        if self.attention_type == "divided_space_time":
            # Through time there is one more projection, after the output's.
            projections += 5 * tokens * width**2
            products += 2 * tokens * frames * width
        return {"attention projections": projections, ATTENTION: products}

    def head_macs(self, tokens: int) -> dict[str, int]:
        """The linear head, once per class token."""
        return {name: self.prefix * macs for name, macs in super().head_macs(tokens).items()}


def _attention(module: Any, hidden: Tensor, key_bias: Tensor | None) -> Tensor:
    """The attention module, which takes no bias itself, with one or without."""
    if key_bias is None:
        plain: Tensor = module(hidden)[0]
        return plain
    inner = module.attention
    query, key, value = (heads_of(p, inner.num_heads) for p in inner.qkv(hidden).chunk(3, -1))
    dropout = inner.attn_drop.p if inner.training else 0.0
    mixed = fused(query, key, value, key_bias=key_bias, scale=inner.scale, dropout=dropout)
    output: Tensor = module.output(mixed)
    return output


def _attend(layer: Any, tokens: Tensor, key_bias: Tensor | None) -> tuple[Tensor, Tensor]:
    normalised = layer.layernorm_before(tokens)
    return tokens + layer.drop_path(_attention(layer.attention, normalised, key_bias)), normalised


def _attend_in_space(
    layer: Any, tokens: Tensor, key_bias: Tensor | None, frames: int
) -> tuple[Tensor, Tensor]:
    """Frame by frame; `tokens` holds the frames' class tokens, then the patches, time-major."""
    by_frame = _with_own_class(tokens, frames)
    bias = None if key_bias is None else _with_own_class(key_bias[..., None], frames)[..., 0]
    mixed, normalised = _attend(layer, by_frame, bias)
    return _classes_first(mixed, frames), _classes_first(normalised, frames)


def _with_own_class(tokens: Tensor, frames: int) -> Tensor:
    """(B, T + T n, C) to (B T, 1 + n, C)."""
    classes, patches = tokens[:, :frames, None], tokens[:, frames:].unflatten(1, (frames, -1))
    return torch.cat([classes, patches], 2).flatten(0, 1)


def _classes_first(by_frame: Tensor, frames: int) -> Tensor:
    """The way back from `_with_own_class`."""
    split = by_frame.unflatten(0, (-1, frames))
    return torch.cat([split[:, :, 0], split[:, :, 1:].flatten(1, 2)], 1)


def _attend_divided(
    layer: Any, tokens: Tensor, key_bias: Tensor | None, frames: int, time_major: bool
) -> tuple[Tensor, Tensor]:
    """Through time, then frame by frame with the class token in each. Tubes (B, n, T, C) in the
    middle, whatever order the tokens come in."""
    own, tubes = tokens[:, :1], _as_tubes(tokens[:, 1:], frames, time_major)
    bias = (
        None if key_bias is None else _as_tubes(key_bias[:, 1:, None], frames, time_major)[..., 0]
    )
    batch, places = tubes.shape[:2]

    lines = layer.temporal_layernorm(tubes.flatten(0, 1))
    mixed = _attention(
        layer.temporal_attention, lines, None if bias is None else bias.flatten(0, 1)
    )
    mixed = layer.drop_path(mixed).unflatten(0, (batch, places))
    tubes = tubes + layer.temporal_dense(mixed.flatten(1, 2)).unflatten(1, (places, frames))

    classes = own.repeat(1, frames, 1).flatten(0, 1)[:, None]
    by_frame = torch.cat([classes, tubes.transpose(1, 2).flatten(0, 1)], 1)
    normalised = layer.layernorm_before(by_frame)
    mixed = layer.drop_path(_attention(layer.attention, normalised, _by_frame(bias, key_bias)))
    # The class token takes the mean of what it saw in the frames.
    seen = mixed[:, 0].unflatten(0, (batch, frames)).mean(1, True)
    residual = mixed[:, 1:].unflatten(0, (batch, frames)).transpose(1, 2)
    judged = normalised[:, 1:].unflatten(0, (batch, frames)).transpose(1, 2)
    live = torch.cat([own, _as_tokens(tubes, time_major)], 1)
    live = live + torch.cat([seen, _as_tokens(residual, time_major)], 1)
    first = normalised[:, 0].unflatten(0, (batch, frames))[:, :1]
    return live, torch.cat([first, _as_tokens(judged, time_major)], 1)


def _by_frame(bias: Tensor | None, key_bias: Tensor | None) -> Tensor | None:
    """The bias of tubes (B, n, T) frame by frame, with the class token's, (B T, 1 + n)."""
    if bias is None or key_bias is None:
        return None
    own = key_bias[:, :1, None].expand(-1, -1, bias.shape[2])
    return torch.cat([own, bias], 1).transpose(1, 2).flatten(0, 1)


def _as_tubes(patches: Tensor, frames: int, time_major: bool) -> Tensor:
    """(B, N, C) to (B, n, T, C)."""
    if time_major:
        return patches.unflatten(1, (frames, -1)).transpose(1, 2)
    return patches.unflatten(1, (-1, frames))


def _as_tokens(tubes: Tensor, time_major: bool) -> Tensor:
    """The way back from `_as_tubes`."""
    return (tubes.transpose(1, 2) if time_major else tubes).flatten(1, 2)


def _feed_forward(layer: Any, tokens: Tensor) -> Tensor:
    hidden = layer.output(layer.intermediate(layer.layernorm_after(tokens)))
    output: Tensor = tokens + layer.drop_path(hidden)
    return output


@dataclass(frozen=True)
class TimeSformerBackbone(TimeSformerShape, ViTBackbone):
    """`Backbone` over TimeSformer's own modules."""

    attend_half = staticmethod(_attend)
    feed_forward_half = staticmethod(_feed_forward)

    @property
    def encoder(self) -> Any:
        """The bare model, which a classifier holds."""
        return getattr(self.model, "timesformer", self.model)

    def layer(self, block: int) -> Any:
        """A TimesformerLayer of transformers."""
        return self.encoder.encoder.layer[block]

    def projection(self, block: int, signal: Signal) -> Any:
        """All three in one layer."""
        return self.layer(block).attention.attention.qkv

    def places(self, device: torch.device) -> Tensor | None:
        """By place, then by frame."""
        if self.attention_type == "space_only":
            return None
        grid = self.grid
        inside = torch.arange(grid.tokens_per_frame, device=device)[:, None]
        starts = torch.arange(grid.frames, device=device) * grid.tokens_per_frame
        return (inside + starts).flatten()

    def embed(self, pixel_values: Tensor) -> Tensor:
        """The class token or tokens, then patches; all given their positions."""
        tokens: Tensor = self.encoder.embeddings(pixel_values)
        if self.attention_type == "space_only":
            return _classes_first(tokens, self.grid.frames)
        return tokens

    def attend(
        self, block: int, tokens: Tensor, layout: Layout, key_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attention of its kind with its residual, and what (spatial) keys are made of."""
        layer, frames = self.layer(block), layout.grid.frames
        if self.attention_type == "joint_space_time":
            return self._half(_attend)(layer, tokens, key_bias)
        if self.attention_type == "space_only":
            return self._half(_attend_in_space)(layer, tokens, key_bias, frames)
        half = self._half(_attend_divided)
        return half(layer, tokens, key_bias, frames, layout.time_major)

    def attention_map(
        self, block: int, normalised: Tensor, layout: Layout, key_bias: Tensor | None
    ) -> Tensor:
        """Softmax of queries and keys, head by head, of joint attention."""
        assert self.attention_type == "joint_space_time", "who needs it takes any tokens"
        inner = self.layer(block).attention.attention
        both = fused_parts(inner.qkv, normalised, 2).chunk(2, -1)
        query, key = (heads_of(each, inner.num_heads) for each in both)
        return mean_map(query, key, key_bias=key_bias, scale=inner.scale)

    def head_mean(self, block: int, normalised: Tensor, signal: Signal) -> Tensor:
        """Mean over heads of one third of what the layer projects."""
        heads = self.config.num_attention_heads
        return fused_head_mean(self.projection(block, signal), normalised, heads, _THIRDS[signal])

    def features(self, tokens: Tensor) -> Tensor:
        """Normed; frame by frame (B T, 1 + n, C) where frames do not see each other."""
        if self.attention_type == "space_only":
            tokens = _with_own_class(tokens, self.grid.frames)
        normed: Tensor = self.encoder.layernorm(tokens)
        return normed

    def pool(self, features: Tensor, weights: Tensor | None = None) -> Tensor:
        """The class token, (B, C). Where frames do not see each other, a classifier's are one per
        frame (B T, C), as in transformers; an encoder's features are their mean."""
        own = features[:, 0]
        if self.attention_type == "space_only" and not self.has_head:
            return own.unflatten(0, (-1, self.grid.frames)).mean(1)
        return own
