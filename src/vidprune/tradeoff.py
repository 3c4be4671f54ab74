"""Accuracy over arithmetic: what every method keeps of a model at the same costs, as a record."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vidprune.intervals import METHOD, Interval
from vidprune.metrics import Nearness
from vidprune.report import Change


@dataclass(frozen=True, kw_only=True)
class Point:
    """A method at one cost.

    `method`: a reducer without its r, or what is less about the dense model; `setting`: the whole
    reducer, or how much less. `share`: of the dense arithmetic of a video, `gmacs_per_video` in
    10^9 multiply-accumulates. `top1` in per cent. `change` and `nearness` are against the dense
    model, `over_random` against random pruning of the same cost; None of these themselves.
    """

    method: str
    setting: str
    share: float
    gmacs_per_video: float
    top1: Interval
    change: Change | None
    nearness: Nearness | None
    over_random: Change | None


@dataclass(frozen=True, kw_only=True)
class TradeOff:
    """Methods at matched costs on the same videos, the dense model first.

    Videos are those of all `data` together, each with its own of the `checkpoints`. `out_of_reach`
    names costs that a method cannot come near.
    """

    points: tuple[Point, ...]
    checkpoints: tuple[str, ...]
    data: tuple[str, ...]
    num_videos: int
    num_classes: int
    unreadable: tuple[str, ...]
    out_of_reach: tuple[str, ...]
    protocol: dict[str, Any]
    views_per_video: int
    dtype: str
    batch_size: int
    environment: dict[str, Any]
    command: str
    date: str
    intervals: str = METHOD

    def to_json(self) -> str:
        """The record as indented JSON, ended by a line break."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "TradeOff":
        """The record that `to_json` wrote."""
        found = json.loads(text)
        points = tuple(_point(point) for point in found.pop("points"))
        lists = {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
        return cls(points=points, **{**found, **lists})


def _point(found: Mapping[str, Any]) -> Point:
    near = found["nearness"]
    intervals = ("agreement", "kl_nats", "rank_correlation")
    return Point(
        **{
            **found,
            "top1": Interval(**found["top1"]),
            "change": _change(found["change"]),
            "over_random": _change(found["over_random"]),
            "nearness": None
            if near is None
            else Nearness(
                **{
                    **near,
                    **{name: _interval(near[name]) for name in intervals},
                }
            ),
        }
    )


def _change(found: Mapping[str, Any] | None) -> Change | None:
    return None if found is None else Change(**{**found, "points": Interval(**found["points"])})


def _interval(found: Mapping[str, Any] | None) -> Interval | None:
    return None if found is None else Interval(**found)
