"""What a setting is to reach: a cost that it keeps to, or a loss that it keeps within."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["gmacs", "speedup", "latency_ms", "agreement", "kl_nats", "drop_points"]
COSTS: tuple[Kind, ...] = ("gmacs", "speedup", "latency_ms")
LOSSES: tuple[Kind, ...] = ("agreement", "kl_nats", "drop_points")
# Of which more is better.
_RISING = ("speedup", "agreement")


@dataclass(frozen=True, kw_only=True)
class Target:
    """`kind` and `value`. Costs: at most so many GMACs a view, at least so many times the dense
    model's speed, at most so many milliseconds a batch; the setting then stays as near to the dense
    model's answers as it can. Losses: at least so many per cent of the videos with the dense
    model's class, at most so many nats of KL from it, at most so many points of top-1 lost; the
    setting then costs as little as it can.

    Raises ValueError for a value that cannot be.
    """

    kind: Kind
    value: float

    def __post_init__(self) -> None:
        low, high = {
            "speedup": (1.0, float("inf")),
            "agreement": (0.0, 100.0),
            "drop_points": (0.0, 100.0),
        }.get(self.kind, (0.0, float("inf")))
        if not low <= self.value <= high or self.value != self.value:
            raise ValueError(f"{self.kind}={self.value:g} must lie between {low:g} and {high:g}")

    @property
    def is_cost(self) -> bool:
        """Whether it is a cost that is given, and not a loss."""
        return self.kind in COSTS

    @property
    def is_timed(self) -> bool:
        """Whether it takes a clock to know."""
        return self.kind in ("speedup", "latency_ms")

    def excess(self, found: float) -> float:
        """By how much a figure misses it, relative to it; 0 or below where it is reached."""
        beyond = self.value - found if self.kind in _RISING else found - self.value
        return beyond / max(abs(self.value), 1e-6)

    def __str__(self) -> str:
        said = {
            "gmacs": "at most {:g} GMACs a view",
            "speedup": "at least {:g} times as fast as dense",
            "latency_ms": "at most {:g} ms a batch",
            "agreement": "the dense model's class in at least {:g} % of the videos",
            "kl_nats": "at most {:g} nats of KL to dense",
            "drop_points": "at most {:g} points of top-1 lost",
        }
        return said[self.kind].format(self.value)
