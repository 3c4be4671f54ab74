"""Whether torchcodec gives the frames that PyAV gives, and how long either takes.

    python benchmarks/decoders.py FILE [FILE ...] [--device cuda]

Needs torchcodec (0.13 is built for a CPU, too) and FFmpeg's shared libraries. For each file: the
number of frames, the largest and the mean difference of 8-bit pixels over as many as 300 of them,
and milliseconds. A line `refused` says what one of the two does not read.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidprune.video.decode import read_frames
from vidprune.video.opening import UnreadableVideo

MOST = 300
Read = tuple[int, dict[int, Any], float]


def some(num_frames: int) -> list[int]:
    """All frames of a short video, as many as 300 of a long one."""
    return list(range(0, num_frames, -(-num_frames // MOST) if num_frames else 1))


def by_pyav(path: Path) -> Read:
    started = time.perf_counter()
    found = read_frames(path, some)
    return found.num_frames, dict(found.images), 1000 * (time.perf_counter() - started)


def by_torchcodec(path: Path, device: str) -> Read:
    from torchcodec.decoders import VideoDecoder

    started = time.perf_counter()
    decoder = VideoDecoder(
        path, dimension_order="NHWC", seek_mode="exact", num_ffmpeg_threads=1, device=device
    )
    wanted = some(len(decoder))
    pixels = decoder.get_frames_at(wanted).data.cpu().numpy()
    images = dict(zip(wanted, pixels, strict=True))
    return len(decoder), images, 1000 * (time.perf_counter() - started)


def told(read: Callable[[], Read]) -> Read | str:
    try:
        return read()
    except UnreadableVideo as error:
        return error.reason
    except RuntimeError as error:
        return " ".join(str(error).split())


def compared(ours: Read | str, theirs: Read | str) -> str:
    """One line."""
    if isinstance(ours, str) or isinstance(theirs, str):
        sides = (("PyAV", ours), ("torchcodec", theirs))
        said = (f"{name}: {each}" for name, each in sides if isinstance(each, str))
        return f"refused by {'; by '.join(said)}"
    (count, images, mine), (other, others, its) = ours, theirs
    if count != other or images[0].shape != others[0].shape:
        return f"{count} frames {images[0].shape}, {other} frames {others[0].shape}"
    off = [np.abs(images[at].astype(int) - others[at].astype(int)) for at in images]
    most, mean = max(each.max() for each in off), np.mean([each.mean() for each in off])
    return f"{count} frames, off by {most}, {mean:.4f} in the mean; {mine:.0f} ms, {its:.0f} ms"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    for path in options.files:
        ours = told(lambda path=path: by_pyav(path))
        theirs = told(lambda path=path: by_torchcodec(path, options.device))
        print(f"{path.name}: {compared(ours, theirs)}")


if __name__ == "__main__":
    main()
