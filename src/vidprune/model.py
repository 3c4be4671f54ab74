"""One forward loop for every backbone and every reducer."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from vidprune.backbones.base import SIGNALS, Backbone
from vidprune.filling import cell_means, spread
from vidprune.layout import Layout, TokenGrid
from vidprune.merging import key_bias, pooling_weights, reduced
from vidprune.nearest import nearest_in_frame
from vidprune.reducers.base import Reducer, Signals
from vidprune.reducers.schedule import Place, Stage


@dataclass(frozen=True)
class Trace:
    """Which tokens stayed, one entry per stage; a stage that drops nothing has none.

    `kept[i]` (B, K) int64: positions among the tokens that entered stage i, in temporal order, in
    the order kept. `origin[i]` (B, K) int64: the same tokens' places in the grid of that stage,
    flat and time-major; in a plain ViT that is the unpruned grid of the clip, in a pyramid that of
    the level which the stage leads to. Where clips keep different numbers, both are -1 at padding.
    `owner[i]` (B, N) int64, of reducers that fold: for each token that entered stage i, the place
    in `kept[i]` of the survivor that stands for it; no entry where dropped ones are nobody's.
    """

    kept: tuple[Tensor, ...]
    origin: tuple[Tensor, ...]
    owner: tuple[Tensor, ...] = ()


torch.export.register_dataclass(Trace, serialized_type_name="vidprune.Trace")


@dataclass(frozen=True)
class Encoded:
    """What the blocks leave of a clip.

    `tokens` (B, P + K, C): the model's own tokens, then the survivors as `layout` says; `trace`:
    how they came about; `owners`: the owners of the stages on this grid, of which `stages` is the
    number (there are fewer where what was dropped is nobody's).
    """

    tokens: Tensor
    layout: Layout
    trace: Trace = field(default_factory=lambda: Trace((), ()))
    owners: tuple[Tensor, ...] = ()
    stages: int = 0


def run(
    backbone: Backbone,
    reducer: Reducer | None,
    stages: Sequence[Stage],
    pixel_values: Tensor,
    clip_keys: Tensor | None = None,
) -> tuple[Tensor, Trace]:
    """Logits (B, classes) and the trace of clips (B, T, 3, H, W); arguments as of `encode`.

    Without a head one vector per clip (B, C) stands for the logits.
    """
    encoded = encode(backbone, reducer, stages, pixel_values, clip_keys)
    features = backbone.features(encoded.tokens)
    pooled = backbone.pool(features, pooling_weights(encoded.layout))
    return backbone.classify(pooled) if backbone.has_head else pooled, encoded.trace


def per_clip(logits: Tensor, batch: int) -> Tensor:
    """Logits (batch, classes) float32 of what a model answers: some answer frame by frame, or with
    one more axis, and a clip's answer is their mean."""
    return logits.float().view(batch, -1, logits.shape[-1]).mean(1)


def encode(
    backbone: Backbone,
    reducer: Reducer | None,
    stages: Sequence[Stage],
    pixel_values: Tensor,
    clip_keys: Tensor | None = None,
) -> Encoded:
    """Clips (B, T, 3, H, W) through all blocks.

    `clip_keys` (B,) int64 seeds the draws of reducers that make any; None derives it from the
    pixels. Without stages this is the model's own forward.
    """
    due = {(stage.block, stage.place): stage for stage in stages}
    clip_keys = _keys(reducer, pixel_values, clip_keys)
    live = Encoded(
        backbone.embed(pixel_values), _whole(backbone, backbone.grid, pixel_values, clip_keys)
    )
    proportional = reducer is not None and "proportional_attention" in reducer.needs
    block = 0
    for number, level in enumerate(backbone.levels):
        last = block + level.blocks
        while block < last:
            if stage := due.get((block, Place.BEFORE_BLOCK)):
                pixels = _pixels(backbone, reducer, pixel_values)
                live = _reduce(backbone, live, reducer, stage, pixels)
            bias = _padded(key_bias(live.layout, proportional=proportional), backbone.prefix)
            tokens, normalised = backbone.attend(block, live.tokens, live.layout, bias)
            live, seen = replace(live, tokens=tokens), _Seen(block, normalised, live.layout, bias)
            if stage := due.get((block, Place.AFTER_ATTENTION)):
                signals = _signals(backbone, reducer, seen)
                live = _reduce(backbone, live, reducer, stage, signals)
            live = replace(live, tokens=backbone.feed_forward(block, live.tokens))
            ends = block == last - 1 and number + 1 < len(backbone.levels)
            stage = due.get((block, Place.AFTER_BLOCK))
            signals = Signals() if stage is None else _signals(backbone, reducer, seen)
            if ends:
                # Note [patch merging over gaps]
                live = replace(live, layout=_sourced(backbone, live.layout))
                signals = _merged(signals, live.layout)
                live = _downsampled(backbone, number, live, pixel_values, clip_keys)
            if stage is not None:
                live = _reduce(backbone, live, reducer, stage, signals)
            block += 1
    return live


@dataclass(frozen=True)
class _Seen:
    """What a block's attention was computed from: its normalised input, where the tokens lay."""

    block: int
    normalised: Tensor
    layout: Layout
    bias: Tensor | None


# Note [patch merging over gaps]
# Between the levels of a pyramid four neighbours become one token, and a dropped one has left a
# gap. The gap takes its nearest survivor (as it did in attention), the whole grid is merged, and
# only then does the reducer choose, afresh, which of the merged tokens go on: the paper is silent,
# but all of its GFLOPs are met by this reading. Its signals come from the last block before the
# merging, filled and averaged over the places that merge.


def _downsampled(
    backbone: Backbone,
    number: int,
    live: Encoded,
    pixel_values: Tensor,
    clip_keys: Tensor | None,
) -> Encoded:
    """All tokens of the next level."""
    merged = backbone.downsample(number, _filled(live.tokens, live.layout))
    grid = backbone.levels[number + 1].grid
    return Encoded(merged, _whole(backbone, grid, pixel_values, clip_keys), live.trace)


def _sourced(backbone: Backbone, layout: Layout) -> Layout:
    """The layout with the nearest survivor of every place, where some are missing."""
    if layout.source is not None or layout.origin.shape[1] == layout.grid.tokens:
        return layout
    assert backbone.fills, "what merges its tokens fills its gaps"
    return replace(layout, source=nearest_in_frame(layout.origin, layout.grid))


def _filled(values: Tensor, layout: Layout) -> Tensor:
    return values if layout.source is None else spread(values, layout.source)


def _merged(signals: Signals, layout: Layout) -> Signals:
    """Signals of a level's tokens as those of the merged ones."""
    means = {
        name: cell_means(_filled(values, layout), layout.grid)
        for name in SIGNALS
        if (values := getattr(signals, name)) is not None
    }
    return replace(signals, **means)


def _keys(reducer: Reducer | None, pixel_values: Tensor, given: Tensor | None) -> Tensor | None:
    """The clips' keys where they are needed."""
    if reducer is None or "clip_keys" not in reducer.needs:
        return None
    return (pixel_keys(pixel_values) if given is None else given).to(pixel_values.device)


def _whole(
    backbone: Backbone, grid: TokenGrid, pixel_values: Tensor, clip_keys: Tensor | None
) -> Layout:
    """The layout of a grid before anything is dropped from it."""
    device = pixel_values.device
    given = backbone.places(device)
    places = torch.arange(grid.tokens, device=device) if given is None else given
    origin = places.expand(pixel_values.shape[0], -1)
    return Layout(grid=grid, origin=origin, clip_keys=clip_keys, time_major=given is None)


def _padded(bias: Tensor | None, prefix: int) -> Tensor | None:
    """A bias of the grid's tokens as one of all: the model's own are attended to as ever."""
    return bias if bias is None or not prefix else pad(bias, (prefix, 0))


def _pixels(backbone: Backbone, reducer: Reducer | None, pixel_values: Tensor) -> Signals:
    """What there is before any block has run."""
    wanted = reducer is not None and "pixels" in reducer.needs
    return Signals(pixels=backbone.patches(pixel_values) if wanted else None)


def _signals(backbone: Backbone, reducer: Reducer | None, seen: _Seen) -> Signals:
    """What the reducer needs of a block's attention, in temporal order, and nothing else."""
    needs = frozenset() if reducer is None else reducer.needs
    grid_tokens = seen.normalised[:, backbone.prefix :]
    normalised = _in_time(grid_tokens, seen.layout)
    means = {
        name: backbone.head_mean(seen.block, normalised, name) for name in SIGNALS if name in needs
    }
    attention = _attention(backbone, seen) if "attention" in needs else None
    return Signals(**means, attention=attention)


def _attention(backbone: Backbone, seen: _Seen) -> Tensor:
    """The attention map among the grid's tokens; what goes to the model's own is left out."""
    weights = backbone.attention_map(seen.block, seen.normalised, seen.layout, seen.bias)
    if backbone.prefix:
        weights = weights[:, backbone.prefix :, backbone.prefix :]
        weights = weights / weights.sum(-1, keepdim=True)
    if seen.layout.time_major:
        return weights
    return _in_time(_in_time(weights, seen.layout).mT, seen.layout).mT


def _in_time(values: Tensor, layout: Layout) -> Tensor:
    """Values (B, N, C) of the grid's tokens sorted into temporal order."""
    if layout.time_major:
        return values
    return values.gather(1, layout.origin.argsort(1)[..., None].expand_as(values))


def _sorted(live: Encoded, prefix: int) -> Encoded:
    """The same tokens in temporal order, in which every reducer is given them."""
    if live.layout.time_major:
        return live
    own, tokens = live.tokens[:, :prefix], live.tokens[:, prefix:]
    places = live.layout.origin.sort(1).values
    layout = replace(live.layout, origin=places, time_major=True)
    return replace(live, tokens=torch.cat([own, _in_time(tokens, live.layout)], 1), layout=layout)


def _reduce(
    backbone: Backbone, live: Encoded, reducer: Reducer | None, stage: Stage, signals: Signals
) -> Encoded:
    """One stage: choose, gather, fold, and note who stayed."""
    assert reducer is not None, "stages are a reducer's"
    prefix, live = backbone.prefix, _sorted(live, backbone.prefix)
    own, tokens = live.tokens[:, :prefix], live.tokens[:, prefix:]
    # Where clips keep different numbers, fewer may enter than were planned.
    assert tokens.shape[1] <= stage.entering, "the plan fits the tokens"
    reduction = reducer(tokens, signals, live.layout, stage)
    tokens, layout = reduced(tokens, live.layout, reduction)
    layout = replace(layout, quotas=stage.quotas)
    if backbone.fills and stage.quotas is None:
        layout = _sourced(backbone, layout)
    kept, origin = reduction.keep, layout.origin
    if layout.valid is not None:
        kept, origin = (places.masked_fill(~layout.valid, -1) for places in (kept, origin))
    owner = () if reduction.owner is None else (reduction.owner,)
    trace = Trace(
        (*live.trace.kept, kept), (*live.trace.origin, origin), (*live.trace.owner, *owner)
    )
    tokens = torch.cat([own, tokens], 1) if prefix else tokens
    return Encoded(tokens, layout, trace, (*live.owners, *owner), live.stages + 1)


def pixel_keys(pixel_values: Tensor) -> Tensor:
    """A number per clip that depends on its pixels (B, T, 3, H, W) and on nothing else, (B,) int64.

    Integer sums wrap and commute, so the batch around a clip cannot change it. Pixels in half
    precision are other pixels, and give another key.
    """
    bits = pixel_values.float().contiguous().flatten(1).view(torch.int32).to(torch.int64)
    # Below 2^31: torch's compiler writes such constants as 32-bit numbers.
    weights = torch.arange(bits.shape[1], device=bits.device) * 2 + 0x1E3779B1
    return (bits * weights).sum(1)
