"""Which of the tokens that stayed is nearest to each place of the grid."""

import torch
from torch import Tensor

from vidprune.layout import TokenGrid


def nearest(origin: Tensor, grid: TokenGrid, *, valid: Tensor | None = None) -> Tensor:
    """For every place of the grid the live token that lies nearest to it, (B, N) int64.

    `origin` (B, K) int64: the tokens' places, flat and time-major; `valid` (B, K): False for
    padding. Nearest in time, row and column, each counted in tokens; of equally near ones the
    earlier place counts. A place that has its own token is its own nearest.
    """
    if valid is not None:
        # Further away than any place.
        origin = origin.masked_fill(~valid, -(grid.tokens**2))
    places = torch.arange(grid.tokens, device=origin.device).view(grid.frames, -1)
    # Frame by frame: all distances at once would be larger than the model's activations.
    return torch.cat([_nearest_to(frame, origin, grid) for frame in places], 1)


def _nearest_to(places: Tensor, origin: Tensor, grid: TokenGrid) -> Tensor:
    """As `nearest`, for some places (n,)."""
    squares = sum(
        (here[:, None] - theirs[:, None, :]) ** 2
        for here, theirs in zip(_coordinates(places, grid), _coordinates(origin, grid), strict=True)
    )
    # The place itself breaks ties, so that the order in which tokens are kept does not matter.
    return (squares * grid.tokens + origin[:, None, :]).argmin(-1)


def nearest_in_frame(origin: Tensor, grid: TokenGrid) -> Tensor:
    """As `nearest`, but within each temporal position, which holds as many live tokens as any
    other; `origin` (B, K) stands in temporal order. Result (B, N) int64."""
    per_frame = origin.shape[1] // grid.frames
    inside = (origin % grid.tokens_per_frame).unflatten(1, (grid.frames, per_frame))
    ranks = _ranked_within(grid, origin.device)
    # The least of all ranks tells whose it is, several times as fast as to ask for its number;
    # frame by frame, as in `nearest`.
    least = torch.stack([ranks[frame].amin(1) for frame in inside.unbind(1)], 1)
    places = least.long() % grid.tokens_per_frame
    standing = torch.arange(origin.shape[1], device=origin.device).view(grid.frames, per_frame)
    at = torch.zeros_like(places).scatter(2, inside, standing.expand_as(inside))
    return at.gather(2, places).flatten(1)


def _ranked_within(grid: TokenGrid, device: torch.device) -> Tensor:
    """How far two places of a frame are apart, with ties broken by the first, (n, n); int32 where
    that holds it."""
    places = torch.arange(grid.tokens_per_frame, device=device)
    rows, columns = places // grid.columns, places % grid.columns
    squares = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    ranks = squares * grid.tokens_per_frame + places[:, None]
    most = (grid.rows**2 + grid.columns**2 + 1) * grid.tokens_per_frame
    return ranks.int() if most < 2**31 else ranks


def _coordinates(places: Tensor, grid: TokenGrid) -> tuple[Tensor, Tensor, Tensor]:
    """Frame, row and column of flat places."""
    inside = places % grid.tokens_per_frame
    return places // grid.tokens_per_frame, inside // grid.columns, inside % grid.columns
