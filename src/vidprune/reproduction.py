"""A published table and its rerun side by side, as a record."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vidprune.intervals import METHOD, Interval
from vidprune.report import Change

Verdict = Literal["agrees", "differs", "open"]
# How wide, in tolerances, the interval of a change that agrees may reach to either side of it.
_WIDEST = 2


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """A published figure and our own; `told_*` are the paper's.

    `needs`: the checkpoint, `setting`: what the row is about. `change` is in points of top-1,
    against the run's own unpruned model on the same views, as `told_change` is against the
    paper's; both are None of the unpruned model itself. `verdict` compares the two.
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
    verdict: Verdict | None
    gmacs_verdict: Verdict | None


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
        found = json.loads(text)
        rows = tuple(_row(row) for row in found.pop("rows"))
        lists = {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
        return cls(rows=rows, **{**found, **lists})


def _row(found: dict[str, Any]) -> Rerun:
    change = found["change"]
    if change is not None:
        change = Change(**{**change, "points": Interval(**change["points"])})
    return Rerun(**{**found, "top1": Interval(**found["top1"]), "change": change})


def verdict_of(change: Interval, told: float, tolerance: float) -> Verdict:
    """Whether a change of top-1 is the published one.

    It differs where its whole interval lies farther than `tolerance` from `told`; it agrees where
    it lies within and its interval reaches no farther than twice that to either side. Between the
    two there are too few videos to say.
    """
    low = change.value if change.low is None else change.low
    high = change.value if change.high is None else change.high
    if change.low is not None and not (low <= told + tolerance and high >= told - tolerance):
        return "differs"
    surely = change.low is not None and max(high - change.value, change.value - low)
    near = abs(change.value - told) <= tolerance
    return "agrees" if near and surely and surely <= _WIDEST * tolerance else "open"
