"""A budget by content: which of a few settings a clip is given, by what is in it.

Every setting has static shapes of its own; what differs from clip to clip is which of them it
takes. See docs/content.md for what that gains, and where it does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Literal, NoReturn

import torch
from torch import Tensor

from vidprune.layout import Layout, TokenGrid

if TYPE_CHECKING:
    from vidprune.reducers.base import Need, Reducer, Reduction, Signals
    from vidprune.reducers.schedule import Stage

Signal = Literal["confidence", "change"]
SIGNALS: tuple[Signal, ...] = ("confidence", "change")


@dataclass(frozen=True, kw_only=True)
class ByContent:
    """Two settings or more, and the `limits` of a `signal` between them.

    It goes where a reducer goes; see Note [a budget is no plan].

    `confidence`: a clip goes through the settings in turn, until the largest probability of the
    answer reaches the limit that stands behind the setting; the last one's answer stands whatever
    it is. A clip that is told late pays for all that it went through. `change`: a clip goes through
    one of them, by how much it changes from frame to frame (see `change`): the first below the
    first limit, and so on up to the last, at its last limit and above.

    `settings`: reducers, None for the dense model. Raises ValueError for settings and limits that
    do not go together.
    """

    # Note [a budget is no plan]
    # Texts, recipes and configurations name it as they name reducers, and `prune` takes it. But
    # what it drops is not known before a clip is seen: whatever asks a reducer what it needs, plans
    # or chooses, for one cost or one graph, hears in a sentence that this is none.

    signal: Signal
    settings: tuple["Reducer | None", ...]
    limits: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.signal not in SIGNALS:
            raise ValueError(
                f"signal={self.signal!r} is not known; choose one of {', '.join(SIGNALS)}"
            )
        for name in ("settings", "limits"):
            if not isinstance(getattr(self, name), tuple):
                raise ValueError(f"{name}={getattr(self, name)!r} must be a tuple, such as (a, b)")
        if len(self.settings) < 2 or len(self.limits) != len(self.settings) - 1:
            raise ValueError(
                f"{self.signal} has {len(self.settings)} settings and {len(self.limits)} limits; "
                "give two settings or more and one limit between each two"
            )
        for setting in self.settings:
            if isinstance(setting, ByContent):
                raise ValueError(
                    f"a setting of {self.signal} chooses by content itself; give reducers"
                )
            if isinstance(setting, type) or not (setting is None or callable(setting)):
                raise ValueError(
                    f"setting {setting!r} of {self.signal} is no reducer; give one with its "
                    "fields, such as STA(r=64), or None"
                )
        self._check_limits()

    def _check_limits(self) -> None:
        for limit in self.limits:
            if isinstance(limit, bool) or not isinstance(limit, int | float) or not isfinite(limit):
                raise ValueError(f"limit {limit!r} of {self.signal} must be a number, such as 0.5")
            if not 0 < limit <= 1:
                raise ValueError(
                    f"limit {limit:g} of {self.signal} must lie above 0 and at most at 1"
                )
        if self.signal == "change" and list(self.limits) != sorted(set(self.limits)):
            said = ", ".join(f"{limit:g}" for limit in self.limits)
            raise ValueError(f"limits {said} of change must rise")

    @property
    def needs(self) -> frozenset["Need"]:
        """Raises ValueError, as `plan` does."""
        self._refuse()

    def plan(self, depth: int, grid: TokenGrid) -> tuple["Stage", ...]:
        """Raises ValueError: there is no one plan."""
        self._refuse()

    def __call__(
        self, tokens: Tensor, signals: "Signals", layout: Layout, stage: "Stage"
    ) -> "Reduction":
        """Raises ValueError, as `plan` does."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ValueError(
            f"a budget by {self.signal} drops as much as a clip's content allows, which prune, "
            "predict, evaluate and agreement take; give one of its settings here"
        )

    @property
    def is_cascade(self) -> bool:
        """Whether a clip goes through settings in turn."""
        return self.signal == "confidence"

    def first(self, clips: Tensor) -> list[int]:
        """The setting that each of the clips (B, T, 3, H, W) begins with; see `change`."""
        if self.is_cascade:
            return [0] * len(clips)
        return [self.begun_with(each) for each in change(clips).tolist()]

    def begun_with(self, amount: float) -> int:
        """The setting that a clip begins with which changes so much."""
        return 0 if self.is_cascade else sum(amount >= limit for limit in self.limits)

    def next(self, setting: int, logits: Tensor) -> list[int | None]:
        """The setting that clips go on to after they were given `logits` (B, classes) by one; None
        where the answer stands. Logits that are no numbers do not stand before the last."""
        if not self.is_cascade or setting == len(self.limits):
            return [None] * len(logits)
        sure = logits.float().softmax(-1).amax(-1) >= self.limits[setting]
        return [None if each else setting + 1 for each in sure.tolist()]

    def spent(self, costs: Sequence[float]) -> tuple[float, ...]:
        """What a clip has cost that is answered by each of the settings, where these are the
        settings' own costs."""
        if not self.is_cascade:
            return tuple(costs)
        return tuple(sum(costs[: number + 1]) for number in range(len(costs)))


def change(clips: Tensor) -> Tensor:
    """How much clips (B, T, 3, H, W), of values in [0, 1] or uint8, change from one frame to the
    next: the mean absolute difference of values, (B,) float32 in [0, 1]."""
    if clips.dtype != torch.uint8:
        return clips.float().diff(dim=1).abs().mean(dim=(1, 2, 3, 4))
    # Differences of bytes fit two; their sum over a clip does not fit float32.
    steps = clips.short().diff(dim=1).abs().flatten(1)
    return (steps.sum(1, dtype=torch.int64).double() / (255 * steps.shape[1])).float()
