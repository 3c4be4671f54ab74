"""The plainest rule for video: the same places go in every frame, whatever they show."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from vidprune.layout import Layout, Pattern, TokenGrid
from vidprune.reducers.base import Need, Signals
from vidprune.reducers.draws import check_seed, draw
from vidprune.reducers.dropping import Dropping, lowest
from vidprune.reducers.schedule import Stage

PLACES = ("even", "random")


def dispersed(rows: int, columns: int, device: torch.device) -> Tensor:
    """A number for each place of a frame, (rows * columns,) int64, no two alike: taken in rising
    order, places stay spread over the frame, however few are taken.

    Bayer's matrix for ordered dithering (1973), of the smallest side that is a power of two and
    holds the frame, cut to it. Where it is not cut, halves and quarters of the frame, of these and
    so on, differ by at most one place taken.
    """
    row = torch.arange(rows, device=device)[:, None]
    column = torch.arange(columns, device=device)
    rank = torch.zeros(rows, columns, dtype=torch.int64, device=device)
    for bit in range((max(rows, columns) - 1).bit_length()):
        down, across = row >> bit & 1, column >> bit & 1
        rank = 4 * rank + 2 * (down ^ across) + down
    return rank.flatten()


@dataclass(frozen=True, kw_only=True)
class Grid(Dropping):
    """Keeps uniform tubes: the same places of every frame, so that what stays is a grid again.

    `places`: "even" spreads them over the frame (see `dispersed`), alike for every clip; "random"
    draws them per clip, from `seed`. What later stages keep is a part of it, by the same ranking.
    Every stage drops as many from each temporal position as `schedule` says, rounded down there
    and not, as elsewhere, per group: r = 3 is 3, 1 and 0. What stays keeps its order.
    """

    places: Literal["even", "random"] = "even"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seed(self.seed)
        if self.places not in PLACES:
            raise ValueError(
                f"places={self.places!r} is not known; choose one of {', '.join(PLACES)}"
            )

    @property
    def chooses_by(self) -> frozenset[Need]:
        """Which clip it is, where it draws."""
        return frozenset({"clip_keys"}) if self.places == "random" else frozenset()

    def groups_by_stage(self, grid: TokenGrid) -> tuple[int, ...]:
        """Every stage looks at single temporal positions."""
        return (grid.frames,) * self.num_stages

    def plan(self, depth: int, grid: TokenGrid) -> tuple[Stage, ...]:
        """See `GroupSchedule.plan`; what stays are tubes."""
        stages = super().plan(depth, grid)
        return tuple(replace(stage, pattern=Pattern.TUBES) for stage in stages)

    def choose(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Tensor:
        """Keep `stage.kept` of tokens (B, N, C), the same places in every group."""
        grid = layout.grid
        place = layout.origin % grid.tokens_per_frame
        if self.places == "even":
            rank = dispersed(grid.rows, grid.columns, tokens.device)[place]
        else:
            assert layout.clip_keys is not None, "the model computes what needs names"
            # One draw for all stages, so that each keeps a part of what the one before it kept.
            rank = draw(layout.clip_keys, place, seed=self.seed, stage=0)
        return lowest(rank, stage)
