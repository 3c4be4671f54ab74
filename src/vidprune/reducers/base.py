"""What every reducer is: a frozen dataclass that plans its stages and picks tokens at each."""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor

from vidprune.layout import Layout, TokenGrid
from vidprune.reducers.schedule import Stage

Need = Literal["keys", "queries", "values", "clip_keys"]


class Place(Enum):
    """Where in a block a reducer acts."""

    AFTER_ATTENTION = "between attention and the MLP, after the attention's residual"
    AFTER_BLOCK = "on the block's output, after the MLP's residual"


@dataclass(frozen=True, kw_only=True)
class Signals:
    """What a block's attention computed on the way, each (B, N, d), the mean over its heads.

    Only what the reducer's `needs` names is computed; the rest is None.
    """

    keys: Tensor | None = None
    queries: Tensor | None = None
    values: Tensor | None = None


@dataclass(frozen=True)
class Reduction:
    """The outcome of one stage.

    `keep` (B, K) int64: positions among the tokens that entered, in the order in which they
    go on. The order is part of the contract: later stages may depend on it.
    """

    keep: Tensor


@runtime_checkable
class Reducer(Protocol):
    """Chooses tokens. Stateless: everything it is told stands in its fields."""

    needs: ClassVar[frozenset[Need]]
    place: ClassVar[Place]

    def plan(self, depth: int, grid: TokenGrid) -> tuple[Stage, ...]:
        """The stages for a model of `depth` blocks on `grid`.

        Raises ValueError where the settings do not fit, so that nothing runs on a bad plan.
        """
        ...

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        """Reduce tokens (B, N, C) to `stage.kept` per clip; each clip is judged alone."""
        ...
