"""Colours that survive colour blindness and grey printing."""

from functools import cache

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

# Cividis (Nuñez, Anderton & Renslow 2018), every eighth of it: to everybody it runs from dark to
# light, evenly, whatever they see of colour.
_CIVIDIS = (
    "00224e",
    "123570",
    "3b496c",
    "575d6d",
    "707173",
    "8a8678",
    "a59c74",
    "c3b369",
    "fee838",
)

# Okabe & Ito (2008), without their black and yellow: what is marked lies on pictures of any colour.
GROUPS = ("e69f00", "56b4e9", "009e73", "d55e00", "0072b2", "cc79a7")

UNJUDGED = (255, 255, 255)


def rgb(colour: str) -> tuple[int, int, int]:
    """`rrggbb` as three numbers."""
    red, green, blue = bytes.fromhex(colour)
    return red, green, blue


@cache
def cividis() -> Pixels:
    """256 colours from low to high, (256, 3) uint8."""
    anchors = np.array([rgb(colour) for colour in _CIVIDIS], dtype=np.float64)
    places = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(places, range(len(anchors)), anchors[:, each]) for each in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def heat(values: npt.NDArray[np.floating], *, low: float, high: float) -> Pixels:
    """Values (...) as colours (..., 3): `low` is the darkest, `high` the lightest; NaN is white."""
    known = np.nan_to_num(values, nan=low)
    spread = high - low
    shares = (known - low) / spread if spread > 0 else np.zeros_like(known)
    colours = cividis()[(shares.clip(0, 1) * 255).round().astype(np.intp)]
    colours[np.isnan(values)] = UNJUDGED
    return colours


def group_colours(owners: npt.NDArray[np.int64]) -> Pixels:
    """A colour (..., 3) for the group of each owner, by its place."""
    table = np.array([rgb(colour) for colour in GROUPS], dtype=np.uint8)
    # Neighbours in a row are three or four of the six apart, and from row to row it drifts.
    return table[(owners * 7919 // 7) % len(table)]
