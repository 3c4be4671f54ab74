"""A clip as one picture, in the layout of the STA paper's figures: time flows to the right, depth
downwards."""

from PIL import Image

from vidprune.drawing.overlay import one_per_position, tiles_of
from vidprune.drawing.strips import Strip, strips_of
from vidprune.drawing.writing import FAINT, LINE, PAPER, SCALE, TEXT, Pen
from vidprune.insight.look import ClipLook

_GAP, _MARGIN = 4, 10


def sheet(found: ClipLook, *, frame_height: int = 168, scores: bool = False) -> Image.Image:
    """Draw a clip: one frame of each temporal position, GradNorm, and every stage of every reducer.

    `frame_height`: about how many pixels a frame is high; it becomes a whole number of pixels per
    place. `scores` adds what the reducers judged by.
    """
    shown = one_per_position(found.frames, found.grid)
    tiles = tiles_of(shown, found.grid, height=frame_height)
    strips = list(strips_of(found, tiles, scores=scores))
    count, height, width = tiles.frames.shape[:3]
    across = max(2 * _MARGIN + count * (width + _GAP) - _GAP, 640)
    down = 2 * _MARGIN + 2 * LINE + sum(_height(strip, height) for strip in strips)
    canvas = Image.new("RGB", (across, down), PAPER)
    pen = Pen(canvas, margin=_MARGIN)
    pen.write(_MARGIN, _MARGIN, found.video, size=TEXT, room=across - 2 * _MARGIN - 90)
    pen.write(across - _MARGIN - 84, _MARGIN, "time", size=TEXT)
    pen.arrow(across - _MARGIN - 40, across - _MARGIN, _MARGIN + LINE // 2)
    top = _MARGIN + LINE
    step = len(found.frames) // found.grid.frames
    for number in range(count):
        frames = f"{number * step + 1}" + (f"-{(number + 1) * step}" if step > 1 else "")
        left = _MARGIN + number * (width + _GAP)
        pen.write(
            left, top + 4, f"frame {frames}" if number == 0 else frames, ink=FAINT, room=width
        )
    top += LINE
    for strip in strips:
        _draw(pen, strip, top)
        top += _height(strip, height)
    return canvas


def _height(strip: Strip, height: int) -> int:
    return height + LINE + _GAP + (LINE + 2 * _GAP if strip.heading else 0)


def _draw(pen: Pen, strip: Strip, top: int) -> None:
    across = pen.canvas.width - 2 * _MARGIN
    if strip.heading:
        pen.rule(top + _GAP)
        pen.write(_MARGIN, top + 2 * _GAP, strip.heading, size=TEXT, room=across)
        top += LINE + 2 * _GAP
    room = across - (SCALE[0] + 120 if strip.scale else 0)
    pen.write(_MARGIN, top + 3, strip.label, ink=FAINT, room=room)
    if strip.scale:
        pen.scale(top, strip.scale)
    for number, frame in enumerate(strip.frames):
        left = _MARGIN + number * (frame.shape[1] + _GAP)
        pen.canvas.paste(Image.fromarray(frame), (left, top + LINE))
