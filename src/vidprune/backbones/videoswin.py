"""VideoSwin seen as a backbone: a pyramid of grids, attention in shifted windows.

Tokens go where patches merge (Ding et al. 2023, Section 4.1, and Note [patch merging over gaps] in
`model`). From then on linear layers and norms see the kept tokens alone; in window attention a
dropped place holds the query, key and value of its nearest kept token, and what is computed there
is discarded. So the paper; where the reducer keeps to quotas, kept tokens attend among themselves
instead (see Note [packed windows]). Similarity is taken from the keys of the level's last block.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

import torch
from torch import Tensor

from vidprune.backbones.attention import fused_head_mean
from vidprune.backbones.base import ATTENTION, EMBEDDING, HEAD, Signal, compiled_half
from vidprune.backbones.packed_attention import attend_packed
from vidprune.backbones.packing import PackedTables, Packing, cut_lines, quotas_for
from vidprune.backbones.parts import plus
from vidprune.backbones.videoswin_model import level_grids
from vidprune.backbones.vit import pair, weighted_mean
from vidprune.backbones.window_attention import attend_filled, attend_whole
from vidprune.backbones.windows import Cut, Triple, WindowTables
from vidprune.layout import Layout, Level, Pattern, Quotas, TokenGrid

_THIRDS: dict[Signal, int] = {"queries": 0, "keys": 1, "values": 2}


@dataclass(frozen=True)
class VideoSwinShape:
    """`Shape` of a configuration; `has_head` says whether a classifier's head comes on top."""

    config: Any
    has_head: bool = True
    prefix: ClassVar[int] = 0
    fills: ClassVar[bool] = True

    @property
    def depth(self) -> int:
        """Blocks of all levels."""
        return sum(self.config.depths)

    @property
    def levels(self) -> tuple[Level, ...]:
        """One per stage of the model."""
        grids = level_grids(self.config)
        return tuple(
            Level(grid=grid, blocks=blocks)
            for grid, blocks in zip(grids, self.config.depths, strict=True)
        )

    @property
    def grid(self) -> TokenGrid:
        """That of the first level."""
        return self.levels[0].grid

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, channels, height, width) of the configured clips."""
        config = self.config
        return (config.num_frames, config.num_channels, *pair(config.image_size))

    def pattern(self, block: int) -> Pattern:
        """As many in every frame, so that places are filled from within their frame."""
        return Pattern.PER_FRAME

    def patches(self, pixel_values: Tensor) -> Tensor:
        """Never asked for: who judges pixels acts before the first block, where none may go."""
        raise AssertionError("refused when the reducer is planned")

    def at(self, block: int) -> tuple[int, int]:
        """The level that a block belongs to, and its number there."""
        ends = list(accumulate(self.config.depths))
        level = next(level for level, end in enumerate(ends) if block < end)
        return level, block - (ends[level] - self.config.depths[level])

    def widths(self, block: int) -> tuple[int, int]:
        """Double from level to level; a head stays as wide."""
        level, _ = self.at(block)
        width = self.config.embed_dim * 2**level
        return width, width // self.config.num_heads[level]

    def cut(self, block: int) -> Cut:
        """How a block cuts its grid into windows."""
        level, number = self.at(block)
        return self._cut(level, shifted=number % 2 == 1)

    def _cut(self, level: int, *, shifted: bool) -> Cut:
        frames, rows, columns = self.config.window_size
        shift: Triple = (frames // 2, rows // 2, columns // 2) if shifted else (0, 0, 0)
        grid = self.levels[level].grid
        return Cut(grid=grid, window=(frames, rows, columns), shift=shift)

    def quotas(self, level: int, kept: int) -> Quotas | None:
        """How many tokens of each cell of a frame are to stay of `kept`, so that every window
        holds as many; None where windows cannot, and gaps are filled."""
        regular, shifted = (self._cut(level, shifted=shifted) for shifted in (False, True))
        return quotas_for(self.levels[level].grid, regular, shifted, kept)

    def packing(self, block: int, quotas: Quotas) -> Packing:
        """Where a block's windows find their tokens."""
        shifted = self._cut(self.at(block)[0], shifted=True)
        return Packing(
            cut=self.cut(block),
            rows=cut_lines(shifted, 1),
            columns=cut_lines(shifted, 2),
            kept=quotas.kept,
        )

    def embed_macs(self) -> dict[str, int]:
        """One projection of every tube."""
        frames, height, width = self.config.patch_size
        pixels = self.config.num_channels * frames * height * width
        return {EMBEDDING: self.grid.tokens * pixels * self.config.embed_dim}

    def attend_macs(self, block: int, tokens: int, quotas: Quotas | None = None) -> dict[str, int]:
        """Projections of the kept tokens; products within windows, packed or with gaps filled."""
        width, cut = self.widths(block)[0], self.cut(block)
        if quotas is not None:
            inside = self.packing(block, quotas).tokens_per_window
            return {
                "attention projections": 4 * tokens * width**2,
                ATTENTION: 2 * tokens * inside * width,
            }
        # One more is projected where windows reach over the grid: what padding holds.
        projections = 3 * (tokens + cut.padded) * width**2 + tokens * width**2
        products = 2 * cut.windows * cut.places_per_window**2 * width
        return {"attention projections": projections, ATTENTION: products}

    def attention_map_macs(self, block: int, tokens: int) -> int:
        """Never asked for, as `attention_map` is."""
        raise AssertionError("refused when the reducer is planned")

    def feed_forward_macs(self, block: int, tokens: int) -> dict[str, int]:
        """Two linear layers."""
        width = self.widths(block)[0]
        return {"mlp": 2 * tokens * width * int(width * self.config.mlp_ratio)}

    def downsample_macs(self, level: int) -> dict[str, int]:
        """Four tokens of the whole grid to one of twice the width."""
        width = self.config.embed_dim * 2**level
        return {"patch merging": self.levels[level + 1].grid.tokens * 8 * width**2}

    def head_macs(self, tokens: int) -> dict[str, int]:
        """The linear head, where there is one."""
        return {HEAD: self.config.hidden_size * self.config.num_labels if self.has_head else 0}


def _attend_whole(layer: Any, tokens: Tensor, tables: WindowTables) -> tuple[Tensor, Tensor]:
    normalised = layer.norm1(tokens)
    mixed = attend_whole(layer.attention, normalised, tables)
    # Where there is padding, what is taken out of windows is projected last.
    return _with_residual(layer, mixed, tokens, gathered=not tables.padded), normalised


def _attend_filled(
    layer: Any, tokens: Tensor, source: Tensor, origin: Tensor, tables: WindowTables
) -> tuple[Tensor, Tensor]:
    normalised = layer.norm1(tokens)
    mixed = attend_filled(layer.attention, normalised, source, origin, tables)
    return _with_residual(layer, mixed, tokens, gathered=False), normalised


def _attend_packed(
    layer: Any, tokens: Tensor, origin: Tensor, tables: PackedTables
) -> tuple[Tensor, Tensor]:
    normalised = layer.norm1(tokens)
    mixed = attend_packed(layer.attention, normalised, origin, tables)
    return _with_residual(layer, mixed, tokens, gathered=True), normalised


def _with_residual(layer: Any, mixed: Tensor, tokens: Tensor, *, gathered: bool) -> Tensor:
    """Their sum; in the memory of `mixed` where that was `gathered` last, and no module gave it."""
    if gathered and not layer.training:
        return plus(mixed, tokens)
    return tokens + layer.drop_path(mixed)


def _feed_forward(layer: Any, tokens: Tensor) -> Tensor:
    output: Tensor = layer.feed_forward(tokens)
    return output


@dataclass(frozen=True)
class VideoSwinBackbone(VideoSwinShape):
    """`Backbone` over VideoSwin's own modules. With `compiled` the halves of its blocks run
    compiled."""

    model: Any = None
    compiled: bool = False

    @property
    def encoder(self) -> Any:
        """The bare model, which a classifier holds."""
        return getattr(self.model, "videoswin", self.model)

    def layer(self, block: int) -> Any:
        """Our VideoSwinBlock."""
        level, number = self.at(block)
        return self.encoder.levels[level].blocks[number]

    def places(self, device: torch.device) -> Tensor | None:
        """Time-major."""
        return None

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Tubes projected and normed."""
        tokens: Tensor = self.encoder.patch_embed(pixel_values)[0]
        return tokens

    def attend(
        self, block: int, tokens: Tensor, layout: Layout, key_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attention in windows with its residual, packed or with gaps filled."""
        assert key_bias is None, "refused when the reducer is planned"
        layer, cut = self.layer(block), self.cut(block)
        if layout.quotas is not None:
            packing = self.packing(block, layout.quotas)
            half = self._half(_attend_packed, packing)
            return half(layer, tokens, layout.origin, packing.tables(tokens.device))
        tables = cut.tables(tokens.device)
        if layout.source is None:
            return self._half(_attend_whole, cut)(layer, tokens, tables)
        half = self._half(_attend_filled, cut)
        return half(layer, tokens, layout.source, layout.origin, tables)

    def head_mean(self, block: int, normalised: Tensor, signal: Signal) -> Tensor:
        """Mean over heads of one third of what the layer projects."""
        heads = self.config.num_heads[self.at(block)[0]]
        qkv = self.layer(block).attention.qkv
        return fused_head_mean(qkv, normalised, heads, _THIRDS[signal])

    def attention_map(
        self, block: int, normalised: Tensor, layout: Layout, key_bias: Tensor | None
    ) -> Tensor:
        """Never asked for: who needs it takes any tokens, which windows cannot do without."""
        raise AssertionError("refused when the reducer is planned")

    def feed_forward(self, block: int, tokens: Tensor) -> Tensor:
        """The MLP with its residual."""
        return self._half(_feed_forward)(self.layer(block), tokens)

    def downsample(self, level: int, tokens: Tensor) -> Tensor:
        """Patch merging, over the whole grid."""
        merge = self.encoder.levels[level].downsample
        merged: Tensor = merge(tokens, self.levels[level].grid)[0]
        return merged

    def features(self, tokens: Tensor) -> Tensor:
        """Normed."""
        normed: Tensor = self.encoder.norm(tokens)
        return normed

    def pool(self, features: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean over the tokens that are left."""
        mean = weighted_mean(features, weights)
        dropout = getattr(self.model, "dropout", None)
        return mean if dropout is None else dropout(mean)

    def classify(self, pooled: Tensor) -> Tensor:
        """The linear head."""
        logits: Tensor = self.model.classifier(pooled)
        return logits

    def _half(self, function: Any, variant: Hashable = None) -> Any:
        return compiled_half(function, variant) if self.compiled else function
