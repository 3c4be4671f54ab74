"""Shorter side to a given length: bilinear on 8-bit images, to the bit as the release does it.

The release resizes with OpenCV, whose bilinear filter for 8-bit images works in whole numbers:
weights in 1/2048, first along rows, then along columns, with bits dropped in between. The same
arithmetic here gives the same pixels on every machine and needs neither OpenCV nor torch. (It is
within one level of a bilinear filter in floating point: half-pixel centres, no antialiasing.)
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["resize_short_side", "resized_shape", "taps"]

_ONE = 2048


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Return (height, width) once the shorter side is `size`; the longer one is rounded down."""
    if height < width:
        return size, int(size * width / height)
    return int(size * height / width), size


def resize_short_side(image: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Scale an image so that its shorter side is `size` pixels, and put channels first.

    `image` is (H, W, 3) uint8, the result (3, H', W') uint8 with the larger of H' and W' being
    int(size * longer / shorter). An image whose shorter side is `size` is not resampled.
    """
    height, width = image.shape[:2]
    if min(height, width) != size:
        image = _resize(image, *resized_shape(height, width, size))
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def _resize(image: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    rows, _, channels = image.shape
    left, right, left_weight, right_weight = _taps_along_row(image.shape[1], width, channels)
    # In place where possible: this runs for every frame and is bound by memory.
    blended = np.take(image, left, axis=1).reshape(rows, -1).astype(np.int32)
    blended *= left_weight
    blended += np.take(image, right, axis=1).reshape(rows, -1) * right_weight
    blended >>= 4
    above, below, above_weight, below_weight = taps(rows, height)
    top = np.take(blended, above, axis=0)
    top *= above_weight[:, None]
    top >>= 16
    bottom = np.take(blended, below, axis=0)
    bottom *= below_weight[:, None]
    bottom >>= 16
    top += bottom
    top += 2
    top >>= 2
    return top.astype(np.uint8).reshape(height, width, channels)


Taps = tuple[
    npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.int32], npt.NDArray[np.int32]
]


@lru_cache(maxsize=64)
def taps(length_in: int, length_out: int) -> Taps:
    """Return the two source positions of every output position, and their weights of 1/2048.

    Beyond an edge both positions are the edge; the weights stay as they fall.
    """
    step = length_in / length_out
    centre = ((np.arange(length_out) + 0.5) * step - 0.5).astype(np.float32)
    before = np.floor(centre).astype(np.intp)
    fraction = centre - before.astype(np.float32)
    first_weight = np.rint((np.float32(1) - fraction) * _ONE).astype(np.int32)
    second_weight = np.rint(fraction * _ONE).astype(np.int32)
    last = length_in - 1
    return before.clip(0, last), (before + 1).clip(0, last), first_weight, second_weight


@lru_cache(maxsize=64)
def _taps_along_row(length_in: int, length_out: int, channels: int) -> Taps:
    """Taps along a row of interleaved channels: weights are repeated for each channel."""
    first, second, first_weight, second_weight = taps(length_in, length_out)
    return first, second, first_weight.repeat(channels), second_weight.repeat(channels)
