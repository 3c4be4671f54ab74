"""Text and colour scales on a picture."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from vidprune.drawing.colours import cividis

TEXT, SMALL = 17, 14
LINE = 24
INK, FAINT, PAPER = "#1a1a1a", "#5c5c5c", "#f4f4f4"
SCALE = (120, 10)


class Pen:
    """Text and colour scales on a canvas."""

    def __init__(self, canvas: Image.Image, *, margin: int) -> None:
        self.canvas, self.margin = canvas, margin
        self._draw = ImageDraw.Draw(canvas)

    def write(
        self,
        left: int,
        top: int,
        text: str,
        *,
        size: int = SMALL,
        ink: str = INK,
        room: int | None = None,
    ) -> None:
        """Text, cut to the `room` in pixels that it has."""
        font = ImageFont.load_default(size)
        text = printable(text)
        if room is not None:
            text = _cut(text, font, room)
        self._draw.text((left, top), text, fill=ink, font=font)

    def arrow(self, left: int, right: int, row: int) -> None:
        """An arrow to the right."""
        head = [(right - 8, row - 4), (right - 8, row + 4), (right, row)]
        self._draw.line([(left, row), (right - 8, row)], fill=INK, width=2)
        self._draw.polygon(head, fill=INK)

    def rule(self, top: int) -> None:
        """A line over the whole width."""
        self._draw.line(
            [(self.margin, top), (self.canvas.width - self.margin, top)], fill="#b0b0b0"
        )

    def scale(self, top: int, ends: Sequence[str]) -> None:
        """The colours of a heat map from dark to light, at the right, between what they mean."""
        font = ImageFont.load_default(SMALL)
        width, height = SCALE
        right = self.canvas.width - self.margin
        high = self._draw.textlength(ends[1], font)
        low = self._draw.textlength(ends[0], font)
        left = int(right - high - 6 - width)
        self.write(int(right - high), top + 3, ends[1], ink=FAINT)
        self.write(int(left - low - 6), top + 3, ends[0], ink=FAINT)
        ramp = Image.fromarray(cividis()[None].repeat(height, 0)).resize((width, height))
        self.canvas.paste(ramp, (left, top + 7))


def printable(text: str) -> str:
    """Text on one line, without what no font draws."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def _cut(text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", room: int) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text + "..."
