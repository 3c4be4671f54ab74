"""Which frames and which crops make up the views of a video: arithmetic on indices only.

A view is one clip of `frames` frames in one square crop. A protocol names `segments` clips
along time and `crops` squares along the longer side; its views are all pairs (segment, crop),
crops varying fastest. Of the three ways to sample, dense and segment are VideoMAE's:

- *dense* (Kinetics, UCF101, HMDB51): every `stride`-th frame of the whole video, the last one
  repeated until there are at least `frames` of them; segments are runs of `frames` of these,
  spread evenly from the first possible start to the last.
- *segment* (Something-Something): the video is divided into `frames` equal parts ("ticks"),
  and every clip takes one frame from each part, so that it spans the whole video.
- *centred* (VideoSwin): a clip is `frames` frames, `stride` apart; the possible first frames are
  divided into equal parts, and each clip starts in the middle of its part. A video that is too
  short starts again from its first frame.

What VideoMAE's release leaves open is one segment or one crop, where it would divide by zero: one
segment is the middle one, one crop is the centre.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "Sampling",
    "centred_indices",
    "crop_offsets",
    "dense_indices",
    "segment_indices",
]

Sampling = Literal["dense", "segment", "centred"]


def evenly_spaced(room: int, count: int) -> tuple[int, ...]:
    """Return `count` whole offsets from 0 to `room`, rounded down; a single one is the middle.

    The step is divided first and multiplied afterwards, as the release does: in floating point
    the other order can round a start up by one when `count` - 1 is not a power of two.
    """
    if count == 1:
        return (int(room / 2),)
    step = room / (count - 1)
    return tuple(int(k * step) for k in range(count))


def dense_indices(
    num_frames: int, *, segments: int, frames: int, stride: int
) -> tuple[tuple[int, ...], ...]:
    """Return the frame indices of each segment, sampled densely; see the module's docstring.

    In a video shorter than `frames` * `stride` the last sampled frame repeats, and segments
    overlap or coincide.

    Raises ValueError where `num_frames` is less than 1.
    """
    _check_num_frames(num_frames)
    sampled = list(range(0, num_frames, stride))
    sampled += [sampled[-1]] * (frames - len(sampled))
    starts = evenly_spaced(len(sampled) - frames, segments)
    return tuple(tuple(sampled[start : start + frames]) for start in starts)


def segment_indices(num_frames: int, *, segments: int, frames: int) -> tuple[tuple[int, ...], ...]:
    """Return the frame indices of each segment, one from each of `frames` equal parts.

    With tick = `num_frames` / `frames`, segments start at fractions 0, 1/S, 2/S, ... of a tick;
    all indices together are sorted and segment k takes every S-th from k. For two segments that
    is the release's rule. A single segment takes the middle of each tick. In a video shorter
    than `frames` indices repeat.

    Raises ValueError where `num_frames` is less than 1.
    """
    _check_num_frames(num_frames)
    tick = num_frames / frames
    phases = [tick * k / segments for k in range(segments)] if segments > 1 else [tick / 2]
    ordered = sorted(int(phase + tick * x) for phase in phases for x in range(frames))
    return tuple(tuple(ordered[k::segments]) for k in range(segments))


def centred_indices(
    num_frames: int, *, segments: int, frames: int, stride: int
) -> tuple[tuple[int, ...], ...]:
    """Return the frame indices of each segment, as mmaction2 samples them for a test.

    A clip takes up `frames` * `stride` frames, those after its last index included, which leaves
    `num_frames` - `frames` * `stride` + 1 possible starts; segment k of S starts (k + 1/2) / S of
    the way through them, rounded down. In a video shorter than that every segment starts at 0,
    and indices beyond the end are taken modulo `num_frames`.

    Raises ValueError where `num_frames` is less than 1.
    """
    _check_num_frames(num_frames)
    share = max(num_frames - frames * stride + 1, 0) / segments
    starts = [int(k * share + share / 2) for k in range(segments)]
    return tuple(
        tuple((start + x * stride) % num_frames for x in range(frames)) for start in starts
    )


def crop_offsets(height: int, width: int, *, size: int, crops: int) -> tuple[tuple[int, int], ...]:
    """Return (top, left) of each `size`-square crop of a `height` x `width` frame.

    Crops lie along the longer side, from one end to the other; one crop is the centre. The
    shorter side is meant to be `size` already.

    Raises ValueError where the shorter side is not `size`.
    """
    if min(height, width) != size:
        raise ValueError(
            f"the frame is {height} x {width} (height x width), but its shorter side must be "
            f"size = {size}; resize the frame first (resize.resize_short_side)"
        )
    offsets = evenly_spaced(max(height, width) - size, crops)
    return tuple((offset, 0) if height >= width else (0, offset) for offset in offsets)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a video is sampled into views; make variants with `dataclasses.replace`.

    `sampling` is "dense", "segment" or "centred"; `segments` clips in time by `crops` crops in
    space; `frames` per clip; `stride`, in frames, between neighbours of a dense or centred clip (1
    for segment sampling, which has none); `size`, in pixels, of the square crop and of the shorter
    side.

    Raises ValueError where a value is outside these rules.
    """

    sampling: Sampling
    segments: int
    crops: int
    frames: int = 16
    stride: int = 1
    size: int = 224

    def __post_init__(self) -> None:
        if self.sampling not in get_args(Sampling):
            raise ValueError(
                f"sampling is {self.sampling!r}, but must be 'dense' (every stride-th frame), "
                f"'segment' (one frame from each equal part of the video) or 'centred' (a run of "
                f"every stride-th frame in the middle of each equal part)"
            )
        for name in ("segments", "crops", "frames", "stride", "size"):
            _check_count(name, getattr(self, name))
        if self.sampling == "segment" and self.stride != 1:
            raise ValueError(
                f"stride is {self.stride}, but segment sampling spans the whole video and has no "
                f"stride; leave it at 1, or choose sampling='dense' or 'centred'"
            )

    @property
    def views(self) -> tuple[tuple[int, int], ...]:
        """The (segment, crop) of every view, in order."""
        return tuple((s, c) for s in range(self.segments) for c in range(self.crops))

    def indices(self, num_frames: int) -> tuple[tuple[int, ...], ...]:
        """Return, for each segment, its frame indices in a video of `num_frames` frames.

        Raises ValueError where `num_frames` is less than 1.
        """
        if self.sampling == "segment":
            return segment_indices(num_frames, segments=self.segments, frames=self.frames)
        strided = centred_indices if self.sampling == "centred" else dense_indices
        return strided(num_frames, segments=self.segments, frames=self.frames, stride=self.stride)

    def needed(self, num_frames: int) -> tuple[int, ...]:
        """Return the frame indices that any view needs, each once, in rising order.

        Raises ValueError where `num_frames` is less than 1.
        """
        return _unique(self.indices(num_frames))


def _unique(segments: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(sorted({index for segment in segments for index in segment}))


def _check_num_frames(num_frames: int) -> None:
    if num_frames < 1:
        raise ValueError(
            f"num_frames is {num_frames}, but a video must have at least 1 frame to be sampled"
        )


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {value!r}, but must be a whole number of 1 or more")


# Note [where the presets come from]
# k400 and ssv2 are the protocols of the released checkpoints. VideoMAE's script for UCF101
# evaluates like Kinetics. For HMDB51 VideoMAE published neither script nor checkpoint; the
# preset is that of a public descendant's script (EVEREST: stride 2, 10 clips x 3 crops).
# videoswin-k400 is the test configuration of VideoSwin's release; videoswin-ssv2 is the same rule
# with one clip. For Something-Something the release's own configuration has `frame_uniform`, which
# spreads the 32 frames over the whole video; sampling="segment" is within a frame of that. Its
# crops (mmaction2's ThreeCrop, on a longer side rounded to nearest, not down) are within a pixel
# of `crop_offsets`.
PROTOCOLS: dict[str, Protocol] = {
    "k400": Protocol(sampling="dense", segments=5, crops=3, stride=4),
    "ssv2": Protocol(sampling="segment", segments=2, crops=3),
    "ucf101": Protocol(sampling="dense", segments=5, crops=3, stride=4),
    "hmdb51": Protocol(sampling="dense", segments=10, crops=3, stride=2),
    "videoswin-k400": Protocol(sampling="centred", segments=4, crops=3, frames=32, stride=2),
    "videoswin-ssv2": Protocol(sampling="centred", segments=1, crops=3, frames=32, stride=2),
    "single": Protocol(sampling="dense", segments=1, crops=1, stride=4),
}
