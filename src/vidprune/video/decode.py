"""Frames at given indices, in one pass over a video file (PyAV).

The stream is decoded from its first frame to its last, and frame i is the i-th that comes out:
no seeking, so no wrong frame where timestamps or key frames lie. Decoding runs to the end even
when the last frames are not needed, because only then is the number of frames known, and every
index depends on it. Frames that are not needed are neither converted nor kept.

A frame is what a viewer sees: display rotation and mirroring are applied, colour matrix and
range follow the stream, transparency is dropped. Pixels are taken as square (the aspect ratio of
samples is ignored), as the loaders of the field's test protocols do.
"""

import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.error import FFmpegError
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vidprune.video.truncation import missing_bytes

__all__ = ["Frames", "Image", "UnreadableVideo", "read_frames"]

Image = npt.NDArray[np.uint8]
Path = str | os.PathLike[str]


class UnreadableVideo(Exception):
    """A video that cannot be read to its end: `path`, and `reason` in one sentence."""

    def __init__(self, path: Path, reason: str) -> None:
        # Both go to Exception, so that the error survives pickling between worker processes.
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{os.fspath(self.path)}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of one video: `num_frames` in all, and by index the `images` that were asked for.

    Each image is (H, W, 3) uint8 red, green, blue, or whatever `prepare` made of it.
    """

    num_frames: int
    images: Mapping[int, Image]


def _as_decoded(image: Image) -> Image:
    return image


def read_frames(
    path: Path,
    choose: Callable[[int], Sequence[int]],
    *,
    prepare: Callable[[Image], Image] = _as_decoded,
    threads: int = 1,
) -> Frames:
    """Decode a local video file once and return the frames that `choose` asks for.

    `choose` maps the number of frames to the indices that are needed, in any order. `prepare`
    is applied to each of these frames, (H, W, 3) uint8, as soon as it is decoded (a resize here
    bounds memory). `threads` is for the decoder, 0 for one per core: 1 is best where several
    videos are read at once, and about as fast for small frames.

    The number of frames is taken from the container, or by counting packets where it says
    none. Should the decoder disagree, the file is decoded again with the number that came out.

    Raises UnreadableVideo where the path is not a file, holds no video, or breaks off; and
    ValueError where `choose` names a frame that the video does not have, or `threads` is negative.
    """
    if threads < 0:
        raise ValueError(f"threads is {threads}, but must be 1 or more, or 0 for one per core")
    with _opened(path, threads) as video:
        expected = _announced_frames(video)
        frames = _collect(video, choose, expected, prepare)
    if video.missing_bytes:
        raise UnreadableVideo(
            path,
            f"the file is cut short: {video.missing_bytes} bytes that its container announces "
            f"are missing ({frames.num_frames} frames decode)",
        )
    if frames.num_frames != expected:
        with _opened(path, threads) as video:
            frames = _collect(video, choose, frames.num_frames, prepare)
    return frames


@dataclass(frozen=True)
class _Video:
    """A file opened for decoding: its container and best video stream, and its size on disk."""

    path: Path
    container: InputContainer
    stream: VideoStream
    num_bytes: int
    missing_bytes: int


def _collect(
    video: _Video,
    choose: Callable[[int], Sequence[int]],
    expected: int,
    prepare: Callable[[Image], Image],
) -> Frames:
    wanted = _wanted(choose, expected)
    images: dict[int, Image] = {}
    converter = None
    count = 0
    for frame in _decoded(video, expected):
        converter = converter or _Converter(video.path, frame)
        if count in wanted:
            images[count] = prepare(converter.image(frame))
        count += 1
    if count == 0:
        raise UnreadableVideo(video.path, "its video stream holds no frame")
    return Frames(count, images)


def _wanted(choose: Callable[[int], Sequence[int]], num_frames: int) -> Collection[int]:
    wanted = frozenset(choose(num_frames)) if num_frames else frozenset()
    if wanted and not (min(wanted) >= 0 and max(wanted) < num_frames):
        raise ValueError(
            f"choose({num_frames}) asks for frames {min(wanted)} to {max(wanted)}, but the video "
            f"has frames 0 to {num_frames - 1}; return indices in that range"
        )
    return wanted


def _decoded(video: _Video, expected: int) -> Iterator[VideoFrame]:
    count = 0
    try:
        for frame in video.container.decode(video.stream):
            count += 1
            yield frame
    except (FFmpegError, OSError) as error:
        raise UnreadableVideo(
            video.path,
            f"the stream breaks: {count} of {expected} frames decode ({_message(error)})",
        ) from error


def _announced_frames(video: _Video) -> int:
    # Headers can hold anything; more frames than bytes is no number to make a list of.
    if 0 < video.stream.frames <= video.num_bytes:
        return video.stream.frames
    return _count_packets(video.path)


def _count_packets(path: Path) -> int:
    """Count the packets that hold data: one a frame in nearly all containers, at little cost."""
    count = 0
    with _opened(path, 1) as video:
        try:
            for packet in video.container.demux(video.stream):
                count += packet.size > 0
        except (FFmpegError, OSError):
            # The decoding pass meets the same fault and reports it, with the frames before it.
            return count
    return count


@contextmanager
def _opened(path: Path, threads: int) -> Iterator[_Video]:
    # Note [only local files]
    # FFmpeg is handed an open file, never a name: a path cannot turn into a URL or a protocol
    # ("http:", "concat:"), and the kind of file is told by its content, not by its ending (".txt"
    # would be played as terminal art). The empty list of protocols stops playlists (HLS, DASH,
    # concat scripts) from opening anything else. It is an option for the container only: PyAV
    # before 18 crashes where options go to the streams of an MPEG programme stream as well.
    with _open_file(path) as file:
        try:
            num_bytes, missing = os.fstat(file.fileno()).st_size, missing_bytes(file)
            container = av.open(
                _Unnamed(file),
                mode="r",
                container_options={"protocol_whitelist": ""},
                metadata_errors="replace",
            )
        except (FFmpegError, OSError) as error:
            raise UnreadableVideo(
                path, f"it cannot be opened as a video ({_message(error)})"
            ) from error
        with container:
            stream = _best_stream(path, container)
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = threads
            yield _Video(path, container, stream, num_bytes, missing)


class _Unnamed:
    """An open file without its name; see Note [only local files]."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _open_file(path: Path) -> BinaryIO:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise UnreadableVideo(path, f"it is {kind}, not a video file")
        if status.st_size == 0:
            raise UnreadableVideo(path, "the file is empty")
        return open(path, "rb")
    except FileNotFoundError as error:
        raise UnreadableVideo(path, "there is no such file (only local files are read)") from error
    except (OSError, ValueError) as error:
        raise UnreadableVideo(path, f"it cannot be opened ({_message(error)})") from error


def _best_stream(path: Path, container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        raise UnreadableVideo(path, "it holds no video stream")
    if stream.codec_context is None:
        raise UnreadableVideo(path, "FFmpeg has no decoder for its video stream")
    return stream


class _Converter:
    """Decoded frames to upright RGB images, all of the size of the stream's first frame.

    (Streams may change their size on the way; players scale to the size they began with.)
    """

    def __init__(self, path: Path, first: VideoFrame) -> None:
        self._path = path
        self._width, self._height = first.width, first.height
        self._reformatter = VideoReformatter()

    def image(self, frame: VideoFrame) -> Image:
        try:
            rgb = self._reformatter.reformat(
                frame, self._width, self._height, format="rgb24", threads=1
            )
        except (FFmpegError, ValueError) as error:
            raise UnreadableVideo(
                self._path,
                f"its pixel format {frame.format.name} cannot be converted ({_message(error)})",
            ) from error
        pixels = np.asarray(rgb.to_ndarray(), dtype=np.uint8)
        return _upright(pixels, _display_matrix(frame))


def _display_matrix(frame: VideoFrame) -> npt.NDArray[np.float64] | None:
    """Return the upper left 2 x 2 of a frame's display matrix, up to scale; None without one."""
    try:
        # (A cast, because PyAV's stub knows of motion vectors only.)
        side_data = cast(SideDataContainer, frame.side_data)[SideDataType.DISPLAYMATRIX]
    except KeyError:
        return None
    except ValueError:
        # The frame carries side data of a kind that PyAV has no name for, and PyAV then lists
        # none of it. The angle, counter-clockwise, is still to be had; a mirror image is not.
        angle = np.deg2rad(frame.rotation)
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (
        np.frombuffer(bytes(side_data), dtype=np.int32, count=9).reshape(3, 3)[:2, :2].astype(float)
    )


def _upright(image: Image, matrix: npt.NDArray[np.float64] | None) -> Image:
    """Apply a display matrix, taken to the nearest quarter turn, to an (H, W, 3) image.

    The matrix maps (x, y, 1) as a row vector: x' = m00·x + m10·y, y' = m01·x + m11·y.
    """
    if matrix is None:
        return np.ascontiguousarray(image)
    (along_xx, along_xy), (along_yx, along_yy) = matrix.tolist()
    x_from, y_from = along_xx, along_yy
    if abs(along_yx) > abs(along_xx):
        image = image.transpose(1, 0, 2)
        x_from, y_from = along_yx, along_xy
    rows = slice(None, None, -1 if y_from < 0 else 1)
    columns = slice(None, None, -1 if x_from < 0 else 1)
    return np.ascontiguousarray(image[rows, columns])


def _message(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
