"""Frames at given indices by torchcodec: on CUDA by the GPU's own decoder, where they then lie.

# Note [what torchcodec is given]
PyAV's frames are the specification (see `decode`), and torchcodec is given what it was found to
show alike: 8-bit 4:2:0 video with even sides, not mirrored, in a container that writes down when
each frame is shown. PyAV opens the file first, which says which stream it is, that nothing of it is
missing and that it is no list of other files; torchcodec is handed the open file, as PyAV is. What
torchcodec counts are packets, of which some hold no frame or none that decodes: so each frame has
to come at its packet's time, and the last one has to come. What does not fit or breaks is for
PyAV, which then says what is wrong. What is broken where nobody looks is not found out, as in
Note [when to seek].
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from av.error import FFmpegError
from torch import Tensor

from vidprune.video.decode import announced_frames
from vidprune.video.on_device import FramesOnDevice
from vidprune.video.opening import OpenVideo, Path, opened
from vidprune.video.seeking import keys_by_stamp
from vidprune.video.upright import display_matrix

__all__ = ["Decoder", "Unsuited", "check_decoder", "read_by_torchcodec"]

Decoder = Literal["pyav", "torchcodec"]

# Those that write down when each frame is shown; AVI, for one, tells only their order in the file.
_CONTAINERS = ("matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2")
_PIXELS = ("yuv420p", "yuvj420p")
# Frames decoded at once, which bounds what they take before they are resized.
_AT_ONCE = 16
_SAME_SECONDS = 1e-4
# Of what torchcodec says where it breaks, in characters.
_LONGEST = 300


class Unsuited(Exception):
    """Why a video is not for torchcodec."""


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
        version = import_module("torchcodec").__version__
    except (ImportError, OSError, RuntimeError) as error:
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

    Raises UnreadableVideo where the file cannot be opened, and Unsuited where PyAV has to read it.
    """
    with opened(path, 1) as video:
        expected, stream = announced_frames(video), video.stream.index
        _check(video)
    seconds = _seconds_of_frames(path, expected)
    indices = tuple(sorted(set(choose(expected))))
    try:
        with open(path, "rb") as file:
            decoder = _video_decoder(file, stream, device)
            # The last one for the sake of the count alone.
            images = _images([*indices, expected - 1], decoder, seconds, prepare)[:-1]
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        raise Unsuited(f"it cannot read it: {' '.join(str(error).split())[:_LONGEST]}") from error
    return FramesOnDevice(expected, indices, images)


def _video_decoder(file: BinaryIO, stream: int, device: torch.device) -> Any:
    from torchcodec.decoders import VideoDecoder

    return VideoDecoder(file, stream_index=stream, dimension_order="NHWC", device=device)


def _images(
    asked: list[int],
    decoder: Any,
    seconds: npt.NDArray[np.float64],
    prepare: Callable[[Tensor], Tensor],
) -> Tensor:
    """The frames of those numbers, prepared; raise Unsuited where they come at another time."""
    parts = []
    for start in range(0, len(asked), _AT_ONCE):
        chosen = asked[start : start + _AT_ONCE]
        found = decoder.get_frames_at(chosen)
        if not np.allclose(found.pts_seconds.cpu(), seconds[chosen], rtol=0, atol=_SAME_SECONDS):
            raise Unsuited("other frames come out than its packets tell of")
        parts.append(prepare(found.data))
    return torch.cat(parts)


def _check(video: OpenVideo) -> None:
    """Raise Unsuited for what torchcodec does not show as PyAV does."""
    if video.missing_bytes:
        raise Unsuited("it is cut short")
    if (container := video.container.format.name) not in _CONTAINERS:
        raise Unsuited(f"its container is {container}")
    if (pixels := video.stream.codec_context.pix_fmt) not in _PIXELS:
        raise Unsuited(f"its pixels are {pixels}")
    if any(side % 2 for side in video.size):
        raise Unsuited("its sides are odd")
    try:
        matrix = display_matrix(next(video.container.decode(video.stream)))
    except (FFmpegError, OSError, StopIteration) as error:
        raise Unsuited("its first frame does not decode") from error
    if matrix is not None and np.linalg.det(matrix) < 0:
        raise Unsuited("it is mirrored")


def _seconds_of_frames(path: Path, expected: int) -> npt.NDArray[np.float64]:
    """When each frame is shown; raise Unsuited where the packets leave it open."""
    with opened(path, 1) as video:
        base, stamps = video.stream.time_base, sorted(keys_by_stamp(video))
    if base is None or len(stamps) != expected:
        raise Unsuited("its packets do not tell its frames")
    return np.array(stamps) * float(base)
