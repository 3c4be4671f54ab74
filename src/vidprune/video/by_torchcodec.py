"""Frames at given indices by torchcodec: on CUDA by the GPU's own decoder, where they then lie.

# Note [what torchcodec is given]
PyAV's frames are the specification (see `decode`), and torchcodec is given what it was found to
show alike: 8-bit 4:2:0 video with even sides, not mirrored, by codecs of which every packet shows a
frame, in a container that writes down when. PyAV opens the file first, which says which stream it
is, that nothing of it is missing and that it is no list of other files; torchcodec is handed the
open file, as PyAV is. The first frame is compared with PyAV's, which finds other colours and other
starts; every frame that is asked for has to come at its packet's time, and the last one has to
come. What does not fit or breaks is for PyAV, which then says what is wrong. What is broken where
nobody looks is not found out, as in Note [when to seek].
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
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
from vidprune.video.opening import OpenVideo, Path, UnreadableVideo, opened
from vidprune.video.seeking import keys_by_stamp
from vidprune.video.upright import Converter, Image, display_matrix

__all__ = ["Decoder", "ReadByPyAV", "Unsuited", "check_decoder", "read_by_torchcodec"]

Decoder = Literal["pyav", "torchcodec"]

# Those that write down when each frame is shown; AVI, for one, tells only their order in the file.
_CONTAINERS = ("matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2")
_CODECS = ("av1", "h264", "hevc", "mjpeg", "vp9")
_PIXELS = ("yuv420p", "yuvj420p")
# How far the first frame may be from PyAV's, in the mean of its levels: a GPU's decoder rounds
# otherwise, but another matrix or range of colours is further off.
_MOST_OFF = {"cpu": 0.0, "cuda": 3.0}
# Frames decoded at once, which bounds what they take before they are resized.
_AT_ONCE = 16
_SAME_SECONDS = 1e-4


class Unsuited(Exception):
    """Why a video is not for torchcodec, in words that other videos may share."""


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

    Raises UnreadableVideo where the file cannot be opened, Unsuited where PyAV has to read it, and
    what torch raises where a GPU has no memory left.
    """
    with opened(path, 1) as video:
        expected, stream = announced_frames(video), video.stream.index
        first = _first_image(video)
    seconds = _seconds_of_frames(path, expected)
    indices = tuple(sorted(set(choose(expected))))
    try:
        with open(path, "rb") as file, _current(device):
            decoder = _video_decoder(file, stream, device)
            _compare(decoder.get_frames_at([0]), first, seconds[:1])
            # The last one for the sake of the count alone.
            images = _images([*indices, expected - 1], decoder, seconds, prepare)[:-1]
            if device.type == "cuda":
                # The decoder is given to the next video, whatever still reads from it.
                torch.cuda.current_stream(device).synchronize()
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        if "out of memory" in str(error):
            # Nothing of the video's, which has to look the same whoever holds memory.
            raise
        raise Unsuited("it breaks on it") from error
    return FramesOnDevice(expected, indices, images)


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Torchcodec decodes on the current GPU, whichever it is told."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _video_decoder(file: BinaryIO, stream: int, device: torch.device) -> Any:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(file, stream_index=stream, dimension_order="NHWC", device=device)
    if device.type == "cuda" and decoder.cpu_fallback:
        raise Unsuited("the GPU does not decode it")
    return decoder


def _images(
    asked: list[int],
    decoder: Any,
    seconds: npt.NDArray[np.float64],
    prepare: Callable[[Tensor], Tensor],
) -> Tensor:
    """The frames of those numbers, prepared."""
    parts = []
    for start in range(0, len(asked), _AT_ONCE):
        chosen = asked[start : start + _AT_ONCE]
        found = decoder.get_frames_at(chosen)
        _check_times(found, seconds[chosen])
        parts.append(prepare(found.data))
    return torch.cat(parts)


def _check_times(found: Any, seconds: npt.NDArray[np.float64]) -> None:
    """Raise Unsuited where frames come at another time than their packets'."""
    if not np.allclose(found.pts_seconds.cpu(), seconds, rtol=0, atol=_SAME_SECONDS):
        raise Unsuited("other frames come out than its packets tell of")


def _compare(found: Any, first: Image, seconds: npt.NDArray[np.float64]) -> None:
    """Raise Unsuited where the first frame is another than PyAV's `first`."""
    _check_times(found, seconds)
    ours, theirs = torch.from_numpy(first), found.data[0].cpu()
    if ours.shape != theirs.shape:
        raise Unsuited("it has another size")
    if (ours.int() - theirs.int()).abs().double().mean() > _MOST_OFF[found.data.device.type]:
        raise Unsuited("it shows it otherwise")


def _first_image(video: OpenVideo) -> Image:
    """The first frame as PyAV shows it. Raises Unsuited for what torchcodec shows otherwise."""
    if video.missing_bytes:
        raise Unsuited("it is cut short")
    if (container := video.container.format.name) not in _CONTAINERS:
        raise Unsuited(f"its container is {container}")
    if (codec := video.stream.codec_context.codec.canonical_name) not in _CODECS:
        raise Unsuited(f"its codec is {codec}")
    if (pixels := video.stream.codec_context.pix_fmt) not in _PIXELS:
        raise Unsuited(f"its pixels are {pixels}")
    if any(side % 2 for side in video.size):
        raise Unsuited("its sides are odd")
    try:
        frame = next(video.container.decode(video.stream))
        image = Converter(video.path, frame).image(frame)
    except (FFmpegError, OSError, StopIteration, UnreadableVideo) as error:
        raise Unsuited("its first frame does not decode") from error
    matrix = display_matrix(frame)
    if matrix is not None and np.linalg.det(matrix) < 0:
        raise Unsuited("it is mirrored")
    return image


def _seconds_of_frames(path: Path, expected: int) -> npt.NDArray[np.float64]:
    """When each frame is shown; raise Unsuited where the packets leave it open."""
    with opened(path, 1) as video:
        base, stamps = video.stream.time_base, sorted(keys_by_stamp(video))
    if base is None or len(stamps) != expected:
        raise Unsuited("its packets do not tell its frames")
    return np.array(stamps) * float(base)
