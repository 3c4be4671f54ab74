"""A reducer that is not ours tried once, when it is planned, before attention relies on its order.

# Note [quotas are tried, not watched]
Attention in packed windows finds kept tokens by where they stand, cell by cell. One that stands
elsewhere is taken for another, and the answer is wrong without a sign. To look at every forward
would hold up a GPU, so a reducer is looked at once: on drawn tokens of one clip on the CPU. Who
ignores the quotas cannot keep to them there by chance.
"""

import torch
from torch import Tensor

from vidprune.backbones.base import SIGNALS, Shape
from vidprune.layout import Layout, Quotas, TokenGrid
from vidprune.reducers.base import Reducer, Signals
from vidprune.reducers.schedule import Stage
from vidprune.reducers.spec import REDUCERS


def check_quotas(shape: Shape, reducer: Reducer, stage: Stage, grid: TokenGrid) -> None:
    """Raise ValueError where `reducer` does not keep to the quotas of a stage on `grid`.

    Ours are not tried again: the tests do that. See Note [quotas are tried, not watched].
    """
    if stage.quotas is None or type(reducer) in REDUCERS.values():
        return
    kept = _tried(shape, reducer, stage, grid)
    if _cells(kept, stage.quotas, grid) != _planned(stage.quotas, grid):
        raise ValueError(
            f"{reducer} does not keep to the quotas of its stage {stage.index + 1}: with "
            "gaps='closed', every frame keeps quotas.kept tokens of each cell, cell by cell. Let "
            "vidprune.reducers.base.chosen(order, stage) pick them, or choose gaps='filled'"
        )


@torch.no_grad()
def _tried(shape: Shape, reducer: Reducer, stage: Stage, grid: TokenGrid) -> list[int]:
    """What stays of one clip of drawn tokens, which have just merged."""
    generator = torch.Generator().manual_seed(0)

    def drawn(width: int) -> Tensor:
        return torch.randn(1, grid.tokens, width, generator=generator, device="cpu")

    width, key_width = shape.widths(stage.block + 1)[0], shape.widths(stage.block)[1]
    signals = Signals(**{name: drawn(key_width) for name in SIGNALS if name in reducer.needs})
    layout = Layout(
        grid=grid,
        origin=torch.arange(grid.tokens, device="cpu")[None],
        clip_keys=torch.zeros(1, dtype=torch.int64, device="cpu"),
    )
    return reducer(drawn(width), signals, layout, stage).keep[0].tolist()


def _cells(places: list[int], quotas: Quotas, grid: TokenGrid) -> list[tuple[int, int]]:
    """The frame of each place, and the cell within it."""
    split = (divmod(place, grid.tokens_per_frame) for place in places)
    return [(frame, quotas.cells[inside]) for frame, inside in split]


def _planned(quotas: Quotas, grid: TokenGrid) -> list[tuple[int, int]]:
    """What the tokens that stay are to be, in order."""
    of_a_frame = [cell for cell, kept in enumerate(quotas.kept) for _ in range(kept)]
    return [(frame, cell) for frame in range(grid.frames) for cell in of_a_frame]
