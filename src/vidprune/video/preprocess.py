"""From 8-bit views to a model's input: normalisation, on whatever device the views are.

Pixels stay uint8 until then: that is a quarter of the bytes to hold, send and copy, and loses
nothing, since the release too resizes 8-bit images to 8-bit images (see `resize`).
"""

from dataclasses import dataclass

import torch

__all__ = ["IMAGENET", "Normalisation", "normalise", "sent"]


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each colour channel (red, green, blue), on [0, 1].

    Raises ValueError where there are not three of each, or a deviation is not above 0.
    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3:
                raise ValueError(
                    f"{name} is {values!r}, but must hold 3 numbers, one for each of red, green "
                    f"and blue"
                )
        if min(self.std) <= 0:
            raise ValueError(f"std is {self.std!r}, but pixels are divided by it: all must be > 0")


IMAGENET = Normalisation()


def normalise(
    pixels: torch.Tensor,
    normalisation: Normalisation = IMAGENET,
    *,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Return (pixels / 255 - mean) / std, on the device of `pixels`.

    `pixels` is (..., 3, H, W) uint8, channels third from last; the result has the same shape and
    is `dtype`. It is computed in float32 and cast at the end, so that half precision rounds once.

    Raises ValueError where `pixels` is not uint8 or does not have 3 channels there.
    """
    if pixels.dtype != torch.uint8 or pixels.dim() < 3 or pixels.shape[-3] != 3:
        raise ValueError(
            f"pixels is {tuple(pixels.shape)} {pixels.dtype}, but must be (..., 3, height, width) "
            f"torch.uint8; move channels to the third dimension from the end"
        )
    mean, std = (
        sent(torch.tensor(values), pixels.device).view(3, 1, 1)
        for values in (normalisation.mean, normalisation.std)
    )
    return ((pixels.to(torch.float32) / 255 - mean) / std).to(dtype)


def sent(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """What lies on the CPU, on a device. To a GPU it goes from memory that the GPU reads by itself,
    so that nobody waits for what was asked of it before."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
