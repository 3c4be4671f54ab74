"""Which tokens stayed, drawn: the frames, and under them every stage with the dropped places white.

The layout of Figure 1 and 6 of the STA paper: time flows to the right, depth downwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from vidprune.layout import TokenGrid

_GAP, _LABEL_HEIGHT, _FONT_SIZE = 6, 22, 14


@dataclass(frozen=True, eq=False)
class Row:
    """One line of the picture: its `label`, and the `kept` places of the unpruned grid.

    `kept` is flat and time-major, in any order, with -1 for padding; None shows the frames as they
    are.
    """

    label: str
    kept: npt.NDArray[np.int64] | None = None


def draw_kept(
    frames: npt.NDArray[np.uint8],
    rows: Sequence[Row],
    grid: TokenGrid,
    *,
    frame_pixels: int = 128,
) -> Image.Image:
    """Draw one clip.

    `frames` (T, H, W, 3) uint8: what the model saw; of each temporal position of `grid` the first
    frame is shown. `frame_pixels`: the height of a frame in the picture.
    """
    shown = frames[:: len(frames) // grid.frames]
    height, width = shown.shape[1:3]
    size = (round(width * frame_pixels / height), frame_pixels)
    line = frame_pixels + _LABEL_HEIGHT + _GAP
    canvas = Image.new(
        "RGB", (grid.frames * (size[0] + _GAP) + _GAP, len(rows) * line + _GAP), "#d8d8d8"
    )
    for number, row in enumerate(rows):
        top = _GAP + number * line
        ImageDraw.Draw(canvas).text(
            (_GAP, top), row.label, fill="black", font=ImageFont.load_default(_FONT_SIZE)
        )
        for column, frame in enumerate(whitened(shown, row.kept, grid)):
            # Nearest keeps the borders of the patches exact at the pixel.
            tile = Image.fromarray(frame).resize(size, Image.Resampling.NEAREST)
            canvas.paste(tile, (_GAP + column * (size[0] + _GAP), top + _LABEL_HEIGHT))
    return canvas


def whitened(
    shown: npt.NDArray[np.uint8], kept: npt.NDArray[np.int64] | None, grid: TokenGrid
) -> npt.NDArray[np.uint8]:
    """The frames (T, H, W, 3) with every place white whose token is not among `kept`."""
    if kept is None:
        return shown
    stays = np.zeros(grid.tokens, dtype=bool)
    stays[kept[kept >= 0]] = True
    height, width = shown.shape[1] // grid.rows, shown.shape[2] // grid.columns
    places = stays.reshape(grid.frames, grid.rows, grid.columns)
    pixels = places.repeat(height, axis=1).repeat(width, axis=2)
    return np.where(pixels[..., None], shown, np.uint8(255))
