"""How the tokens that are left lie in windows which each hold as many.

# Note [packed windows]
The paper fills dropped places with copies, so that window attention costs what it cost. To attend
among kept tokens alone, every window has to hold as many, or nothing has one shape. Regular and
shifted windows cut a frame along the same lines: where the window is 7 and its shift 3, the rows
0, 3, 7, 10, 14, ... Between them lie cells, alternately 3 and 4 rows (and columns) long, and every
window of either kind is made of whole cells, one of each sort. So if the number that stays depends
on the sort of cell alone, each window holds the same, and tokens kept cell by cell are found by
static indices. Within a cell the reducer is free.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import NamedTuple

import torch
from torch import Tensor

from vidprune.backbones.remembered import remembered
from vidprune.backbones.windows import Cut, axis_ranges
from vidprune.layout import Quotas, TokenGrid

# Of one window along one axis: the segments (between cut lines) that it holds, and whether each
# came round from the other end.
Segments = list[tuple[int, int]]


def quotas_for(grid: TokenGrid, regular: Cut, shifted: Cut, kept: int) -> Quotas | None:
    """How many tokens of each cell of a frame stay, of `kept` in all.

    None where windows do not fit the grid, or cannot all hold as many.
    """
    if regular.padded or shifted.padded:
        return None
    per_frame = regular.counts[1] * regular.counts[2]
    if kept % per_frame:
        return None
    rows, columns = (cut_lines(shifted, axis) for axis in (1, 2))
    heights, widths = _of_one_window(rows, shifted, 1), _of_one_window(columns, shifted, 2)
    share = _shared(
        kept // per_frame, [height * width for height, width in product(heights, widths)]
    )
    across = len(columns) - 1
    return Quotas(
        cells=tuple(
            _segment(rows, row) * across + _segment(columns, column)
            for row in range(grid.rows)
            for column in range(grid.columns)
        ),
        # Segments alternate, so that a window holds one of each sort whichever it begins with.
        kept=tuple(
            share[row % len(heights) * len(widths) + column % len(widths)]
            for row in range(len(rows) - 1)
            for column in range(across)
        ),
    )


def _of_one_window(lines: tuple[int, ...], shifted: Cut, axis: int) -> list[int]:
    """How long the segments are of which a regular window is made."""
    inside = [line for line in lines if line <= shifted.sides[axis]]
    return [stop - start for start, stop in pairwise(inside)]


def cut_lines(shifted: Cut, axis: int) -> tuple[int, ...]:
    """Where regular or shifted windows begin along an axis, and its end."""
    side, shift = shifted.sides[axis], shifted.shifts[axis]
    end = side * shifted.counts[axis]
    begins = {*range(0, end, side), *(range(shift, end, side) if shift else ()), end}
    return tuple(sorted(begins))


def _segment(lines: Sequence[int], place: int) -> int:
    return sum(line <= place for line in lines) - 1


def _shared(total: int, areas: list[int]) -> list[int]:
    """`total` shared out in proportion to areas: rounded down, what is missing one by one to the
    largest remainders, of equals to the earlier."""
    whole = [total * area // sum(areas) for area in areas]
    by_remainder = sorted(range(len(areas)), key=lambda sort: -(total * areas[sort] % sum(areas)))
    for sort in by_remainder[: total - sum(whole)]:
        whole[sort] += 1
    return whole


@dataclass(frozen=True)
class Packing:
    """Where a cut's windows find their tokens among those that were kept.

    The kept stand frame by frame, in a frame cell by cell, `kept` of each. `rows` and `columns`
    are the cut lines between cells. W counts windows, in the order of `Cut.places`, m the tokens
    of one.
    """

    cut: Cut
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    kept: tuple[int, ...]

    @property
    def tokens_per_window(self) -> int:
        """Tokens of one window, m."""
        per_frame = self.cut.counts[1] * self.cut.counts[2]
        return sum(self.kept) // per_frame * self.cut.sides[0]

    def tables(self, device: torch.device) -> "PackedTables":
        """Where each window finds its tokens and what it may do with them, on a device."""
        members = _members(self, device)
        return PackedTables(
            members=members.split(self.cut.kinds),
            homes=_homes(self, device),
            regions=tuple(
                _regions(self, kind, device) if self._came_round(kind) else None
                for kind in range(len(self.cut.kinds))
            ),
            codes=_codes(self.cut, device),
        )

    def _came_round(self, kind: int) -> bool:
        """Whether windows of that kind hold places from both ends of an axis."""
        stretches = zip(axis_ranges(self.cut)[kind], self.cut.shifts, self.cut.counts, strict=True)
        return any(shift and stop == count for (_, stop), shift, count in stretches)

    def kinds(self) -> list[list[list[tuple[int, int]]]]:
        """For each kind of window its windows: (position among the kept, region) of each token."""
        axes = [_along(self.cut, 0, None), _along(self.cut, 1, self.rows)]
        axes.append(_along(self.cut, 2, self.columns))
        return [
            [
                self._window(*(axis[index] for axis, index in zip(axes, window, strict=True)))
                for window in product(*(range(*stretch) for stretch in stretches))
            ]
            for stretches in axis_ranges(self.cut)
        ]

    def _window(self, times: Segments, rows: Segments, columns: Segments) -> list[tuple[int, int]]:
        per_frame, across = sum(self.kept), len(self.columns) - 1
        tokens = []
        for (time, t), (row, r), (column, c) in product(times, rows, columns):
            cell = row * across + column
            first = time * per_frame + sum(self.kept[:cell])
            region = 4 * t + 2 * r + c
            tokens.extend([(first + token, region) for token in range(self.kept[cell])])
        return tokens


class PackedTables(NamedTuple):
    """What attention within packed windows asks of a `Packing`, on a device.

    Of each kind of window `members` (W, m) int64: the position among the kept of its tokens, and
    `regions` (m, m) bool: which of them may attend each other; None where all may. `homes` (K,)
    int64: where each kept token stands among the W * m of all members. `codes` (N,) int64: a number
    for each place of the grid, of which the difference of two in one window is how far the row of
    the table of relative position biases lies from its middle.
    """

    members: tuple[Tensor, ...]
    homes: Tensor
    regions: tuple[Tensor | None, ...]
    codes: Tensor


@remembered
def _members(packing: Packing, device: torch.device) -> Tensor:
    windows = [each for kind in packing.kinds() for each in kind]
    return torch.tensor([[token for token, _ in each] for each in windows], device=device)


@remembered
def _homes(packing: Packing, device: torch.device) -> Tensor:
    return _members(packing, device).flatten().argsort()


@remembered
def _regions(packing: Packing, kind: int, device: torch.device) -> Tensor:
    region = torch.tensor([number for _, number in packing.kinds()[kind][0]], device=device)
    return region[:, None] == region


@remembered
def _codes(cut: Cut, device: torch.device) -> Tensor:
    inside = cut.homes(device) % cut.places_per_window
    _, rows, columns = cut.window
    time, row, column = inside // (rows * columns), inside // columns % rows, inside % columns
    return (time * (2 * rows - 1) + row) * (2 * columns - 1) + column


def _along(cut: Cut, axis: int, lines: tuple[int, ...] | None) -> list[Segments]:
    """For each window along an axis its segments between the lines, or its single places, and
    whether they came round."""
    side, shift, count = cut.sides[axis], cut.shifts[axis], cut.counts[axis]
    windows = []
    for window in range(count):
        found: Segments = []
        for place in range(side):
            coordinate = (window * side + place + shift) % (count * side)
            came_round = int(bool(shift) and window == count - 1 and place >= side - shift)
            segment = coordinate if lines is None else _segment(lines, coordinate)
            if (segment, came_round) not in found:
                found.append((segment, came_round))
        windows.append(found)
    return windows
