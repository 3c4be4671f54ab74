"""Small videos of known pixels, written with PyAV."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import numpy.typing as npt
import pytest

Image = npt.NDArray[np.uint8]


def noise_images(count: int, height: int = 24, width: int = 32, seed: int = 0) -> list[Image]:
    """Images that differ in every pixel: no frame can pass for another."""
    generator = np.random.default_rng(seed)
    return list(generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def flat_images(count: int, height: int = 48, width: int = 64) -> list[Image]:
    """Images of one colour each, which survive lossy codecs: red rises, blue falls."""
    levels = np.linspace(20, 235, count).astype(np.uint8)
    return [np.full((height, width, 3), (level, 128, 255 - level), np.uint8) for level in levels]


def write_video(
    path: Path,
    images: Sequence[Image],
    *,
    codec: str = "ffv1",
    pixel_format: str = "bgr0",
    ticks: Sequence[int] | None = None,
    orientation: tuple[int, bool, bool] | None = None,
    frame_format: str = "rgb24",
    height: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write `images`; with the default codec the pixels come back exactly.

    `ticks` are presentation times in 1/50 s; `orientation` is the display matrix as (degrees
    counter-clockwise, mirrored left-right, mirrored top-bottom). `height` is needed where an
    image stacks planes (`frame_format` "yuv420p"); `options` go to the container.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = height or images[0].shape[0], images[0].shape[1]
        stream.pix_fmt = pixel_format
        stream.bit_rate = 8_000_000
        stream.time_base = Fraction(1, 50)
        if orientation is not None:
            degrees, left_right, top_bottom = orientation
            stream.set_display_rotation(degrees, hflip=left_right, vflip=top_bottom)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format=frame_format)
            frame.time_base = Fraction(1, 50)
            frame.pts = 2 * number if ticks is None else ticks[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decode_naively(path: Path) -> list[Image]:
    """Every frame of the best video stream: the specification that `read_frames` is held to."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


@pytest.fixture(scope="session")
def videos() -> SimpleNamespace:
    """The functions above. (A fixture, so that tests need not import this file.)"""
    return SimpleNamespace(
        noise=noise_images, flat=flat_images, write=write_video, decode_naively=decode_naively
    )


@pytest.fixture(scope="session")
def noise_clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Image]]:
    """Twelve frames of noise in a lossless file."""
    images = noise_images(12)
    return write_video(tmp_path_factory.mktemp("noise") / "clip.mkv", images), images
