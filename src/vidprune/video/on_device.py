"""Frames that lie on a device, resized and cut into views there: to the pixel as on the CPU.

The arithmetic is that of `resize`, in whole numbers, on tensors. What a GPU decodes need not leave
it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vidprune.video.resize import resized_shape, taps
from vidprune.video.views import Protocol, crop_offsets

__all__ = ["FramesOnDevice", "cut_on_device", "resize_on_device"]


@dataclass(frozen=True, eq=False)
class FramesOnDevice:
    """Frames of one video: `num_frames` in all, of which `images` (N, 3, H, W) uint8 are those
    at `indices`."""

    num_frames: int
    indices: tuple[int, ...]
    images: Tensor


def resize_on_device(images: Tensor, size: int) -> Tensor:
    """Images (N, H, W, 3) uint8 as `resize_short_side` has them: (N, 3, H', W'), the shorter of
    H' and W' being `size`."""
    height, width = images.shape[1:3]
    if min(height, width) != size:
        images = _resize(images, *resized_shape(height, width, size))
    return images.movedim(3, 1).contiguous()


def _resize(images: Tensor, height: int, width: int) -> Tensor:
    left, right = _weighted(images, width, dim=2)
    above, below = _weighted(left.add_(right).bitwise_right_shift_(4), height, dim=1)
    above.bitwise_right_shift_(16).add_(below.bitwise_right_shift_(16))
    return above.add_(2).bitwise_right_shift_(2).to(torch.uint8)


def _weighted(images: Tensor, length: int, *, dim: int) -> tuple[Tensor, Tensor]:
    """What each of `length` positions along `dim` takes from before and after it, int32."""
    before, after, *weights = (
        torch.from_numpy(each).to(images.device) for each in taps(images.shape[dim], length)
    )
    along = (-1, *[1] * (images.dim() - 1 - dim))
    first, second = (weight.view(along) for weight in weights)
    return (
        images.index_select(dim, before) * first,
        images.index_select(dim, after) * second,
    )


def cut_on_device(frames: FramesOnDevice, protocol: Protocol) -> Tensor:
    """The views of `protocol`, (V, T, 3, S, S) uint8, as `cut_views` cuts them; the shorter side of
    the frames is `protocol.size`, and all that the protocol needs are there."""
    place = {index: place for place, index in enumerate(frames.indices)}
    height, width = frames.images.shape[2:]
    size = protocol.size
    corners = crop_offsets(height, width, size=size, crops=protocol.crops)
    clips = [
        frames.images[[place[index] for index in segment]]
        for segment in protocol.indices(frames.num_frames)
    ]
    squares = []
    for segment, crop in protocol.views:
        top, left = corners[crop]
        squares.append(clips[segment][..., top : top + size, left : left + size])
    return torch.stack(squares)
