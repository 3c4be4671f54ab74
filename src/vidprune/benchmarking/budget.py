"""Settings of equal arithmetic: how a rival, or a cheaper dense model, comes to cost as much."""

from collections.abc import Callable, Iterable

from transformers import PreTrainedConfig

from vidprune.backbones.checkpoints import resized
from vidprune.backbones.registry import shape_of
from vidprune.macs import costs
from vidprune.planning import stages_for
from vidprune.reducers.spec import describe, parse
from vidprune.video.views import evenly_spaced


def matched_reducer(config: PreTrainedConfig, spec: str, gmacs: float) -> str:
    """`spec`, a reducer's text without its r, with the r whose cost per view is nearest to `gmacs`.

    Costs fall as r rises, so it is found by halving. Raises ValueError where no r fits the model.
    """
    low, high = 0, shape_of(config).grid.tokens
    while high - low > 1:
        middle = (low + high) // 2
        cost = _cost(config, _with_r(spec, middle))
        low, high = (middle, high) if cost is not None and cost >= gmacs else (low, middle)
    near = [r for r in (low, high) if r and _cost(config, _with_r(spec, r)) is not None]
    if not near:
        # Says why not even the smallest fits.
        costs(config, _with_r(spec, 1))
    r = min(near, key=lambda r: abs((_cost(config, _with_r(spec, r)) or 0) - gmacs))
    return describe(parse(_with_r(spec, r)))


def _with_r(spec: str, r: int) -> str:
    return f"{spec}{',' if ':' in spec else ':'}r={r}"


def _cost(config: PreTrainedConfig, reducer: str) -> float | None:
    """GMACs per view, None where the reducer does not fit the model."""
    try:
        stages_for(shape_of(config), parse(reducer))
    except ValueError:
        return None
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
