"""How a block of VideoSwin cuts its grid into windows (Liu et al., CVPR 2022, Section 3).

# Note [order of windows]
A shifted cut has windows whose places come from both ends of an axis and may not attend each
other. Those are the last along that axis, so there are at most eight kinds of windows: last or
not along each of three axes. Windows stand kind by kind here, and a mask is kept per kind instead
of per window: the bias of attention is then the same for all windows of one call.
"""

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from vidprune.backbones.remembered import remembered
from vidprune.layout import TokenGrid

Triple = tuple[int, int, int]

# Added between places that may not attend each other. Not infinity: the originals leave them a
# share of e^-100, and where all other places are far below, it counts.
APART = -100.0


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A grid, the window asked for and its shift, each (frames, rows, columns).

    Where the grid is no larger than the window along an axis, the window has the grid's side there
    and is not shifted. The grid is padded at the end of each axis to a multiple of the window,
    then shifted cyclically towards its start. W counts windows, n the places of one.
    """

    grid: TokenGrid
    window: Triple
    shift: Triple

    @property
    def sides(self) -> Triple:
        """The window as it is used."""
        frames, rows, columns = map(min, self.window, _sides(self.grid))
        return frames, rows, columns

    @property
    def shifts(self) -> Triple:
        """The shift as it is used."""
        axes = zip(_sides(self.grid), self.window, self.shift, strict=True)
        frames, rows, columns = (shift if side > window else 0 for side, window, shift in axes)
        return frames, rows, columns

    @property
    def counts(self) -> Triple:
        """Windows along each axis."""
        axes = zip(_sides(self.grid), self.sides, strict=True)
        frames, rows, columns = (-(-side // window) for side, window in axes)
        return frames, rows, columns

    @property
    def windows(self) -> int:
        """All windows, W."""
        return prod(self.counts)

    @property
    def places_per_window(self) -> int:
        """Places of one window, n."""
        return prod(self.sides)

    @property
    def padded(self) -> bool:
        """Whether some place of some window lies outside of the grid."""
        return self.windows * self.places_per_window > self.grid.tokens

    @property
    def kinds(self) -> tuple[int, ...]:
        """How many windows there are of each kind, in order; see Note [order of windows]."""
        return tuple(
            [prod([stop - start for start, stop in ranges]) for ranges in axis_ranges(self)]
        )

    def places(self, device: torch.device) -> Tensor:
        """(W, n) int64: the flat time-major place in the grid of each window's places; -1 is
        padding."""
        return _places(self, device)

    def homes(self, device: torch.device) -> Tensor:
        """(N,) int64: for each place of the grid where it stands among the W * n of `places`."""
        return _homes(self, device)

    def apart(self, device: torch.device) -> Tensor | None:
        """(len(kinds), n, n) float32: `APART` where two places of a window of that kind may not
        attend each other, else 0; None where nothing is shifted, so that all may."""
        return _apart(self, device) if any(self.shifts) else None

    def offsets(self, device: torch.device) -> Tensor:
        """(n, n) int64: for query and key the row in the table of relative position biases.

        The table is one of the window asked for. Where the window is clipped, the originals take
        the first n rows and columns of the full window's indices, as if the n places were the
        first ones of the full window; their checkpoints expect the same of us.
        """
        return _offsets(self, device)

    def tables(self, device: torch.device) -> "WindowTables":
        """All of them, kind by kind."""
        apart = self.apart(device)
        return WindowTables(
            places=self.places(device).split(self.kinds),
            homes=self.homes(device),
            offsets=self.offsets(device),
            apart=(None,) * len(self.kinds) if apart is None else apart.unbind(),
            padded=self.padded,
        )


class WindowTables(NamedTuple):
    """What attention within windows asks of a `Cut`, on a device.

    Of each kind of window its `places` (W, n) and who is kept `apart` (n, n); for all `homes` (N,)
    and `offsets` (n, n), and whether the grid is `padded`. See the methods of `Cut`.
    """

    places: tuple[Tensor, ...]
    homes: Tensor
    offsets: Tensor
    apart: tuple[Tensor | None, ...]
    padded: bool


def _sides(grid: TokenGrid) -> Triple:
    return grid.frames, grid.rows, grid.columns


def axis_ranges(cut: Cut) -> list[tuple[tuple[int, int], ...]]:
    """For each kind of window its (first, behind the last) along each axis."""
    axes = zip(cut.counts, cut.shifts, strict=True)
    # A shifted axis has two windows at least, so that none of these is empty.
    choices = [
        [(0, count - 1), (count - 1, count)] if shift else [(0, count)] for count, shift in axes
    ]
    return list(product(*choices))


@remembered
def _places(cut: Cut, device: torch.device) -> Tensor:
    time, row, column = (_coordinates(cut, axis, device) for axis in range(3))
    _, rows, columns = _sides(cut.grid)
    windows = []
    for times, downs, rights in axis_ranges(cut):
        t = time[slice(*times)][:, None, None, :, None, None]
        r = row[slice(*downs)][:, None, None, :, None]
        c = column[slice(*rights)][:, None, None, :]
        place = (t * rows + r) * columns + c
        outside = (t >= cut.grid.frames) | (r >= rows) | (c >= columns)
        windows.append(place.masked_fill(outside, -1).reshape(-1, cut.places_per_window))
    return torch.cat(windows)


def _coordinates(cut: Cut, axis: int, device: torch.device) -> Tensor:
    """(windows, places) along one axis: where each comes from in the padded grid."""
    count, side = cut.counts[axis], cut.sides[axis]
    padded = count * side
    shifted = torch.arange(padded, device=device) + cut.shifts[axis]
    return (shifted % padded).view(count, side)


@remembered
def _homes(cut: Cut, device: torch.device) -> Tensor:
    places = cut.places(device).flatten()
    # Padding writes to one place more, which is cut off.
    behind = torch.zeros(cut.grid.tokens + 1, dtype=torch.int64, device=device)
    standing = torch.arange(places.shape[0], device=device)
    return behind.scatter(0, places % behind.shape[0], standing)[:-1]


@remembered
def _apart(cut: Cut, device: torch.device) -> Tensor:
    masks = []
    for ranges in axis_ranges(cut):
        ends = zip(ranges, cut.sides, cut.shifts, cut.counts, strict=True)
        # From the other end of an axis come the last places of its last window.
        came_round = [
            torch.arange(side, device=device) >= (side - shift if stop == count else side)
            for (_, stop), side, shift, count in ends
        ]
        t, r, c = (axis.long() for axis in came_round)
        region = (4 * t[:, None, None] + 2 * r[:, None] + c).flatten()
        masks.append(APART * (region[:, None] != region))
    return torch.stack(masks)


@remembered
def _offsets(cut: Cut, device: torch.device) -> Tensor:
    _, rows, columns = cut.window
    place = torch.arange(cut.places_per_window, device=device)
    t, r, c = place // (rows * columns), place // columns % rows, place % columns
    apart = [
        axis[:, None] - axis + side - 1 for axis, side in zip((t, r, c), cut.window, strict=True)
    ]
    return (apart[0] * (2 * rows - 1) + apart[1]) * (2 * columns - 1) + apart[2]
