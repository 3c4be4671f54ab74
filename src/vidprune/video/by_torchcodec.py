"""Frames at given indices by torchcodec: on CUDA by the GPU's own decoder, where they then lie.

Of which videos, and how it is made sure that they look as PyAV shows them: see
Note [what torchcodec is given]. The first frame is compared with PyAV's, which finds other colours
and other starts; every frame that is asked for has to come at its packet's time, and the last one
has to come. What does not fit or breaks is for PyAV, which then says what is wrong. What is broken
where nobody looks is not found out, as in Note [when to seek].
"""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidprune.video.on_device import FramesOnDevice
from vidprune.video.opening import Path
from vidprune.video.suited import Suited, Unsuited, suited
from vidprune.video.upright import Image

__all__ = ["Decoder", "ReadByPyAV", "check_decoder", "lacks_memory", "read_by_torchcodec"]

Decoder = Literal["pyav", "torchcodec"]

# How far the first frame may be from PyAV's, in the mean of its levels: a GPU's decoder rounds
# otherwise, but another matrix or range of colours is further off.
_MOST_OFF = {"cpu": 0.0, "cuda": 3.0}
# Frames decoded at once, which bounds what they take before they are resized.
_AT_ONCE = 16


class ReadByPyAV(UserWarning):
    """PyAV reads videos in torchcodec's place, and why."""


def check_decoder(decoder: str, device: torch.device | None = None) -> None:
    """Raise ValueError for what is no decoder, or cannot be had in this process or on `device`."""
    if decoder not in get_args(Decoder):
        raise ValueError(
            f"decoder={decoder!r} is not known; choose one of {', '.join(get_args(Decoder))}"
        )
    if decoder == "pyav":
        return
    if find_spec("torchcodec") is None:
        raise ValueError(
            "decoder='torchcodec' needs torchcodec; pip install 'vidprune[torchcodec]', or leave "
            "it out"
        )
    try:
        import_module("torchcodec.decoders")
        version = str(getattr(import_module("torchcodec"), "__version__", ""))
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise ValueError(
            "decoder='torchcodec' cannot be loaded: it needs FFmpeg's shared libraries (apt or "
            "conda install ffmpeg) and has to be built for this torch; or leave it out"
        ) from error
    if device is not None and device.type == "cuda" and version.endswith("+cpu"):
        raise ValueError(
            f"decoder='torchcodec' is torchcodec {version}, which decodes on no GPU; install one "
            "that is built for CUDA, or leave it out"
        )


def read_by_torchcodec(
    path: Path,
    choose: Callable[[int], Sequence[int]],
    *,
    device: torch.device,
    prepare: Callable[[Tensor], Tensor],
) -> FramesOnDevice:
    """Decode those frames of a local file that `choose` asks for, rising, on `device`.

    `choose` maps the number of frames to indices; `prepare` is applied to images (N, H, W, 3)
    uint8, some at a time, and makes them (N, 3, H', W').

    Raises UnreadableVideo where the file cannot be opened, Unsuited where PyAV has to read it, and
    what torch raises where a GPU has no memory left.
    """
    video = suited(path)
    indices = tuple(sorted(set(choose(video.num_frames))))
    try:
        with open(path, "rb") as file, _current(device):
            decoder = _video_decoder(file, video, indices, device)
            # The first one is compared, and the last one shows that all are there.
            asked = sorted({0, *indices, video.num_frames - 1})
            images = _images(asked, decoder, video, prepare)
            images = images[asked.index(indices[0]) : asked.index(indices[-1]) + 1]
            if device.type == "cuda":
                # The decoder is given to the next video, whatever still reads from it.
                torch.cuda.current_stream(device).synchronize()
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        if lacks_memory(error):
            # Nothing of the video's, which has to look the same whoever holds memory.
            raise
        raise Unsuited("it breaks on it") from error
    return FramesOnDevice(video.num_frames, indices, images)


def lacks_memory(error: Exception) -> bool:
    """Whether a GPU has none left for what failed; torchcodec tells of CUDA's error by number."""
    return re.search("out of memory|create NVDEC decoder: 2$", str(error).strip()) is not None


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Torchcodec decodes on the current GPU, whichever it is told."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _video_decoder(
    file: BinaryIO, video: Suited, indices: Sequence[int], device: torch.device
) -> Any:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(
        file,
        stream_index=video.stream,
        dimension_order="NHWC",
        device=device,
        custom_frame_mappings=video.mapping(indices),
    )
    if device.type == "cuda" and decoder.cpu_fallback:
        raise Unsuited("the GPU does not decode it")
    return decoder


def _images(
    asked: list[int], decoder: Any, video: Suited, prepare: Callable[[Tensor], Tensor]
) -> Tensor:
    """The frames of those numbers, prepared; the first of them is the video's first."""
    parts = []
    for start in range(0, len(asked), _AT_ONCE):
        chosen = asked[start : start + _AT_ONCE]
        found = decoder.get_frames_at(chosen)
        _check_times(found.pts_seconds, video.seconds[chosen], video.base)
        if start == 0:
            _compare(found.data[0], video.first)
        parts.append(prepare(found.data))
    return torch.cat(parts)


def _check_times(found: Tensor, seconds: npt.NDArray[np.float64], base: float) -> None:
    """Raise Unsuited where frames come at another time than their packets'."""
    if not np.allclose(found.cpu(), seconds, rtol=1e-12, atol=base / 4):
        raise Unsuited("other frames come out than its packets tell of")


def _compare(found: Tensor, first: Image) -> None:
    """Raise Unsuited where the first frame is another than PyAV's `first`."""
    ours, theirs = torch.from_numpy(first), found.cpu()
    if ours.shape != theirs.shape:
        raise Unsuited("it has another size")
    if (ours.int() - theirs.int()).abs().double().mean() > _MOST_OFF[found.device.type]:
        raise Unsuited("it shows it otherwise")
