"""Which videos are for torchcodec, and what it is told of them.

# Note [what torchcodec is given]
PyAV's frames are the specification (see `decode`), and torchcodec is given what it was found to
show alike: 8-bit 4:2:0 video of limited range (or by its pixel format full), progressive, with even
sides, turned by quarters and not mirrored, by codecs of which every packet shows a frame, in a
container that writes down when. PyAV opens the file first, which says which stream it is, that
nothing of it is missing and that it is no list of other files. The times of its packets number the
frames, so none may be missing, and where frames are coded in another order than they are shown
(B-frames) they may not simply rise, as in what was copied out of an AVI. The first frame is kept:
it is compared with torchcodec's. What changes on the way is not found out.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from av.error import FFmpegError
from av.video.frame import VideoFrame

from vidprune.video.decode import announced_frames
from vidprune.video.opening import OpenVideo, Path, UnreadableVideo, opened
from vidprune.video.seeking import keys_by_stamp, leaves_out_much, stretches_for
from vidprune.video.upright import Converter, Image, display_matrix

__all__ = ["Suited", "Unsuited", "suited"]

# Those that write down when each frame is shown; AVI, for one, tells only their order in the file.
_CONTAINERS = ("matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2")
_CODECS = ("av1", "h264", "hevc", "vp9")
_PIXELS = ("yuv420p", "yuvj420p")
_FULL_RANGE = 2
# As FFmpeg has them: not told, and one picture in a frame.
_PROGRESSIVE = (0, 1)
# Of the larger entry of a display matrix: what a quarter turn leaves of the smaller one.
_NO_TURN = 1e-3


class Unsuited(Exception):
    """Why a video is not for torchcodec, in words that other videos may share."""


@dataclass(frozen=True, eq=False)
class Suited:
    """A video for torchcodec: the number of its `stream`, its `first` frame as PyAV shows it, and,
    of all frames as they are shown, when (`stamps`, in units of `base` seconds, rising) and whether
    decoding can start there (`keys`)."""

    path: Path
    stream: int
    first: Image
    stamps: tuple[int, ...]
    keys: tuple[bool, ...]
    base: float

    @property
    def num_frames(self) -> int:
        """All frames."""
        return len(self.stamps)

    @property
    def seconds(self) -> npt.NDArray[np.float64]:
        """When each frame is shown."""
        return np.array(self.stamps) * self.base

    def mapping(self, wanted: Collection[int]) -> str:
        """What torchcodec is to know of the frames, as its `custom_frame_mappings`.

        It starts in the middle only where PyAV would, and for the last frame: what is damaged looks
        otherwise from there.
        """
        starts = self._starts(wanted)
        after = (*self.stamps[1:], self.stamps[-1] + 1)
        frames = [
            {"pts": stamp, "duration": end - stamp, "key_frame": int(index in starts)}
            for index, (stamp, end) in enumerate(zip(self.stamps, after, strict=True))
        ]
        return json.dumps({"frames": frames})

    def _starts(self, wanted: Collection[int]) -> set[int]:
        if not leaves_out_much(wanted, self.num_frames):
            return {0}
        keys = [index for index, key in enumerate(self.keys) if key]
        stretches = stretches_for(wanted, keys, self.num_frames)
        return {0, keys[-1], *(each.start for each in stretches)} if stretches else {0}


def suited(path: Path) -> Suited:
    """A local file that torchcodec shows as PyAV does. Raises Unsuited for all others, and
    UnreadableVideo where it cannot be opened."""
    with opened(path, 1) as video:
        expected, stream = announced_frames(video), video.stream.index
        _check_header(video)
        first = _first_image(video)
        reorders = video.stream.codec_context.has_b_frames
    with opened(path, 1) as video:
        base, keys = video.stream.time_base, keys_by_stamp(video)
    stamps = tuple(sorted(keys))
    if base is None or len(stamps) != expected or not keys[stamps[0]]:
        raise Unsuited("its packets do not tell its frames")
    if reorders and len(stamps) > 1 and stamps == tuple(keys):
        raise Unsuited("its packets do not tell in which order its frames are shown")
    return Suited(path, stream, first, stamps, tuple(keys[each] for each in stamps), float(base))


def _check_header(video: OpenVideo) -> None:
    """Raise Unsuited for what torchcodec does not read, or shows otherwise."""
    context = video.stream.codec_context
    if video.missing_bytes:
        raise Unsuited("it is cut short")
    if (container := video.container.format.name) not in _CONTAINERS:
        raise Unsuited(f"its container is {container}")
    if (codec := context.codec.canonical_name) not in _CODECS:
        raise Unsuited(f"its codec is {codec}")
    if (pixels := context.pix_fmt) not in _PIXELS:
        raise Unsuited(f"its pixels are {pixels}")
    if any(side % 2 for side in video.size):
        raise Unsuited("its sides are odd")


def _first_image(video: OpenVideo) -> Image:
    """The first frame as PyAV shows it. Raises Unsuited for what torchcodec shows otherwise."""
    try:
        frame = next(video.container.decode(video.stream))
        image = Converter(video.path, frame).image(frame)
    except (FFmpegError, OSError, StopIteration, UnreadableVideo) as error:
        raise Unsuited("its first frame does not decode") from error
    if frame.interlaced_frame or video.stream.codec_context.field_order not in _PROGRESSIVE:
        raise Unsuited("it is interlaced")
    if frame.color_range == _FULL_RANGE and frame.format.name == "yuv420p":
        raise Unsuited("its colours are of full range")
    _check_upright(frame)
    return image


def _check_upright(frame: VideoFrame) -> None:
    matrix = display_matrix(frame)
    if matrix is None:
        return
    if np.linalg.det(matrix) < 0:
        raise Unsuited("it is mirrored")
    sides = np.sort(np.abs(matrix[0]))
    if sides[0] > _NO_TURN * sides[1]:
        raise Unsuited("it is turned by less than a quarter")
