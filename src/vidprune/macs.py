"""What a forward costs, from shapes alone: multiply-accumulates by kind of module."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedConfig, PreTrainedModel

from vidprune.backbones.base import ATTENTION, EMBEDDING, HEAD, SIGNALS, Shape
from vidprune.backbones.registry import has_head, shape_of
from vidprune.layout import Layout, TokenGrid
from vidprune.merging import reduced
from vidprune.planning import stages_for
from vidprune.pruned import Pruned
from vidprune.reducers.base import Reducer, Signals
from vidprune.reducers.by_content import ByContent
from vidprune.reducers.schedule import Gaps, Place, Stage
from vidprune.reducers.spec import parse

SELECTION = "selection"


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Multiply-accumulates of one view, in 10^9: what the field's tables call GFLOPs.

    `modules`: by kind of module; `selection` is the reducer's own arithmetic, with what it has
    computed for it and with the folding. `gmacs_per_view` is their sum, `gmacs_dense` that of the
    dense model. `tokens`: how many go on after each stage. Convolutions, linear layers and matrix
    products count; norms, softmax and sorting do not, as everywhere in the field. Where the number
    of tokens depends on the clip, all of this is the most that it can be. `gaps`: of a model that
    attends in windows, whether they are closed or filled after each stage; empty for any other.
    """

    gmacs_per_view: float
    gmacs_dense: float
    tokens: tuple[int, ...]
    modules: dict[str, float]
    gaps: tuple[Gaps, ...] = ()

    @property
    def attention(self) -> float:
        """The products of attention, which grow with the square of the tokens."""
        return self.modules[ATTENTION]

    @property
    def linear_in_blocks(self) -> float:
        """`linear` without the embedding, which sees all tokens, and the head."""
        return self.linear - self.modules[EMBEDDING] - self.modules[HEAD]

    @property
    def selection(self) -> float:
        """The reducer's own."""
        return self.modules.get(SELECTION, 0.0)

    @property
    def linear(self) -> float:
        """All other: layers that see each token alone."""
        return self.gmacs_per_view - self.attention - self.selection


def costs(model: PreTrainedModel | PreTrainedConfig, reducer: Reducer | str | None = None) -> Costs:
    """What one clip's forward costs; nothing is computed and no weight is read.

    `model`: a model, dense or pruned, or only its configuration, whose `architectures` say whether
    it has a head: it has one unless they name an encoder. `reducer`, or its text, takes the place
    of the one that a pruned model has.

    Raises ValueError where the reducer does not fit, TypeError for a family without an adapter.
    """
    if reducer is None and isinstance(model, Pruned):
        reducer = model.reducer
    shape = _shape(model)
    reducer = parse(reducer) if isinstance(reducer, str) else reducer
    dense, _ = _walk(shape, None, ())
    stages = stages_for(shape, reducer)
    pruned, tokens = _walk(shape, reducer, stages)
    return Costs(
        gmacs_per_view=pruned.total() / 1e9,
        gmacs_dense=dense.total() / 1e9,
        tokens=tokens,
        modules={name: macs / 1e9 for name, macs in pruned.items()},
        gaps=tuple(stage.gaps for stage in stages if stage.gaps),
    )


def _shape(model: PreTrainedModel | PreTrainedConfig) -> Shape:
    if isinstance(model, PreTrainedModel):
        return shape_of(model.config, head=has_head(model))
    return shape_of(model)


def gmacs_per_view(model: PreTrainedModel, settings: Iterable[int | None] = ()) -> float:
    """Multiply-accumulates of one clip's forward, in 10^9, the selection's included.

    With a budget by content: their mean over views that these `settings` answered, or where there
    are none the most that it can be.
    """
    if isinstance(getattr(model, "reducer", None), ByContent):
        spent = gmacs_by_setting(model)
        answered = [spent[each] for each in settings if each is not None]
        return fmean(answered) if answered else max(spent)
    # Of an exported model the configuration is left, and what it was pruned with.
    exported = not isinstance(model, PreTrainedModel)
    found = costs(model.config, model.reducer) if exported else costs(model)
    return found.gmacs_per_view


def gmacs_by_setting(model: PreTrainedModel) -> tuple[float, ...]:
    """Of a model with a budget by content: what a clip has cost that each setting answers."""
    spent: tuple[float, ...] = model.reducer.spent(
        [gmacs_per_view(each) for each in model.settings]
    )
    return spent


def _walk(
    shape: Shape, reducer: Reducer | None, stages: tuple[Stage, ...]
) -> tuple[Counter[str], tuple[int, ...]]:
    """The forward loop over numbers of tokens: multiply-accumulates, and tokens per stage."""
    due = {(stage.block, stage.place): stage for stage in stages}
    spent = Counter(shape.embed_macs())
    layout, left = _whole(shape.grid), []
    block = 0

    def reach(place: Place, entered: Layout) -> None:
        nonlocal layout
        if (stage := due.get((block, place))) and reducer is not None:
            macs, layout = _selection(shape, reducer, stage, entered, layout)
            spent[SELECTION] += macs
            left.append(_length(layout))

    for number, level in enumerate(shape.levels):
        for step in range(level.blocks):
            reach(Place.BEFORE_BLOCK, layout)
            entered = layout
            spent.update(shape.attend_macs(block, _length(layout), layout.quotas))
            reach(Place.AFTER_ATTENTION, entered)
            spent.update(shape.feed_forward_macs(block, _length(layout)))
            if step == level.blocks - 1 and number + 1 < len(shape.levels):
                spent.update(shape.downsample_macs(number))
                layout = _whole(shape.levels[number + 1].grid)
            reach(Place.AFTER_BLOCK, entered)
            block += 1
    spent.update(shape.head_macs(_length(layout)))
    return spent, tuple(left)


def _whole(grid: TokenGrid) -> Layout:
    """One clip's layout on the meta device: shapes without content."""
    with torch.device("meta"):
        places = torch.empty(1, grid.tokens, dtype=torch.int64)
        return Layout(grid=grid, origin=places, clip_keys=torch.empty(1, dtype=torch.int64))


def _length(layout: Layout) -> int:
    return layout.origin.shape[1]


def _selection(
    shape: Shape, reducer: Reducer, stage: Stage, attended: Layout, layout: Layout
) -> tuple[int, Layout]:
    """One stage's own arithmetic and what it leaves, by running the reducer on shapes alone.

    `attended`: what the block's attention was given, from which the signals are computed, where
    tokens merge between that and the stage (`layout`); else the same.
    """
    length, seen = _length(layout), _length(attended)
    width, key_width = shape.widths(stage.block)
    named = [name for name in SIGNALS if name in reducer.needs]
    spent = len(named) * seen * width * key_width
    # Tokens that merged after the block are as wide as the next one's.
    entering = stage.block + (attended.grid != layout.grid)
    with torch.device("meta"):
        tokens = torch.empty(1, length, shape.widths(entering)[0])
        signals: dict[str, Tensor] = {name: torch.empty(1, length, key_width) for name in named}
        if "attention" in reducer.needs:
            signals["attention"] = torch.empty(1, length, length)
            spent += shape.attention_map_macs(stage.block, seen)
        if "pixels" in reducer.needs:
            signals["pixels"] = shape.patches(torch.empty(1, *shape.clip_shape))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        reduction = reducer(tokens, Signals(**signals), layout, stage)
        layout = replace(reduced(tokens, layout, reduction)[1], quotas=stage.quotas)
    # The counter takes a multiplication and an addition for two.
    return spent + counter.get_total_flops() // 2, layout
