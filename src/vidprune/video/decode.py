"""Frames at given indices, in one pass over a video file (PyAV).

The stream is decoded from its first frame to its last, and frame i is the i-th that comes out:
no wrong frame where timestamps or key frames lie. Decoding runs to the end even when the last
frames are not needed, because only then is the number of frames known, and every index depends on
it. Frames that are not needed are neither converted nor kept. Where a long video has much that
nobody needs, and tells beyond doubt which frames it has, only the rest is decoded: see
Note [when to seek].

A frame is what a viewer sees: display rotation and mirroring are applied, colour matrix and
range follow the stream, transparency is dropped. Pixels are taken as square (the aspect ratio of
samples is ignored), as the loaders of the field's test protocols do.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from av.error import FFmpegError
from av.video.frame import VideoFrame

from vidprune.video.opening import OpenVideo, Path, UnreadableVideo, message_of, opened
from vidprune.video.seeking import Astray, Route, along, route_to
from vidprune.video.upright import Converter, Image

__all__ = ["Frames", "announced_frames", "read_frames"]


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
    with opened(path, threads) as video:
        expected = announced_frames(video)
        wanted = _wanted(choose, expected)
        route = None if video.missing_bytes else route_to(wanted, expected, path)
        if route is None:
            frames = _collect(video, wanted, expected, prepare)
        elif images := _images_along(route, video, wanted, prepare):
            return Frames(expected, images)
    if route is not None:
        with opened(path, threads) as video:
            frames = _collect(video, wanted, expected, prepare)
    if video.missing_bytes:
        raise UnreadableVideo(
            path,
            f"the file is cut short: {video.missing_bytes} bytes that its container announces "
            f"are missing ({frames.num_frames} frames decode)",
        )
    if frames.num_frames != expected:
        with opened(path, threads) as video:
            wanted = _wanted(choose, frames.num_frames)
            frames = _collect(video, wanted, frames.num_frames, prepare)
    return frames


def _images_along(
    route: Route, video: OpenVideo, wanted: Collection[int], prepare: Callable[[Image], Image]
) -> dict[int, Image]:
    """The wanted images from those stretches alone that hold them; none where that goes astray."""
    images: dict[int, Image] = {}
    converter = None
    try:
        for index, frame in along(route, video):
            converter = converter or Converter(video.path, frame)
            if index in wanted:
                images[index] = prepare(converter.image(frame))
    except Astray:
        return {}
    return images


def _collect(
    video: OpenVideo,
    wanted: Collection[int],
    expected: int,
    prepare: Callable[[Image], Image],
) -> Frames:
    images: dict[int, Image] = {}
    converter = None
    count = 0
    for frame in _decoded(video, expected):
        converter = converter or Converter(video.path, frame)
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


def _decoded(video: OpenVideo, expected: int) -> Iterator[VideoFrame]:
    count = 0
    try:
        for frame in video.container.decode(video.stream):
            count += 1
            yield frame
    except (FFmpegError, OSError) as error:
        raise UnreadableVideo(
            video.path,
            f"the stream breaks: {count} of {expected} frames decode ({message_of(error)})",
        ) from error


def announced_frames(video: OpenVideo) -> int:
    """How many frames the container says that there are, or else how many packets hold data."""
    # Headers can hold anything; more frames than bytes is no number to make a list of.
    if 0 < video.stream.frames <= video.num_bytes:
        return video.stream.frames
    return _count_packets(video.path)


def _count_packets(path: Path) -> int:
    """Count the packets that hold data: one a frame in nearly all containers, at little cost."""
    count = 0
    with opened(path, 1) as video:
        try:
            for packet in video.container.demux(video.stream):
                count += packet.size > 0
        except (FFmpegError, OSError):
            # The decoding pass meets the same fault and reports it, with the frames before it.
            return count
    return count
