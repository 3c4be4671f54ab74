"""Which frames and which rectangle a training clip takes: the test protocol with chance in it."""

import math

import numpy as np

from vidprune.video import Protocol


def random_indices(
    protocol: Protocol, num_frames: int, rng: np.random.Generator
) -> tuple[int, ...]:
    """The frames of one clip of a video of `num_frames`, as VideoMAE draws them.

    Segment sampling takes any frame of each of the equal parts of the video. Dense and centred
    sampling take a run of every stride-th frame from anywhere; of a video that is too short for
    it, dense repeats the last frame and centred begins anew, as they do in a test.
    """
    steps = np.arange(protocol.frames)
    if protocol.sampling == "segment":
        tick = num_frames / protocol.frames
        indices = (tick * (steps + rng.random(protocol.frames))).astype(int)
        return tuple(np.minimum(indices, num_frames - 1).tolist())
    room = num_frames - (protocol.frames - 1) * protocol.stride - 1
    start = int(rng.integers(room + 1)) if room > 0 else 0
    indices = start + protocol.stride * steps
    short = np.minimum(indices, num_frames - 1)
    return tuple((indices % num_frames if protocol.sampling == "centred" else short).tolist())


def random_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    area: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a rectangle in a frame, for the Inception-style crop.

    `area`: least and largest share of the frame. `ratio`: of width to height, even on a log
    scale. After ten draws that do not fit it is the largest centred square.
    """
    for _ in range(10):
        pixels = rng.uniform(area[0], area[1]) * height * width
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        columns, rows = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < columns <= width and 0 < rows <= height:
            break
    else:
        columns = rows = min(height, width)
        left, top = (width - columns) // 2, (height - rows) // 2
        return left, top, left + columns, top + rows
    left, top = int(rng.integers(width - columns + 1)), int(rng.integers(height - rows + 1))
    return left, top, left + columns, top + rows
