"""All that there is to see of one clip: what each reducer leaves of it, why, and what it gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from statistics import median

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vidprune.backbones.registry import adapt
from vidprune.benchmarking.measure import seconds_of
from vidprune.inference import normalisation_of
from vidprune.insight.gradnorm import GradNorm, gradnorm, share_held
from vidprune.insight.standing import on_grid, standing
from vidprune.insight.trajectory import trajectory_sums
from vidprune.insight.watching import Choice, Watched, watch
from vidprune.layout import TokenGrid
from vidprune.macs import gmacs_per_view
from vidprune.pruned import Pruned
from vidprune.reducers.spec import describe
from vidprune.report import Guess
from vidprune.video import normalise

_ENOUGH_SECONDS = 0.5

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class StageLook:
    """What a stage leaves.

    `title`: where it acts; `kept` tokens go on. `standing` (N,): for each place of
    the `grid`, flat and time-major, the place whose survivor stands for it, -1 for nobody's.
    `scores`: by which tokens were judged, each (N,), NaN where a place was not. `gradnorm`: the
    share of the clip's GradNorm at the survivors' places, in [0, 1]; None without a classifier.
    """

    title: str
    grid: TokenGrid
    kept: int
    standing: Places
    scores: dict[str, Floats]
    gradnorm: float | None

    @property
    def expected(self) -> float:
        """The share of anything that tokens kept at random hold on average."""
        return self.kept / self.grid.tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class ReducerLook:
    """A model with one reducer on one clip.

    `gmacs`: of a view, `at_most` where how many tokens stay depends on the clip. `milliseconds`: a
    forward of this clip alone, the median of turns with the others. `guesses`: the likeliest
    classes, none without a head or where logits are not finite. `trajectory`: its sum after each
    block, None where nothing was left of the last frame. `stages`: those that leave out some token.
    """

    reducer: str
    gmacs: float
    at_most: bool
    milliseconds: float
    guesses: tuple[Guess, ...]
    trajectory: tuple[float | None, ...]
    stages: tuple[StageLook, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipLook:
    """A clip seen by several models that differ in their reducer; the first is dense.

    `frames` (T, H, W, 3) uint8: what the models were given. `gradnorm` (N,): on `grid`, that of
    the first level; `gradnorm_of` names the class of its loss. Both are None without a head.
    """

    video: str
    frames: npt.NDArray[np.uint8]
    grid: TokenGrid
    gradnorm: Floats | None
    gradnorm_of: str | None
    looks: tuple[ReducerLook, ...]


def look(
    models: Sequence[PreTrainedModel],
    clip: Tensor,
    *,
    video: str,
    clip_key: int,
    label: int | None = None,
    guesses: int = 5,
    repeats: int = 3,
) -> ClipLook:
    """See one clip with each of `models`, which share weights and device; the first is dense.

    `clip` (T, 3, H, W) uint8, `clip_key` seeds the draws of reducers that make any; `label`: the
    class whose loss GradNorm takes, by default the dense model's first guess; `repeats`: turns that
    are timed; none begins after half a second.
    """
    dense, device = models[0], models[0].device
    pixels = normalise(clip[None].to(device), normalisation_of(dense), dtype=dense.dtype)
    keys = torch.tensor([clip_key], device=device)
    backbone = adapt(dense)
    given = None if label is None else torch.tensor([label])
    norm = gradnorm(dense, pixels, given) if backbone.has_head else None
    watched = [watch(model, pixels, keys) for model in models]
    times = _in_turn(models, pixels, keys, repeats)
    return ClipLook(
        video=video,
        frames=clip.permute(0, 2, 3, 1).cpu().numpy(),
        grid=backbone.grid,
        gradnorm=None if norm is None else norm.values[0].cpu().numpy(),
        gradnorm_of=None if norm is None else _class_of(dense, norm),
        looks=tuple(
            _look(model, seen, norm, guesses=guesses, milliseconds=taken)
            for model, seen, taken in zip(models, watched, times, strict=True)
        ),
    )


def _look(
    model: PreTrainedModel,
    seen: Watched,
    norm: GradNorm | None,
    *,
    guesses: int,
    milliseconds: float,
) -> ReducerLook:
    return ReducerLook(
        reducer=describe(model.reducer if isinstance(model, Pruned) else None),
        gmacs=gmacs_per_view(model),
        at_most=any(_kept(choice) < choice.stage.kept for choice in seen.choices),
        milliseconds=milliseconds,
        guesses=_guesses(model, seen.logits, guesses),
        trajectory=tuple(_finite(each.item()) for each in trajectory_sums(seen)),
        stages=tuple(
            _stage(choice, stands, norm)
            for choice, stands in zip(seen.choices, standing(seen.choices), strict=True)
        ),
    )


def _stage(choice: Choice, stands: Tensor, norm: GradNorm | None) -> StageLook:
    stage, grid, survivors = choice.stage, choice.layout.grid, choice.origin
    return StageLook(
        title=f"{stage.place.value} block {stage.block}",
        grid=grid,
        kept=_kept(choice),
        standing=stands[0].cpu().numpy(),
        scores={
            name: on_grid(values, choice)[0].cpu().numpy() for name, values in choice.scores.items()
        },
        gradnorm=None if norm is None else _finite(share_held(norm, survivors, grid).item()),
    )


def _kept(choice: Choice) -> int:
    """How many tokens of one clip went on."""
    return int((choice.origin >= 0).sum())


def _guesses(model: PreTrainedModel, logits: Tensor | None, count: int) -> tuple[Guess, ...]:
    """The likeliest classes of one clip's `logits` (1, classes)."""
    if logits is None or not logits.isfinite().all():
        return ()
    best = logits[0].softmax(-1).sort(descending=True, stable=True)
    names = model.config.id2label
    return tuple(
        Guess(label=index, name=names[index], probability=probability)
        for probability, index in zip(
            best.values[:count].tolist(), best.indices[:count].tolist(), strict=True
        )
    )


def _class_of(model: PreTrainedModel, norm: GradNorm) -> str:
    name = model.config.id2label[int(norm.labels[0])]
    return name if norm.given else f"{name} (predicted)"


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def _in_turn(
    models: Sequence[PreTrainedModel], pixels: Tensor, keys: Tensor, repeats: int
) -> list[float]:
    """Milliseconds of each model's forward, the median; all have run before. Large ones have fewer
    turns: nobody waits for the third digit of a time."""
    forwards = [partial(model, clip_keys=keys) for model in models]
    taken: list[list[float]] = [[] for _ in models]
    for repeat in range(repeats):
        if sum(map(sum, taken)) > _ENOUGH_SECONDS:
            break
        for place in range(len(models)):
            turn = (repeat + place) % len(models)
            taken[turn].append(seconds_of(forwards[turn], pixels))
    return [1e3 * median(each) for each in taken]
