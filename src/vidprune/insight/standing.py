"""Who stands for each place of the grid after each stage, and how each place was judged."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vidprune.insight.watching import Choice
from vidprune.layout import TokenGrid

NOBODY = -1


def standing(choices: Sequence[Choice]) -> tuple[Tensor, ...]:
    """After each stage the place whose survivor stands for each place of its grid, (B, N) int64.

    A survivor's place stands for itself. A dropped one has `NOBODY`, unless it was folded, at that
    stage or an earlier one on the same grid: then it has the place of the survivor it ended up in.
    """
    found: list[Tensor] = []
    for number, choice in enumerate(choices):
        grid = choice.layout.grid
        same = number > 0 and choices[number - 1].layout.grid == grid
        before = found[-1] if same else _themselves(choice.layout.origin, grid)
        found.append(_after(choice, before))
    return tuple(found)


def _themselves(origin: Tensor, grid: TokenGrid) -> Tensor:
    """Each place for itself."""
    return torch.arange(grid.tokens, device=origin.device).repeat(len(origin), 1)


def _after(choice: Choice, before: Tensor) -> Tensor:
    """`before` (B, N), in which now whoever went is replaced by its owner."""
    entered, owner = choice.layout.origin, choice.reduction.owner
    survivors = choice.origin
    # For each place of the grid, who stands for the token that stood there until now.
    moved = torch.full_like(before, NOBODY)
    if owner is not None:
        heirs = survivors.gather(1, owner)
        if choice.layout.valid is not None:
            heirs = heirs.masked_fill(~choice.layout.valid, NOBODY)
        moved = _written(moved, entered, heirs, choice.layout.valid)
    moved = _written(moved, survivors, survivors, survivors >= 0)
    known = moved.gather(1, before.clamp(min=0))
    return known.masked_fill(before < 0, NOBODY)


def _written(into: Tensor, places: Tensor, values: Tensor, valid: Tensor | None) -> Tensor:
    """`into` (B, N) with values (B, K) at their places; those that are not valid are left out."""
    if valid is None:
        return into.scatter(1, places, values)
    # One column more, which takes what is left out.
    behind = torch.cat([into, into[:, :1]], 1)
    return behind.scatter(1, places.masked_fill(~valid, into.shape[1]), values)[:, :-1]


def on_grid(values: Tensor, choice: Choice) -> Tensor:
    """What a stage knows of the tokens that entered, (B, N), at their places of its grid,
    (B, places) float32; NaN where no token entered."""
    grid = choice.layout.grid
    empty = torch.full((len(values), grid.tokens), float("nan"), device=values.device)
    return _written(empty, choice.layout.origin, values.float(), choice.layout.valid)
