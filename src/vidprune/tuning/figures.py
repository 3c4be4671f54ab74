"""What a setting costs and what it loses, with intervals over videos."""

from dataclasses import dataclass

from torch import Tensor

from vidprune.intervals import Interval, difference_interval, share_interval
from vidprune.metrics import nearness, same_class, top_class
from vidprune.tuning.target import Target

_FARTHEST = 708.0


@dataclass(frozen=True, kw_only=True)
class Losses:
    """How far a setting's answers are from the dense model's on `videos` videos: `agreement` is the
    per cent with the same class, `spared_agreement` that less one standard error (of Wilson's),
    `kl_nats` the mean divergence, `change_points` of top-1, None without labels."""

    videos: int
    agreement: Interval
    spared_agreement: float
    kl_nats: Interval
    change_points: Interval | None

    def of(self, target: Target, *, cautious: bool = False) -> float:
        """The figure that a target of loss is about; `cautious`: one standard error worse, where
        some dozens of videos tell that: not for top-1, of which they tell nothing so fine."""
        found = {
            "agreement": self.agreement,
            "kl_nats": self.kl_nats,
            "drop_points": _lost(self.change_points),
        }[target.kind]
        assert found is not None, "a target of top-1 has labels"
        if not cautious or target.kind == "drop_points" or found.high is None:
            return found.value
        if target.kind == "agreement":
            return self.spared_agreement
        # Of an interval of 95 %, two errors long.
        return (found.value + found.high) / 2


@dataclass(frozen=True, kw_only=True)
class Spent:
    """GMACs of a view, and which part of the dense model's they are; where it was timed,
    milliseconds of a batch and how many times the dense model's speed that is.

    Of a budget by content these are means over the videos, put together from its settings' own;
    `error` is their standard error over the videos, as a share of them.
    """

    gmacs: float
    share: float
    latency_ms: float | None = None
    speedup: float | None = None
    error: float = 0.0

    def of(self, target: Target, *, cautious: bool = False) -> float:
        """The figure that a target of cost is about; `cautious`: one standard error worse."""
        found = {"gmacs": self.gmacs, "speedup": self.speedup, "latency_ms": self.latency_ms}
        value = found[target.kind]
        assert value is not None, "what is timed is timed"
        worse = 1 + self.error if cautious else 1
        return value / worse if target.kind == "speedup" else value * worse


def losses(dense: Tensor, other: Tensor, labels: Tensor | None, sources: Tensor | None) -> Losses:
    """From the probabilities (V, classes) of the dense model and of another; `labels` (V,), and
    `sources` (V,) as of `nearness`."""
    found = nearness(dense, other, sources)
    spared = share_interval(same_class(dense, other), sources, errors=1)
    assert found.agreement is not None, "there are videos"
    assert spared is not None, "there are videos"
    assert spared.low is not None, "shares have bounds"
    # Where no answer is a number there is no mean; it is as far off as can be (see `divergence`).
    far = Interval(value=_FARTHEST, low=None, high=None)
    change = None
    if labels is not None:
        hits = [top_class(each) == labels for each in (dense, other)]
        change = difference_interval(hits[0], hits[1], sources)
    return Losses(
        videos=len(dense),
        agreement=found.agreement,
        spared_agreement=spared.low,
        kl_nats=found.kl_nats or far,
        change_points=change,
    )


def _lost(change: Interval | None) -> Interval | None:
    if change is None:
        return None
    low, high = (None if end is None else -end for end in (change.high, change.low))
    return Interval(value=-change.value, low=low, high=high)
