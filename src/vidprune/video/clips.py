"""A video file and a protocol -> its views, ready for the device."""

import os
import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from vidprune.video.by_torchcodec import (
    Decoder,
    ReadByPyAV,
    check_decoder,
    read_by_torchcodec,
)
from vidprune.video.decode import Frames, read_frames
from vidprune.video.on_device import cut_on_device, resize_on_device
from vidprune.video.resize import resize_short_side
from vidprune.video.suited import Unsuited
from vidprune.video.views import Protocol, crop_offsets

__all__ = ["Views", "cut_views", "read_views"]


@dataclass(frozen=True, eq=False)
class Views:
    """The views of one video.

    `pixels` is (V, T, 3, S, S) uint8: V views in the order of `order`, T frames of S x S pixels.
    `num_frames` is how many frames the video has; `order` the (segment, crop) of each view.
    """

    pixels: torch.Tensor
    num_frames: int
    order: tuple[tuple[int, int], ...]


def cut_views(frames: Frames, protocol: Protocol) -> torch.Tensor:
    """Cut the views of `protocol` from resized frames in memory: (V, T, 3, S, S) uint8.

    `frames` holds at least the frames that the protocol needs, each (3, H, W) uint8 with a
    shorter side of `protocol.size`.
    """
    indices = protocol.indices(frames.num_frames)
    _, height, width = frames.images[indices[0][0]].shape
    size = protocol.size
    corners = crop_offsets(height, width, size=size, crops=protocol.crops)
    # Copied with numpy: these are many small copies, which torch would spread over threads.
    pixels = np.empty((len(protocol.views), protocol.frames, 3, size, size), dtype=np.uint8)
    for view, (segment, crop) in enumerate(protocol.views):
        top, left = corners[crop]
        for position, index in enumerate(indices[segment]):
            image = frames.images[index]
            pixels[view, position] = image[:, top : top + size, left : left + size]
    return torch.from_numpy(pixels)


def read_views(
    path: str | os.PathLike[str],
    protocol: Protocol,
    *,
    threads: int = 1,
    decoder: Decoder = "pyav",
    device: torch.device | str = "cpu",
) -> Views:
    """Decode a video once and return the views of `protocol`, on `device`, a CPU or CUDA.

    Every frame that some view needs is converted and resized once; the views are cut from
    memory. `threads` goes to PyAV's decoder (see `read_frames`). With `decoder` "torchcodec" the
    device decodes, resizes and cuts; PyAV reads what torchcodec would show otherwise, of which
    ReadByPyAV warns. On a CPU the pixels are the same; a GPU's own decoder rounds otherwise.

    Raises UnreadableVideo where the file cannot be read to its end, and ValueError where there is
    no such decoder or device.
    """
    device = torch.device(device)
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device={device} decodes no videos; choose cpu or cuda")
    check_decoder(decoder, device)
    if decoder == "torchcodec":
        try:
            return _by_torchcodec(path, protocol, device)
        except Unsuited as error:
            warnings.warn(
                ReadByPyAV(f"PyAV reads videos that are not for torchcodec: {error}"), stacklevel=2
            )
    resize = partial(resize_short_side, size=protocol.size)
    frames = read_frames(path, protocol.needed, prepare=resize, threads=threads)
    pixels = cut_views(frames, protocol).to(device)
    return Views(pixels, frames.num_frames, protocol.views)


def _by_torchcodec(path: str | os.PathLike[str], protocol: Protocol, device: torch.device) -> Views:
    resize = partial(resize_on_device, size=protocol.size)
    frames = read_by_torchcodec(path, protocol.needed, device=device, prepare=resize)
    return Views(cut_on_device(frames, protocol), frames.num_frames, protocol.views)
