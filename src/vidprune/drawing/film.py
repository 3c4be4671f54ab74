"""A clip as a film: the frames, and beside them what each stage leaves, in time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vidprune.drawing.colours import Pixels
from vidprune.drawing.overlay import tiles_of
from vidprune.drawing.strips import Strip, strips_of
from vidprune.drawing.writing import FAINT, LINE, PAPER, Pen
from vidprune.insight.look import ClipLook
from vidprune.video.encode import write_video

_GAP, _MARGIN = 6, 10
_FRAMES_PER_SECOND = 8


def film(found: ClipLook, *, frame_height: int = 224, scores: bool = False) -> Pixels:
    """Draw a clip over time, (T, H, W, 3) uint8: a row for the frames and GradNorm, and one for
    each reducer with its stages. Options as of `sheet`."""
    tiles = tiles_of(found.frames, found.grid, height=frame_height)
    rows = _rows(list(strips_of(found, tiles, scores=scores)))
    height, width = tiles.frames.shape[1:3]
    most = max(len(row) for row in rows)
    across = 2 * _MARGIN + most * (width + _GAP) - _GAP
    down = 2 * _MARGIN + len(rows) * (height + 2 * LINE + _GAP) - _GAP
    # H.264 halves the colour's rows and columns.
    canvas = Image.new("RGB", (across + across % 2, down + down % 2), PAPER)
    pen = Pen(canvas, margin=_MARGIN)
    for number, row in enumerate(rows):
        top = _MARGIN + number * (height + 2 * LINE + _GAP)
        pen.write(_MARGIN, top, row[0].heading or "", room=across - 2 * _MARGIN)
        for place, strip in enumerate(row):
            left = _MARGIN + place * (width + _GAP)
            pen.write(left, top + LINE, strip.label, ink=FAINT, room=width)
    film = np.repeat(np.asarray(canvas)[None], len(tiles.frames), 0)
    for number, row in enumerate(rows):
        top = _MARGIN + number * (height + 2 * LINE + _GAP) + 2 * LINE
        for place, strip in enumerate(row):
            left = _MARGIN + place * (width + _GAP)
            film[:, top : top + height, left : left + width] = strip.frames
    return film


def _rows(strips: Sequence[Strip]) -> list[list[Strip]]:
    """Strips, each with those that follow without a heading of their own."""
    rows: list[list[Strip]] = []
    for strip in strips:
        if strip.heading or not rows:
            rows.append([])
        rows[-1].append(strip)
    return rows


def write_mp4(frames: Pixels, path: Path) -> None:
    """H.264 at 8 frames a second; sides have to be even."""
    rate = _FRAMES_PER_SECOND
    write_video(path, frames, frames_per_second=rate, crf=18, same_bytes=False)


def write_gif(frames: Pixels, path: Path) -> None:
    """A GIF that goes on for ever, at 8 frames a second."""
    # One palette for all, or still parts would flicker.
    palette = Image.fromarray(frames[0]).quantize(256)
    pictures = [Image.fromarray(frame).quantize(palette=palette) for frame in frames]
    duration = 1000 // _FRAMES_PER_SECOND
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration, loop=0)
