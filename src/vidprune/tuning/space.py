"""What a search may choose: a method, where it drops tokens, and how many at each place."""

from fractions import Fraction
from functools import cache
from typing import Protocol

from transformers import PreTrainedConfig

from vidprune.backbones.registry import shape_of
from vidprune.benchmarking.budget import matched_reducer
from vidprune.macs import costs
from vidprune.reducers.schedule import GroupSchedule
from vidprune.reducers.spec import NONE, describe, parse, with_r

METHODS = ("sta", "sta:fold=true", "random:fold=true", "tome", "ward")
_MOST_STAGES = 4
# How many times as many go at a stage as at the one before; the paper's is a half.
_TILTS = (0.25, 2.0)
_HALVINGS = 12


class Chooser(Protocol):
    """Whatever proposes values, such as a trial of Optuna."""

    def suggest_categorical(self, name: str, choices: tuple[str, ...]) -> str:
        """One of the choices."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """A whole number, both ends included."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number."""


# The paper's setting, as the parameters of `suggest`: where a search begins.
PUBLISHED = {"stages": 3, "first": 0, "last": 2 / 3, "tilt": 0.5}


def suggest(
    chooser: Chooser, config: PreTrainedConfig, methods: tuple[str, ...], share: float
) -> str | None:
    """A reducer's text, whose arithmetic is the largest that does not exceed `share` of the dense
    model's, or where these places cannot come so low the lowest; None where the method does not
    fit the model."""
    method = chooser.suggest_categorical("method", methods)
    wanted = share * costs(config, NONE).gmacs_per_view
    shape = shape_of(config)
    grouped = isinstance(parse(with_r(method, 1)), GroupSchedule)
    if not grouped or len(shape.levels) > 1:
        return _with_r(config, method, wanted)
    stages = chooser.suggest_int("stages", 1, min(_MOST_STAGES, shape.depth))
    first = chooser.suggest_int("first", 0, shape.depth // 3)
    last = chooser.suggest_float("last", 0.0, 1.0)
    tilt = chooser.suggest_float("tilt", *_TILTS, log=True)
    blocks = _blocks(shape.depth, stages, first, last)
    return _with_drops(config, method, blocks, tilt, wanted)


def _with_r(config: PreTrainedConfig, method: str, wanted: float) -> str | None:
    """A method that has an r, at the r whose cost is the nearest that is not above."""
    try:
        near = matched_reducer(config, method, wanted)
    except ValueError:
        return None
    if costs(config, near).gmacs_per_view <= wanted:
        return near
    r = getattr(parse(near), "r", None)
    try:
        more = describe(parse(with_r(method, (r or 0) + 1)))
        return more if costs(config, more).gmacs_per_view <= wanted else None
    except ValueError:
        return None


def _blocks(depth: int, stages: int, first: int, last: float) -> tuple[int, ...]:
    """So many blocks, spread evenly from the first to the last, which lies at that share of the
    depth that is left."""
    first = min(first, depth - stages)
    end = first + stages - 1 + round(last * (depth - 1 - (first + stages - 1)))
    if stages == 1:
        return (first,)
    return tuple(first + round(index * (end - first) / (stages - 1)) for index in range(stages))


def _with_drops(
    config: PreTrainedConfig, method: str, blocks: tuple[int, ...], tilt: float, wanted: float
) -> str | None:
    """A method at these places, with as few tokens dropped as the cost allows, or as many as can
    be."""
    most = shape_of(config).grid.tokens_per_frame

    @cache
    def spelt(drops: tuple[int, ...]) -> tuple[str | None, float]:
        """What drops that many per frame at the places, and its cost; None where a frame has too
        few."""
        if not any(drops):
            return NONE, costs(config, NONE).gmacs_per_view
        where, amounts = ("/".join(map(str, each)) + "/" for each in (blocks, drops))
        text = f"{method}{',' if ':' in method else ':'}schedule={amounts},blocks={where}"
        try:
            gmacs = costs(config, text).gmacs_per_view
        except ValueError:
            return None, 0.0
        return describe(parse(text)), gmacs

    low, high = Fraction(0), Fraction(most)
    best = cheapest = None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        text, gmacs = spelt(
            tuple(round(float(middle) * tilt**place) for place in range(len(blocks)))
        )
        if text is None:
            high = middle
        elif gmacs <= wanted:
            high, best = middle, text
        else:
            low, cheapest = middle, text
    return best or cheapest
