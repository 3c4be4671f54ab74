"""A published table and its rerun side by side, as a record."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vidprune.intervals import METHOD, Interval
from vidprune.report import Change, read_fields

Verdict = Literal["agrees", "differs", "open"]
# How wide, in tolerances, the interval of a change that agrees may reach to either side of it.
_WIDEST = 2
# Of figures that have two decimals.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """A published figure and our own; `told_*` are the paper's.

    `needs`: the checkpoint, `setting`: what the row is about. `change` is in points of top-1,
    against the run's own unpruned model on the same views, as `told_change` is against the
    paper's; both are None of the unpruned model itself. `verdict` compares the two, within
    `tolerance` points; `not_judged` says why it does not.
    """

    needs: str
    reducer: str
    setting: str
    views: str
    num_videos: int
    told_top1: float
    top1: Interval
    told_change: float | None
    change: Change | None
    told_gmacs: float | None
    gmacs: float
    tolerance: float
    verdict: Verdict | None
    gmacs_verdict: Verdict | None
    not_finite: int
    not_judged: str | None


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A table rerun as far as data and checkpoints were given.

    `missing` are the checkpoints or data for whose rows there was nothing.
    """

    table: str
    rows: tuple[Rerun, ...]
    missing: tuple[str, ...]
    checkpoints: dict[str, str]
    data: dict[str, str]
    unreadable: tuple[dict[str, str], ...]
    dtype: str
    batch_size: int
    processes: int
    environment: dict[str, Any]
    command: str
    date: str
    intervals: str = METHOD

    def to_json(self) -> str:
        """The record as indented JSON, ended by a line break."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Reproduction":
        """The record that `to_json` wrote."""
        found = read_fields(text)
        return cls(**found | {"rows": tuple(_row(row) for row in found["rows"])})


def _row(found: dict[str, Any]) -> Rerun:
    change = Change.read(found["change"])
    return Rerun(**{**found, "top1": Interval(**found["top1"]), "change": change})


def verdict_of(change: Interval, told: float, tolerance: float) -> Verdict:
    """Whether a change of top-1 is the published one.

    It differs where its whole interval lies farther than `tolerance` from `told`; it agrees where
    it lies within and its interval reaches no farther than twice that to either side. Between the
    two there are too few videos to say.
    """
    assert change.low is not None, "paired intervals have bounds"
    assert change.high is not None, "paired intervals have bounds"
    if change.low > told + tolerance or change.high < told - tolerance:
        return "differs"
    reach = max(change.high - change.value, change.value - change.low)
    near = abs(change.value - told) <= tolerance + _ROUNDING
    return "agrees" if near and reach <= _WIDEST * tolerance else "open"
