"""Looks at many clips as one record: what the kept tokens hold, and what time still repeats."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from vidprune.insight.look import ClipLook, ReducerLook
from vidprune.intervals import Interval, mean_interval, share_interval


@dataclass(frozen=True, kw_only=True)
class StageSummary:
    """A stage over all clips: the mean share of GradNorm, in per cent, at the survivors' places,
    and `at_random`, what as many tokens kept at random hold on average; None without a head."""

    title: str
    tokens: float
    gradnorm: Interval | None
    at_random: float


@dataclass(frozen=True, kw_only=True)
class ReducerSummary:
    """A reducer over all clips.

    `same_class`: in per cent, as the dense model's first; None without a head, or where its logits
    are not finite. `trajectory`: the mean of the trajectory sum after each block over the clips
    that have one, None where none has. Times are medians.
    """

    reducer: str
    gmacs_per_view: float
    milliseconds: float
    same_class: Interval | None
    trajectory: tuple[Interval | None, ...]
    stages: tuple[StageSummary, ...]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Reducers over clips, the dense model first; `unreadable` ones have no part in it, and of no
    clip there are no rows. `seconds_per_clip`: to look at one and draw it, decoding and loading
    left out; the median, None of no clip."""

    rows: tuple[ReducerSummary, ...]
    num_clips: int
    seconds_per_clip: float | None
    unreadable: tuple[dict[str, str], ...]
    checkpoint: str
    command: str
    dtype: str
    environment: dict[str, Any]
    date: str

    def to_json(self) -> str:
        """The record, ended by a line break."""
        return json.dumps(asdict(self), indent=2) + "\n"


def summarise(clips: Sequence[ClipLook]) -> tuple[ReducerSummary, ...]:
    """Each reducer over all clips, in the order of their looks."""
    return tuple(
        _summary(looks, [clip.looks[0] for clip in clips])
        for looks in zip(*(clip.looks for clip in clips), strict=True)
    )


def _summary(looks: Sequence[ReducerLook], dense: Sequence[ReducerLook]) -> ReducerSummary:
    return ReducerSummary(
        reducer=looks[0].reducer,
        gmacs_per_view=looks[0].gmacs,
        milliseconds=median(look.milliseconds for look in looks),
        same_class=_same_class(looks, dense),
        trajectory=tuple(
            _mean(values) for values in zip(*(look.trajectory for look in looks), strict=True)
        ),
        stages=tuple(
            StageSummary(
                title=stages[0].title,
                tokens=sum(stage.kept for stage in stages) / len(stages),
                gradnorm=_mean([_per_cent(stage.gradnorm) for stage in stages]),
                at_random=100 * sum(stage.expected for stage in stages) / len(stages),
            )
            for stages in zip(*(look.stages for look in looks), strict=True)
        ),
    )


def _same_class(looks: Sequence[ReducerLook], dense: Sequence[ReducerLook]) -> Interval | None:
    if not all(whole.guesses for whole in dense):
        return None
    hits = [
        bool(look.guesses) and look.guesses[0].label == whole.guesses[0].label
        for look, whole in zip(looks, dense, strict=True)
    ]
    return share_interval(torch.tensor(hits))


def _per_cent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _mean(values: Sequence[float | None]) -> Interval | None:
    return mean_interval(torch.tensor([value for value in values if value is not None]))
