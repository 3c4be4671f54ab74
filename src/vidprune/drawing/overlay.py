"""Frames with something laid over their patches: white where tokens went, marks where they merged,
heat where they were judged. Patches are whole pixels, so that borders lie where they say."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from vidprune.drawing.colours import UNJUDGED, Pixels, group_colours, heat
from vidprune.insight.grids import factor, parents
from vidprune.layout import TokenGrid

_VEIL, _BEHIND_HEAT = 0.78, 0.25
_CROSS = 150


@dataclass(frozen=True, eq=False)
class Tiles:
    """Frames of a clip at the size in which they are shown.

    `frames` (T, H, W, 3) uint8; `grid`: the finest that the model has, whose places are rectangles
    of H / rows by W / columns pixels. T is a multiple of the grid's frames.
    """

    frames: Pixels
    grid: TokenGrid

    def places(self, grid: TokenGrid) -> npt.NDArray[np.int64]:
        """For each pixel of each frame the place in `grid` that covers it, (T, H, W)."""
        height, width = self.frames.shape[1:3]
        covers = parents(self.grid, grid).numpy()
        covers = covers.reshape(grid.frames, self.grid.rows, self.grid.columns)
        pixels = covers.repeat(height // self.grid.rows, 1).repeat(width // self.grid.columns, 2)
        return pixels.repeat(len(self.frames) // grid.frames, 0)

    def patch(self, grid: TokenGrid) -> tuple[int, int]:
        """Height and width in pixels of a place of `grid`."""
        height, width = self.frames.shape[1:3]
        own = height // self.grid.rows, width // self.grid.columns
        rows = factor(self.grid.rows, grid.rows)
        return own[0] * rows, own[1] * factor(self.grid.columns, grid.columns)


def tiles_of(frames: Pixels, grid: TokenGrid, *, height: int) -> Tiles:
    """Frames (T, H, W, 3) uint8 made about as high as `height`, in whole pixels per place."""
    tall = max(1, round(height / grid.rows))
    aspect = frames.shape[2] / frames.shape[1]
    wide = max(1, round(tall * grid.rows * aspect / grid.columns))
    size = (wide * grid.columns, tall * grid.rows)
    shown = [Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS) for frame in frames]
    return Tiles(np.stack([np.asarray(frame) for frame in shown]), grid)


def one_per_position(frames: Pixels, grid: TokenGrid) -> Pixels:
    """Of the frames of a clip the first of each temporal position."""
    return frames[:: len(frames) // grid.frames]


def pruned(tiles: Tiles, standing: npt.NDArray[np.int64], grid: TokenGrid) -> Pixels:
    """The frames with each place white whose token went.

    `standing` (N,): for each place of `grid` the place whose survivor stands for it, -1 for
    nobody's. Where it was merged into another, it is veiled, with a dot in the colour of the place
    that has it now; that place is framed in the same colour.
    """
    places = tiles.places(grid)
    stands, own = standing[places], np.arange(grid.tokens)[places]
    shown = tiles.frames.copy()
    shown[stands < 0] = 255
    merged = (stands >= 0) & (stands != own)
    if merged.any():
        veiled = tiles.frames[merged] * (1 - _VEIL) + 255 * _VEIL
        shown[merged] = veiled.round().astype(np.uint8)
        dots, frames = _marks(tiles, grid)
        marked = merged & dots | _owners(standing, grid)[places] & frames
        shown[marked] = group_colours(stands[marked])
    return shown


def _owners(standing: npt.NDArray[np.int64], grid: TokenGrid) -> npt.NDArray[np.bool_]:
    """Which places stand for others too."""
    merged = (standing >= 0) & (standing != np.arange(grid.tokens))
    found = np.zeros(grid.tokens, dtype=bool)
    found[standing[merged]] = True
    return found


def _marks(tiles: Tiles, grid: TokenGrid) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which pixels (1, H, W) belong to a dot in the middle of their patch, and which to its rim."""
    height, width = tiles.patch(grid)
    row, column = (
        (np.arange(length) % side)[:, None] if axis == 0 else (np.arange(length) % side)[None]
        for axis, (length, side) in enumerate(
            zip(tiles.frames.shape[1:3], (height, width), strict=True)
        )
    )
    reach = max(0.6, 0.2 * min(height, width))
    dot = (row - (height - 1) / 2) ** 2 + (column - (width - 1) / 2) ** 2 <= reach**2
    thick = max(1, min(height, width) // 8)
    rim = (row < thick) | (row >= height - thick) | (column < thick) | (column >= width - thick)
    return dot[None], rim[None]


def heated(
    tiles: Tiles,
    values: npt.NDArray[np.floating],
    grid: TokenGrid,
    *,
    low: float,
    high: float,
) -> Pixels:
    """The frames in grey under a heat map of `values` (N,) on `grid`; NaN is white and crossed
    out."""
    places = tiles.places(grid)
    colours = heat(values, low=low, high=high)[places].astype(np.float32)
    grey = tiles.frames.astype(np.float32).mean(-1, keepdims=True)
    # Around the middle grey, so that the map keeps its order from dark to light.
    shown = (colours + _BEHIND_HEAT * (grey - 127.5)).clip(0, 255)
    unknown = np.isnan(values)[places]
    shown[unknown] = UNJUDGED
    shown[unknown & _crosses(tiles, grid)] = _CROSS
    return shown.round().astype(np.uint8)


def _crosses(tiles: Tiles, grid: TokenGrid) -> npt.NDArray[np.bool_]:
    """Which pixels (1, H, W) lie on the diagonal of their patch."""
    height, width = tiles.patch(grid)
    row, column = np.ogrid[: tiles.frames.shape[1], : tiles.frames.shape[2]]
    return (row % height * width // height == column % width)[None]
