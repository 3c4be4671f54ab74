"""A forward that is watched: what came out of every block, and what every stage saw and chose."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vidprune.backbones.base import Backbone
from vidprune.backbones.registry import adapt
from vidprune.layout import Layout, TokenGrid
from vidprune.merging import pooling_weights
from vidprune.model import Encoded, encode, per_clip
from vidprune.pruned import Pruned
from vidprune.reducers.base import Need, Reducer, Reduction, Scoring, Signals
from vidprune.reducers.schedule import Stage


@dataclass(frozen=True, eq=False)
class Output:
    """What came out of a block: the grid's `tokens` (B, N, C) and where they lay.

    It is what the next block attends to: after all reductions in between and, at the end of a
    level, after the merging.
    """

    block: int
    tokens: Tensor
    layout: Layout


@dataclass(frozen=True, eq=False)
class Choice:
    """What a stage saw and chose.

    `layout`: of the tokens that entered. `scores`: by which it judged them, each (B, N), NaN where
    a token was not judged by it; empty where the reducer tells none.
    """

    stage: Stage
    layout: Layout
    reduction: Reduction
    scores: Mapping[str, Tensor]

    @property
    def origin(self) -> Tensor:
        """Places (B, K) int64 of the survivors in the grid of `layout`, -1 at padding."""
        kept, valid = self.layout.origin.gather(1, self.reduction.keep), self.reduction.valid
        if valid is None and self.layout.valid is not None:
            valid = self.layout.valid.gather(1, self.reduction.keep)
        return kept if valid is None else kept.masked_fill(~valid, -1)


@dataclass(frozen=True, eq=False)
class Watched:
    """A forward: what came out of each block, in order, after the reduction that is due there, the
    choice of each stage, and the `logits` (B, classes) float32; None without a head."""

    outputs: tuple[Output, ...]
    choices: tuple[Choice, ...]
    logits: Tensor | None


def watch(model: PreTrainedModel, pixel_values: Tensor, clip_keys: Tensor | None = None) -> Watched:
    """Run clips (B, T, 3, H, W), normalised, through a model, pruned or dense, and watch.

    Scores are computed a second time beside the choice, and every block's output is kept: for
    looking, not for speed.
    """
    pruned = model if isinstance(model, Pruned) else None
    reducer = pruned.reducer if pruned else None
    backbone = WatchedBackbone(adapt(model))
    watched = None if reducer is None else WatchedReducer(reducer, [])
    stages = pruned.stages if pruned else ()
    with torch.inference_mode():
        encoded = encode(cast(Backbone, backbone), watched, stages, pixel_values, clip_keys)
        logits = clip_logits(backbone, encoded) if backbone.has_head else None
    last = Output(backbone.depth - 1, encoded.tokens[:, backbone.prefix :], encoded.layout)
    # What enters a block is what came out of the one before.
    outputs = [*backbone.entered[1:], last]
    return Watched(tuple(outputs), tuple(watched.choices) if watched else (), logits)


def clip_logits(backbone: Any, encoded: Encoded) -> Tensor:
    """Logits (B, classes) float32 from what the blocks left."""
    pooled = backbone.pool(backbone.features(encoded.tokens), pooling_weights(encoded.layout))
    return per_clip(backbone.classify(pooled), len(encoded.tokens))


class WatchedBackbone:
    """A backbone that notes what enters its blocks; all else is done by the one it watches."""

    def __init__(self, backbone: Backbone) -> None:
        self.watched = backbone
        self.entered: list[Output] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.watched, name)

    def attend(
        self, block: int, tokens: Tensor, layout: Layout, key_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As the backbone's."""
        self.entered.append(Output(block - 1, tokens[:, self.watched.prefix :], layout))
        return self.watched.attend(block, tokens, layout, key_bias)


@dataclass(frozen=True, eq=False)
class WatchedReducer:
    """A reducer whose choices are noted."""

    reducer: Reducer
    choices: list[Choice]

    @property
    def needs(self) -> frozenset[Need]:
        """As the reducer's."""
        return self.reducer.needs

    def plan(self, depth: int, grid: TokenGrid) -> tuple[Stage, ...]:
        """As the reducer's."""
        return self.reducer.plan(depth, grid)

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        """As the reducer's."""
        reduction = self.reducer(tokens, signals, layout, stage)
        scores: Mapping[str, Tensor] = {}
        if isinstance(self.reducer, Scoring):
            scores = self.reducer.scores(tokens, signals, layout, stage)
        self.choices.append(Choice(stage, layout, reduction, scores))
        return reduction
