"""What is compared at which costs, as settings that are known before anything is measured."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidprune.backbones.checkpoints import configuration
from vidprune.benchmarking.budget import (
    matched_frames,
    matched_reducer,
    matched_size,
    matched_views,
)
from vidprune.macs import costs
from vidprune.prepare import ViewOptions, load_model, protocol_for
from vidprune.reducers.spec import NONE, file_name
from vidprune.sources import source_pattern
from vidprune.video import Protocol

SHARES = (0.9, 0.75, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15)
RANDOM = "random"
# Of the dense cost: what comes no nearer than that to a cost is no point of comparison there.
NEAR = 0.02
# Options of a reducer that say where it drops tokens, and how much at each place.
_WHERE = ("blocks", "stages", "schedule")
# And those that say how many.
_HOW_MANY = ("r", "threshold")
FRAMES, SIZE, VIEWS, MODEL = "fewer frames", "smaller frames", "fewer views", "smaller model"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is compared: `methods` are reducers without their r, `shares` parts of the dense cost.

    Random pruning is among the methods in any case, and so is `against`, a method that each is
    paired with at its cost. `smaller` are checkpoints of cheaper dense
    models, as many as there are models. `source`, a regular expression, finds in a video's name
    which videos are of one source; intervals are then over sources.

    Raises ValueError where a share is no part, or lists do not go together.
    """

    models: tuple[str, ...]
    data: tuple[Path, ...]
    methods: tuple[str, ...]
    shares: tuple[float, ...] = SHARES
    smaller: tuple[str, ...] = ()
    alternatives: bool = True
    labels: str | None = None
    dtype: str = "fp32"
    source: str | None = None
    against: str | None = None
    views: ViewOptions = field(default_factory=ViewOptions)

    def __post_init__(self) -> None:
        if len(self.models) != len(self.data):
            raise ValueError(
                f"{len(self.models)} models and {len(self.data)} data are given; give each model "
                "its own data, in the same order"
            )
        if self.smaller and len(self.smaller) != len(self.models):
            raise ValueError(
                f"{len(self.smaller)} smaller models stand beside {len(self.models)} models; give "
                "one for each, in the same order"
            )
        pairs = list(zip(self.models, self.data, strict=True))
        for model, data in pairs:
            if pairs.count((model, data)) > 1:
                raise ValueError(
                    f"model {model} with data {data} is given twice, which would count its videos "
                    "twice; give each once"
                )
        if self.source is not None:
            source_pattern(self.source)
        for share in self.shares:
            if not 0 < share < 1:
                raise ValueError(f"at={share} must be a part of the dense cost, above 0, below 1")
        for method in self.all_methods:
            kind, _, options = method.partition(":")
            if kind == NONE:
                raise ValueError("the dense model is compared in any case; leave none out")
            for option in (each.partition("=")[0] for each in options.split(",")):
                if option in _HOW_MANY:
                    raise ValueError(
                        f"reducer {method!r} says how many tokens go, which is found for every "
                        f"cost; leave {option} out"
                    )

    @property
    def all_methods(self) -> tuple[str, ...]:
        """Each once, those first that others are paired with."""
        against = () if self.against is None else (self.against,)
        return tuple(dict.fromkeys((RANDOM, *against, *self.methods)))


@dataclass(frozen=True)
class Setting:
    """A point before it is measured: on which clips, with which reducer or views."""

    method: str
    reducer: str = NONE
    frames: int | None = None
    size: int | None = None
    smaller: bool = False
    views: tuple[int, ...] | None = None

    @property
    def folder(self) -> str:
        """Of its run; views are chosen from the dense model's."""
        changed = [f"{self.frames}-frames"] if self.frames else []
        changed += [f"{self.size}-pixels"] if self.size else []
        changed += ["smaller"] if self.smaller else []
        return "-".join([file_name(self.reducer), *changed])

    @property
    def is_reference(self) -> bool:
        """Whether others are measured by it: it drops tokens at random, folds none, and is the
        draw that is made in any case."""
        kind, _, options = self.method.partition(":")
        named = {each.partition("=")[0] for each in options.split(",") if each}
        return kind == RANDOM and named <= {*_WHERE}

    @property
    def places(self) -> frozenset[str]:
        """The options of its method that say where it drops, and how much at each place."""
        options = self.method.partition(":")[2].split(",")
        return frozenset(each for each in options if each.partition("=")[0] in _WHERE)

    def said(self, wish: "Wish") -> str:
        """What it is in a record."""
        if self.views is not None:
            return f"{len(self.views)} views"
        if self.frames or self.size:
            return f"{self.frames} frames" if self.frames else f"{self.size} pixels"
        return wish.smaller[0] if self.smaller else self.reducer


def settings_of(wish: Wish) -> tuple[list[Setting], tuple[str, ...]]:
    """Every setting once, the dense model first; and the costs that a method cannot come near."""
    options = wish.views
    config = configuration(wish.models[0], frames=options.frames, size=options.size)
    dense = costs(config, NONE).gmacs_per_view
    views = protocol_of(wish, 0).views
    found, missing = [Setting("dense")], []
    for share in sorted({*wish.shares}, reverse=True):
        for method in wish.all_methods:
            reducer = matched_reducer(config, method, share * dense)
            reached = costs(config, reducer).gmacs_per_view / dense
            if abs(reached - share) > NEAR:
                missing.append(f"{method} at {100 * share:g}% (the nearest is {reached:.1%})")
            else:
                found.append(Setting(method, reducer=reducer))
        if wish.alternatives:
            found += _dense_settings(config, share, dense, len(views))
    if wish.smaller:
        found.append(Setting(MODEL, smaller=True))
    return list(dict.fromkeys(found)), tuple(missing)


def _dense_settings(config: Any, share: float, dense: float, views: int) -> list[Setting]:
    """Fewer or smaller frames as near as they come, at a cost of their own; fewer views only where
    they cost that share, since they are few."""
    found = []
    if frames := matched_frames(config, share * dense):
        found.append(Setting(FRAMES, frames=frames))
    if size := matched_size(config, share * dense):
        found.append(Setting(SIZE, size=size))
    chosen = matched_views(views, share)
    if chosen and abs(len(chosen) / views - share) <= NEAR:
        found.append(Setting(VIEWS, views=chosen))
    return found


def protocol_of(wish: Wish, number: int) -> Protocol:
    """The views of one of its models."""
    model = load_model(wish.models[number], options=wish.views)
    return protocol_for(model, wish.views)
