"""Settings of equal arithmetic: how a rival, or a cheaper dense model, comes to cost as much."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from math import inf

from transformers import PreTrainedConfig

from vidprune.backbones.base import Shape
from vidprune.backbones.checkpoints import resized
from vidprune.backbones.registry import shape_of
from vidprune.macs import costs
from vidprune.planning import stages_for
from vidprune.reducers.schedule import Gaps
from vidprune.reducers.spec import describe, parse, with_r
from vidprune.video.views import evenly_spaced

_REFUSED = -inf
# Of each stage that drops something its number, and what becomes of the gaps that it leaves.
Form = tuple[tuple[int, Gaps | None], ...]


def matched_reducer(
    config: PreTrainedConfig, spec: str, gmacs: float, *, like: str | None = None
) -> str:
    """`spec`, a reducer's text without its r, with the r whose cost per view is nearest to `gmacs`.

    `like`, the reducer that is to be matched, matters where attention is in windows: then only
    such r are considered at which gaps are closed, and filled, at the same stages as with `like`;
    all where there are none. Raises ValueError where no r fits the model.
    """
    cost = cache(partial(_cost, config, spec))
    runs = _falling(shape_of(config), spec, like)
    near = [r for run in runs for r in _around(run, cost, gmacs)]
    if not near:
        # Says why not even the smallest fits.
        costs(config, with_r(spec, 1))
    r = min(near, key=lambda r: abs(cost(r) - gmacs))
    return describe(parse(with_r(spec, r)))


# Note [costs of a pyramid]
# Costs fall as r rises, so the r for a cost is found by halving. Not so where attention is in
# windows: gaps that are closed at one r are filled at the next, which costs more. Among the r of
# one form, whose plans close and fill the same gaps, costs do fall (but for hundredths of a GMAC
# where one token more is folded); and the form is known in a fraction of the time that it takes
# to count what a plan costs.


def _falling(shape: Shape, spec: str, like: str | None) -> list[Sequence[int]]:
    """Runs of rising r over each of which costs fall; see Note [costs of a pyramid]."""
    every = range(1, shape.grid.tokens)
    if len(shape.levels) == 1:
        return [every]
    runs: dict[Form, list[int]] = {}
    for r in every:
        form = _form(shape, with_r(spec, r))
        if form is None:
            # Where so many tokens cannot go, more cannot either.
            break
        runs.setdefault(form, []).append(r)
    wanted = None if like is None else _form(shape, like)
    return [run for form, run in runs.items() if wanted not in runs or form == wanted]


def _form(shape: Shape, reducer: str) -> Form | None:
    """Which stages a plan has and what becomes of gaps; None where it does not fit the model."""
    try:
        stages = stages_for(shape, parse(reducer))
    except ValueError:
        return None
    return tuple((stage.index, stage.gaps) for stage in stages)


def _around(run: Sequence[int], cost: Callable[[int], float], gmacs: float) -> Sequence[int]:
    """The last r of a run that costs `gmacs` or more, and the next one; what fits of the two."""
    after = bisect_right(run, -gmacs, key=lambda r: -cost(r))
    return [r for r in run[max(after - 1, 0) : after + 1] if cost(r) > _REFUSED]


def _cost(config: PreTrainedConfig, spec: str, r: int) -> float:
    """GMACs per view; less than any, as of a very large r, where that does not fit the model."""
    reducer = with_r(spec, r)
    if _form(shape_of(config), reducer) is None:
        return _REFUSED
    return costs(config, reducer).gmacs_per_view


def matched_frames(config: PreTrainedConfig, gmacs: float) -> int | None:
    """The number of frames, fewer than the model's, at which it costs nearest to `gmacs` dense."""
    frames = shape_of(config).clip_shape[0]
    return _nearest(range(1, frames), lambda frames: resized(config, frames=frames), gmacs)


def matched_size(config: PreTrainedConfig, gmacs: float) -> int | None:
    """The side of a square, less than the model's, at which it costs nearest to `gmacs` dense."""
    size = shape_of(config).clip_shape[2]
    return _nearest(range(1, size), lambda size: resized(config, size=size), gmacs)


def matched_views(views: int, share: float) -> tuple[int, ...] | None:
    """Which of so many views the dense model takes to cost that `share` of all of them.

    Positions, as many as come nearest and at least one, spread evenly from the first view to the
    last; a single one is the middle. None where that is all of them.
    """
    count = max(1, round(views * share))
    return evenly_spaced(views - 1, count) if count < views else None


def _nearest(
    values: Iterable[int], changed: Callable[[int], PreTrainedConfig], gmacs: float
) -> int | None:
    """The value for which patches fit and the dense cost is nearest; None where there is none."""
    found: dict[int, float] = {}
    for value in values:
        try:
            found[value] = abs(costs(changed(value)).gmacs_per_view - gmacs)
        except ValueError:
            continue
    return min(found, key=lambda value: found[value], default=None)
