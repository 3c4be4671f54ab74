"""How a training clip is changed: one crop, one flip, the same operations in all of its frames.

The operations are those of RandAugment (Cubuk et al., CVPR Workshops 2020) in the form that
VideoMAE fine-tunes with: each of a few, drawn with repetition from fifteen, is applied half of the
time, at a strength that grows with its magnitude. Pillow does the work on the pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps

from vidprune.training.sampling import random_box

Frame = Image.Image
Pixels = npt.NDArray[np.uint8]

_GREY = (128, 128, 128)  # what comes in from outside of the frame
_MAGNITUDES = 10.0
_MAGNITUDE_NOISE = 0.5
_ERASED_AREA, _ERASED_RATIO = (0.02, 1 / 3), (0.3, 1 / 0.3)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What may happen to a clip; the defaults are VideoMAE's for Kinetics.

    `crop_area`: share of the frame that the crop covers, from and to. `flip`: mirror half of the
    clips (which changes labels where left and right matter, as in Something-Something).
    `operations` of RandAugment at `magnitude` (0 to 10). `erasing`: how likely it is that a
    rectangle of the clip becomes noise.

    Raises ValueError where a value is outside its range.
    """

    crop_area: tuple[float, float] = (0.08, 1.0)
    flip: bool = True
    operations: int = 4
    magnitude: float = 7.0
    erasing: float = 0.25

    def __post_init__(self) -> None:
        least, most = self.crop_area
        if not 0 < least <= most <= 1:
            raise ValueError(
                f"crop_area={self.crop_area} must be two shares of the frame, above 0 and up to "
                "1, the smaller one first"
            )
        if self.operations < 0:
            raise ValueError(f"operations={self.operations} must be 0 (none) or more")
        if not 0 <= self.magnitude <= _MAGNITUDES:
            raise ValueError(f"magnitude={self.magnitude} must be between 0 and 10")
        if not 0 <= self.erasing <= 1:
            raise ValueError(f"erasing={self.erasing} is a probability: 0 to 1")


def augmented(
    frames: Sequence[Pixels], size: int, how: Augmentation, rng: np.random.Generator
) -> Pixels:
    """Frames (H, W, 3) uint8 as a clip (T, 3, size, size) uint8, changed by chance."""
    height, width, _ = frames[0].shape
    box = random_box(height, width, rng, area=how.crop_area)
    mirrored = how.flip and rng.random() < 0.5
    changes = _drawn_changes(how, rng)
    clip = np.empty((len(frames), 3, size, size), np.uint8)
    for position, frame in enumerate(frames):
        image = Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR, box=box)
        image = ImageOps.mirror(image) if mirrored else image
        for change in changes:
            image = change(image)
        clip[position] = np.asarray(image).transpose(2, 0, 1)
    if rng.random() < how.erasing:
        _erase(clip, rng)
    return clip


def _drawn_changes(how: Augmentation, rng: np.random.Generator) -> list[Callable[[Frame], Frame]]:
    """The operations of one clip, with their strengths."""
    changes = []
    for _ in range(how.operations):
        operation = _OPERATIONS[rng.integers(len(_OPERATIONS))]
        strength = np.clip(rng.normal(how.magnitude, _MAGNITUDE_NOISE), 0, _MAGNITUDES)
        signed = float(strength / _MAGNITUDES * rng.choice((-1, 1)))
        if rng.random() < 0.5:
            changes.append(_bound(operation, signed))
    return changes


def _bound(operation: Callable[[Frame, float], Frame], signed: float) -> Callable[[Frame], Frame]:
    return lambda image: operation(image, signed)


def _erase(clip: Pixels, rng: np.random.Generator) -> None:
    """Noise in one rectangle of all frames, in place."""
    height, width = clip.shape[2:]
    left, top, right, bottom = random_box(
        height, width, rng, area=_ERASED_AREA, ratio=_ERASED_RATIO
    )
    hole = clip[:, :, top:bottom, left:right]
    hole[:] = rng.integers(0, 256, hole.shape, dtype=np.uint8)


def _moved(image: Frame, matrix: tuple[float, float, float, float, float, float]) -> Frame:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=_GREY
    )


def _rotated(image: Frame, signed: float) -> Frame:
    return image.rotate(30 * signed, Image.Resampling.BICUBIC, fillcolor=_GREY)


def _posterised(image: Frame, signed: float) -> Frame:
    return ImageOps.posterize(image, max(1, 4 - int(4 * abs(signed))))


def _solarised(image: Frame, signed: float) -> Frame:
    return ImageOps.solarize(image, 256 - int(256 * abs(signed)))


def _brightened_shadows(image: Frame, signed: float) -> Frame:
    """RandAugment's "solarize add": more light where a channel is dark."""
    light = int(110 * abs(signed))
    return image.point([min(255, v + light) if v < 128 else v for v in range(256)] * 3)


def _enhanced(kind: Callable[[Frame], ImageEnhance._Enhance]) -> Callable[[Frame, float], Frame]:
    return lambda image, signed: kind(image).enhance(max(0.1, 1 + 0.9 * signed))


# Each of an image and a strength from -1 to 1.
_OPERATIONS: tuple[Callable[[Frame, float], Frame], ...] = (
    lambda image, signed: ImageOps.autocontrast(image),
    lambda image, signed: ImageOps.equalize(image),
    lambda image, signed: ImageOps.invert(image),
    _rotated,
    _posterised,
    _solarised,
    _brightened_shadows,
    _enhanced(ImageEnhance.Color),
    _enhanced(ImageEnhance.Contrast),
    _enhanced(ImageEnhance.Brightness),
    _enhanced(ImageEnhance.Sharpness),
    lambda image, signed: _moved(image, (1, 0.3 * signed, 0, 0, 1, 0)),
    lambda image, signed: _moved(image, (1, 0, 0, 0.3 * signed, 1, 0)),
    lambda image, signed: _moved(image, (1, 0, 0.45 * signed * image.width, 0, 1, 0)),
    lambda image, signed: _moved(image, (1, 0, 0, 0, 1, 0.45 * signed * image.height)),
)
