"""Whole small jobs for the tests: a checkpoint folder, short videos, a list of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch

from tiny_videomae import tiny_videomae

CLASSES = 7
VIEWS = {"sampling": "segment", "segments": 2, "crops": 2}


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_checkpoint(folder: Path, **changes: object) -> Path:
    """A Hugging Face folder: 16 frames of 32 x 32, a grid of 8 x 4 x 4 tokens, 2 x 2 views."""
    shape = {"image_size": 32, "patch_size": 8, "num_labels": CLASSES, "view_protocol": VIEWS}
    tiny_videomae(**shape | changes).save_pretrained(folder)
    return folder


def drifting_images(seed: int, frames: int = 20) -> list[npt.NDArray[np.uint8]]:
    """Waves of some colour that drift over 40 x 56 pixels, another kind for every seed."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:40, :56] / 8
    tilt, colour = generator.uniform(-1, 1, 2), generator.uniform(0.2, 1, 3)
    waves = (np.sin(rows * tilt[0] + columns * tilt[1] + time / 3) for time in range(frames))
    return [np.uint8(120 + 100 * wave[..., None] * colour) for wave in waves]


def write_video(path: Path, images: list[npt.NDArray[np.uint8]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_list(folder: Path, *, videos: int, broken: int | None = None) -> Path:
    """Videos `00.mp4`, `01.mp4`, ... and a list that labels them; `broken` is no video at all."""
    for number in range(videos):
        path = folder / f"{number:02d}.mp4"
        write_video(path, drifting_images(number))
        if number == broken:
            path.write_bytes(b"this is no video")
    listing = folder / "test.csv"
    lines = [f"{number:02d}.mp4 {number % CLASSES}\n" for number in range(videos)]
    listing.write_text("".join(lines), encoding="utf-8")
    return listing
