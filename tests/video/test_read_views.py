"""From file to views: against decoding everything and picking frames and crops one by one."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidprune.video import PROTOCOLS, Protocol, UnreadableVideo, read_frames, read_views
from vidprune.video.resize import resize_short_side
from vidprune.video.views import crop_offsets

SMALL = {name: dataclasses.replace(protocol, size=32) for name, protocol in PROTOCOLS.items()}


def views_by_hand(images, protocol):
    views = []
    for segment, crop in protocol.views:
        clip = []
        for index in protocol.indices(len(images))[segment]:
            image = resize_short_side(images[index], protocol.size)
            corners = crop_offsets(*image.shape[1:], size=protocol.size, crops=protocol.crops)
            top, left = corners[crop]
            clip.append(image[:, top : top + protocol.size, left : left + protocol.size])
        views.append(clip)
    return torch.from_numpy(np.array(views))


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("count", [1, 7, 16, 90])
@pytest.mark.parametrize(("height", "width"), [(40, 57), (57, 40), (32, 50)])
def test_views_equal_those_cut_by_hand(videos, tmp_path, name, count, height, width):
    written = videos.noise(count, height, width)
    path = videos.write(tmp_path / "clip.mkv", written)
    views = read_views(path, SMALL[name])
    assert views.num_frames == count
    assert views.order == SMALL[name].views
    assert views.pixels.dtype == torch.uint8
    assert views.pixels.is_contiguous()
    assert torch.equal(views.pixels, views_by_hand(written, SMALL[name]))


@given(
    sampling=st.sampled_from(["dense", "segment", "centred"]),
    segments=st.integers(1, 6),
    crops=st.integers(1, 5),
    frames=st.integers(1, 20),
    stride=st.integers(1, 5),
    size=st.integers(4, 30),
)
@settings(max_examples=30, deadline=None)
def test_any_protocol(noise_clip, sampling, segments, crops, frames, stride, size):
    path, written = noise_clip
    stride = 1 if sampling == "segment" else stride
    protocol = Protocol(
        sampling=sampling,
        segments=segments,
        crops=crops,
        frames=frames,
        stride=stride,
        size=size,
    )
    pixels = read_views(path, protocol).pixels
    assert pixels.shape == (segments * crops, frames, 3, size, size)
    assert torch.equal(pixels, views_by_hand(written, protocol))


def test_the_same_file_gives_the_same_views_twice(noise_clip):
    first, second = (read_views(noise_clip[0], SMALL["k400"]).pixels for _ in range(2))
    assert torch.equal(first, second)


def test_unreadable_videos_are_reported(tmp_path):
    with pytest.raises(UnreadableVideo, match="there is no such file"):
        read_views(tmp_path / "missing.mp4", SMALL["single"])


def test_real_clips_of_every_kind_give_views(shared):
    for path in sorted(shared("clips").iterdir()):
        if path.suffix != ".md" and not path.name.startswith("corrupt"):
            views = read_views(path, SMALL["ssv2"])
            assert views.pixels.shape == (6, 16, 3, 32, 32), path.name


def test_a_rotated_clip_is_cropped_along_its_height(shared):
    path = shared("clips/rotated90_h264__torchcodec.mp4")
    frame = read_frames(path, lambda n: [0]).images[0]
    assert frame.shape == (480, 270, 3)
    protocol = Protocol(sampling="dense", segments=1, crops=2, frames=1, size=32)
    top, bottom = read_views(path, protocol).pixels[:, 0]
    resized = torch.from_numpy(resize_short_side(read_frames(path, lambda n: [8]).images[8], 32))
    assert torch.equal(top, resized[:, :32])
    assert torch.equal(bottom, resized[:, -32:])
