"""What any method has to beat: the same schedule with tokens chosen at random."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidprune.layout import Layout
from vidprune.reducers.base import Need, Place, Reduction, Signals
from vidprune.reducers.draws import check_seed, draw
from vidprune.reducers.schedule import GroupSchedule, Stage


@dataclass(frozen=True, kw_only=True)
class Random(GroupSchedule):
    """Drops tokens at random, where and as many as STA with the same schedule.

    A fresh draw for every clip, stage and `seed`; a clip's draw does not depend on its
    neighbours in the batch. What stays keeps its order.
    """

    seed: int = 0

    needs: ClassVar[frozenset[Need]] = frozenset({"clip_keys"})
    place: ClassVar[Place] = Place.AFTER_BLOCK

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seed(self.seed)

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        """Keep `stage.kept` of tokens (B, N, C), the same number in every group."""
        assert layout.clip_keys is not None, "the model computes what needs names"
        draws = draw(layout.clip_keys, layout.origin, seed=self.seed, stage=stage.index)
        by_group = draws.unflatten(1, (stage.groups, -1))
        stay = by_group.sort(dim=-1, stable=True).indices[..., : stage.group_size - stage.drop]
        starts = torch.arange(stage.groups, device=tokens.device) * stage.group_size
        return Reduction((stay.sort(dim=-1).values + starts[:, None]).flatten(1))
