"""Frames -> a video file."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

__all__ = ["write_video"]


def write_video(
    path: str | Path,
    frames: np.ndarray,
    *,
    frames_per_second: int = 30,
    crf: int = 14,
    same_bytes: bool = True,
) -> None:
    """Encode (T, H, W, 3) uint8 frames as H.264 in mp4; `crf` goes from 0, lossless, to 51.

    `same_bytes`: the same frames give the same file, on any machine; that takes several times as
    long.
    """
    with av.open(str(path), "w") as container:
        rate = Fraction(frames_per_second)
        options = {"crf": str(crf)}
        if same_bytes:
            # x264's assembly does not write the same bytes every time; without it, it does.
            options["x264-params"] = "no-asm=1"
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
