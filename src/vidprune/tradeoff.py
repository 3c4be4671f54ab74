"""Accuracy over arithmetic: what every method keeps of a model at the same costs, as a record."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from vidprune.intervals import METHOD, Interval
from vidprune.metrics import Nearness
from vidprune.report import Change, read_fields


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """A point against another method at its cost, video by video.

    `setting`: the other one's; `change`: of top-1; `kl_nats`: by how much the divergence from the
    dense model is larger than the other one's, so that less than zero is nearer to it;
    `agreement`: by how many points more of the videos share the dense model's class (older records
    do not say).
    """

    setting: str
    change: Change
    kl_nats: Interval | None
    agreement: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Point:
    """A method at one cost.

    `method`: a reducer without its r, or what is less about the dense model; `setting`: the whole
    reducer, or how much less. `share`: of the dense arithmetic of a video, `gmacs_per_video` in
    10^9 multiply-accumulates. `top1` in per cent. `change` and `nearness` are against the dense
    model, `over_random` against `random`: the random pruning that costs nearest to it, within two
    points of the dense cost, from the same stages if there is any; None of these themselves, and
    where none costs about as much. (Older records do not name it.) `against`: the same with the
    method that was asked for, if any was.
    """

    method: str
    setting: str
    share: float
    gmacs_per_video: float
    top1: Interval
    change: Change | None
    nearness: Nearness | None
    over_random: Change | None
    random: str | None = None
    against: Pairing | None = None

    @property
    def change_points(self) -> Interval | None:
        """Points of top-1 gained on the dense model."""
        return None if self.change is None else self.change.points

    @property
    def over_random_points(self) -> Interval | None:
        """Points of top-1 gained on random pruning."""
        return None if self.over_random is None else self.over_random.points

    @property
    def against_points(self) -> Interval | None:
        """Points of top-1 gained on the method that was asked for."""
        return None if self.against is None else self.against.change.points

    @property
    def against_kl_nats(self) -> Interval | None:
        """Divergence from the dense model beyond that of the method that was asked for."""
        return None if self.against is None else self.against.kl_nats

    @property
    def against_agreement(self) -> Interval | None:
        """Videos that share the dense model's class, in points beyond the method asked for."""
        return None if self.against is None else self.against.agreement

    @property
    def agreement(self) -> Interval | None:
        """Videos whose class is the dense model's, in per cent."""
        return None if self.nearness is None else self.nearness.agreement

    @property
    def kl_nats(self) -> Interval | None:
        """Divergence from the dense model."""
        return None if self.nearness is None else self.nearness.kl_nats


@dataclass(frozen=True, kw_only=True)
class TradeOff:
    """Methods at matched costs on the same videos, the dense model first.

    Videos are those of all `data` together, each with its own of the `checkpoints`, whose weights
    and configurations `digests` name. `out_of_reach`
    names costs that a method cannot come near, `elsewhere` settings that did not run on the
    hardware of `environment`, by the hardware that they ran on, `not_finite` how many videos count
    as misses because their logits are no numbers, by setting.
    """

    points: tuple[Point, ...]
    checkpoints: tuple[str, ...]
    data: tuple[str, ...]
    num_videos: int
    num_classes: int
    unreadable: tuple[dict[str, str], ...]
    out_of_reach: tuple[str, ...]
    protocol: dict[str, Any]
    views_per_video: int
    dtype: str
    batch_size: int
    environment: dict[str, Any]
    command: str
    date: str
    intervals: str = METHOD
    not_finite: dict[str, int] = field(default_factory=dict)
    elsewhere: dict[str, list[str]] = field(default_factory=dict)
    digests: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The record as indented JSON, ended by a line break."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "TradeOff":
        """The record that `to_json` wrote."""
        found = read_fields(text)
        return cls(**found | {"points": tuple(_point(point) for point in found["points"])})


def _point(found: Mapping[str, Any]) -> Point:
    changes = {name: Change.read(found[name]) for name in ("change", "over_random")}
    near, pairing = _nearness(found["nearness"]), _pairing(found.get("against"))
    read = {"top1": Interval(**found["top1"]), "nearness": near, "against": pairing}
    return Point(**{**found, **changes, **read})


def _pairing(found: Mapping[str, Any] | None) -> Pairing | None:
    if found is None:
        return None
    change = Change.read(found["change"])
    assert change is not None, "it is there wherever there is a pairing"
    return Pairing(
        setting=found["setting"],
        change=change,
        kl_nats=_interval(found["kl_nats"]),
        agreement=_interval(found.get("agreement")),
    )


def _nearness(found: Mapping[str, Any] | None) -> Nearness | None:
    if found is None:
        return None
    names = ("agreement", "kl_nats", "rank_correlation")
    return Nearness(**{**found, **{name: _interval(found[name]) for name in names}})


def _interval(found: Mapping[str, Any] | None) -> Interval | None:
    return None if found is None else Interval(**found)
