"""What several tests of reading by torchcodec need."""

import av
import numpy as np
import pytest
import torch

from vidprune.video import (
    Protocol,
    read_views,
)
from vidprune.video.by_torchcodec import read_by_torchcodec
from vidprune.video.on_device import cut_on_device, resize_on_device
from vidprune.video.suited import Unsuited

CPU = torch.device("cpu")
SMALL = Protocol(sampling="dense", segments=2, crops=3, frames=8, size=32)
H264 = {"codec": "libx264", "pixel_format": "yuv420p"}


def drifting(frames=40, height=64, width=96):
    """Blocks of many colours that drift: a frame for another, or colours by another rule, show."""
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    image = blocks.repeat(8, axis=0).repeat(8, axis=1)
    return [np.roll(image, 3 * number, axis=1).copy() for number in range(frames)]


def assert_reads(path, protocol=SMALL):
    """torchcodec reads it, and not PyAV, and says the same."""
    frames = read_by_torchcodec(
        path, protocol.needed, device=CPU, prepare=lambda images: resize_on_device(images, 32)
    )
    views, expected = cut_on_device(frames, protocol), read_views(path, protocol)
    assert frames.num_frames == expected.num_frames
    assert torch.equal(views, expected.pixels)


def reason_of(path):
    with pytest.raises(Unsuited) as caught:
        read_by_torchcodec(path, SMALL.needed, device=CPU, prepare=torch.clone)
    return str(caught.value)


def write_in_groups(path, images, **options):
    """A video of which every tenth frame can be decoded by itself."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10"} | options)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def tagged(path, codec, colours, *, full):
    """A video whose stream says of which standard and range its colours are."""
    matrix, span = {"bt709": 1, "smpte170m": 6, "bt2020nc": 9}[colours], 2 if full else 1
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, span
        for image in drifting(12):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.colorspace, frame.color_range = matrix, span
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (matrix, span)
    return path
