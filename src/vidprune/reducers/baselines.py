"""What any method has to beat: the same schedule with tokens chosen at random."""

from dataclasses import dataclass

from torch import Tensor

from vidprune.layout import Layout
from vidprune.reducers.base import Need, Signals
from vidprune.reducers.draws import check_seed, draw
from vidprune.reducers.dropping import Dropping, lowest
from vidprune.reducers.schedule import Stage


@dataclass(frozen=True, kw_only=True)
class Random(Dropping):
    """Drops tokens at random, where and as many as STA with the same schedule.

    A fresh draw for every clip, stage and `seed`; a clip's draw does not depend on its
    neighbours in the batch. What stays keeps its order.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seed(self.seed)

    @property
    def chooses_by(self) -> frozenset[Need]:
        """Which clip it is."""
        return frozenset({"clip_keys"})

    def choose(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Tensor:
        """Keep `stage.kept` of tokens (B, N, C), the same number in every group."""
        assert layout.clip_keys is not None, "the model computes what needs names"
        draws = draw(layout.clip_keys, layout.origin, seed=self.seed, stage=stage.index)
        return lowest(draws, stage)
