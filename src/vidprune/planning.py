"""A reducer's stages for a model, or the reason why it cannot carry them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from vidprune.backbones.base import Shape
from vidprune.layout import Pattern
from vidprune.reducers.base import LevelReducer, Reducer
from vidprune.reducers.schedule import Place, Stage
from vidprune.reducers.spec import describe
from vidprune.trial import check_quotas

_NEEDED = {
    Pattern.PER_FRAME: "attends within frames, and needs as many tokens in each: choose grid, or "
    "one stage by frames, such as sta:r=64,stages=1",
    Pattern.TUBES: "attends along time at each place, and needs the same places in every frame: "
    "choose grid, which keeps tubes",
}


def stages_for(shape: Shape, reducer: Reducer | None) -> tuple[Stage, ...]:
    """Where and how much `reducer` takes from a model of that shape; nothing for None.

    Raises ValueError where its settings do not fit, where the model's attention cannot do without
    the tokens that it would drop, or where it does not keep to the quotas that it is given.
    """
    if reducer is None:
        return ()
    if len(shape.levels) == 1:
        stages = reducer.plan(shape.depth, shape.grid)
    elif isinstance(reducer, LevelReducer) and "proportional_attention" not in reducer.needs:
        stages = _of_levels(shape, reducer)
    else:
        stages = _of_one_level(shape, reducer)
    for stage in stages:
        _check_carried(shape, reducer, stage)
    return stages


def _of_levels(shape: Shape, reducer: LevelReducer) -> tuple[Stage, ...]:
    """The stages for a pyramid, which attends in windows; by quotas where gaps are to be closed."""
    planned = reducer.plan_levels(shape.levels)
    stages = tuple(replace(stage, windowed=True) for stage in planned)
    return _with_quotas(shape, reducer, stages) if reducer.gaps == "closed" else stages


def _with_quotas(shape: Shape, reducer: Reducer, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Each stage with the cells of the level that it leads to, where attention asks for them."""
    ends = list(accumulate(level.blocks for level in shape.levels))
    found = []
    for stage in stages:
        level = ends.index(stage.block + 1) + 1
        found.append(replace(stage, quotas=shape.quotas(level, stage.kept_per_group)))
        check_quotas(shape, reducer, found[-1], shape.levels[level].grid)
    return tuple(found)


def _of_one_level(shape: Shape, reducer: Reducer) -> tuple[Stage, ...]:
    """What a reducer that knows one grid only asks of a pyramid: nothing, or too much."""
    if not reducer.plan(shape.depth, shape.grid):
        return ()
    raise ValueError(
        f"{describe(reducer)} does not fit a model that merges its tokens between levels and "
        "attends in windows, whose places must all be filled alike; choose sta, random or grid, "
        "without proportional attention"
    )


def _check_carried(shape: Shape, reducer: Reducer, stage: Stage) -> None:
    """Every later block's attention, and what comes after the last, must take what a stage
    leaves; and who asks for attention's weights needs attention over all tokens, as who asks for
    attention in proportion to sizes needs attention that takes a bias."""
    needed = max(shape.pattern(block) for block in _attended_after(stage, shape.depth))
    if "attention" in reducer.needs:
        needed = max(needed, shape.pattern(stage.block))
    if stage.pattern < needed:
        raise ValueError(
            f"{describe(reducer)} does not fit this model, which {_NEEDED[needed]} (its stage "
            f"{stage.place.value} block {stage.block} would leave others)"
        )
    if shape.fills and "proportional_attention" in reducer.needs:
        raise ValueError(
            f"{describe(reducer)} does not fit this model, which attends in windows whose places "
            "must all be filled alike, so that a token cannot count by its size; leave "
            "proportional_attention out"
        )


def _attended_after(stage: Stage, depth: int) -> Sequence[int]:
    return range(stage.block + (stage.place is not Place.BEFORE_BLOCK), depth + 1)
