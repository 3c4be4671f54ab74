"""Only those stretches of a video decoded that hold frames which somebody needs.

# Note [when to seek]
Decoding can start at key frames alone. Where views need few frames of a long video, most of what
lies between key frames need not be decoded; in a short one there is nothing to leave out. A frame
is known by its timestamp: the packets of the whole file, read but not decoded, say which timestamps
there are, and the i-th of them in rising order is frame i. Whatever can be wrong with this is
looked at: where a packet has no timestamp or shares one, where the container announces another
number of frames, or where a stretch does not decode to just the timestamps that belong there, the
video is read through from its first frame. What is broken where nobody looks is not found out.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from av.error import FFmpegError
from av.video.frame import VideoFrame

from vidprune.video.opening import OpenVideo, Path, opened

__all__ = [
    "Astray",
    "Route",
    "Stretch",
    "along",
    "keys_by_stamp",
    "leaves_out_much",
    "route_to",
    "stretches_for",
]

# What it costs to get to a stretch, in frames that might have been decoded instead.
_FRAMES_PER_SEEK = 8
# Reading through also finds what is broken where nobody looks: to leave that out has to pay.
_LARGEST_SHARE = 0.5
# To read the packets beforehand has to pay, too, and key frames often lie hundreds apart.
_LEAST_LEFT_OUT = 256


@dataclass(frozen=True)
class Stretch:
    """Frames `start` to `last`, of which the first can be decoded by itself."""

    start: int
    last: int


@dataclass(frozen=True)
class Route:
    """The `stretches` to decode, rising, and the timestamps of all frames, `stamps`, rising."""

    stretches: tuple[Stretch, ...]
    stamps: tuple[int, ...]


def route_to(wanted: Collection[int], num_frames: int, path: Path) -> Route | None:
    """The stretches that hold all `wanted` of a file's `num_frames` frames; None where reading
    through is cheaper, or the file does not tell for sure where they are."""
    if not leaves_out_much(wanted, num_frames):
        return None
    with opened(path, 1) as video:
        keys = keys_by_stamp(video)
    stamps = tuple(sorted(keys))
    if len(stamps) != num_frames or not keys[stamps[0]]:
        return None
    starts = [index for index, stamp in enumerate(stamps) if keys[stamp]]
    stretches = stretches_for(wanted, starts, num_frames)
    return Route(stretches, stamps) if stretches else None


def leaves_out_much(wanted: Collection[int], num_frames: int) -> bool:
    """Whether so many frames are left out that it may pay to look where decoding can start."""
    return bool(wanted) and num_frames - len(wanted) >= _LEAST_LEFT_OUT


def keys_by_stamp(video: OpenVideo) -> dict[int, bool]:
    """Whether decoding can start there, for the timestamp of every packet of a file; empty where
    that leaves anything open."""
    keys: dict[int, bool] = {}
    try:
        for packet in video.container.demux(video.stream):
            if not packet.size:
                continue
            stamp = packet.pts
            if stamp is None or stamp in keys or packet.is_discard or packet.is_corrupt:
                return {}
            keys[stamp] = bool(packet.is_keyframe)
    except (FFmpegError, OSError):
        return {}
    return keys


def stretches_for(
    wanted: Collection[int], starts: Sequence[int], num_frames: int
) -> tuple[Stretch, ...]:
    """The stretches that hold all `wanted` frames; none where reading through is cheaper.

    `starts`, rising, are frames at which decoding can start; the first of them is 0.
    """
    found: list[Stretch] = []
    for index in sorted(wanted):
        start = starts[bisect_right(starts, index) - 1]
        if found and start <= found[-1].last + _FRAMES_PER_SEEK:
            # The same stretch, or one that going on to is cheaper than to seek.
            found[-1] = Stretch(found[-1].start, index)
        else:
            found.append(Stretch(start, index))
    cost = sum(each.last - each.start + 1 + _FRAMES_PER_SEEK for each in found)
    return tuple(found) if cost <= _LARGEST_SHARE * num_frames else ()


def along(route: Route, video: OpenVideo) -> Iterator[tuple[int, VideoFrame]]:
    """The frames of all stretches with their numbers.

    Raises Astray as soon as something else comes out.
    """
    try:
        for stretch in route.stretches:
            yield from _decoded(stretch, route.stamps, video)
    except (FFmpegError, OSError) as error:
        raise Astray from error


def _decoded(
    stretch: Stretch, stamps: Sequence[int], video: OpenVideo
) -> Iterator[tuple[int, VideoFrame]]:
    first, index = stamps[stretch.start], stretch.start
    video.container.seek(first, stream=video.stream, backward=True)
    for frame in video.container.decode(video.stream):
        if frame.pts is None:
            break
        if frame.pts < first:
            # From a key frame before the one that was asked for.
            continue
        if frame.pts != stamps[index] or (frame.width, frame.height) != video.size:
            break
        yield index, frame
        if index == stretch.last:
            return
        index += 1
    raise Astray


class Astray(Exception):
    """A stretch did not decode to what the packets tell of."""
