"""Frames on a device are resized and cut as on the CPU."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidprune.video import (
    PROTOCOLS,
    cut_views,
)
from vidprune.video.decode import Frames
from vidprune.video.on_device import FramesOnDevice, cut_on_device, resize_on_device
from vidprune.video.resize import resize_short_side


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_frames_on_a_device_are_resized_to_the_pixel_as_on_the_cpu(height, width, size, seed):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    found = resize_on_device(torch.from_numpy(images), size)
    assert np.array_equal(found, np.stack([resize_short_side(each, size) for each in images]))
    assert found.is_contiguous()


@pytest.mark.parametrize("num_frames", [1, 5, 40])
@pytest.mark.parametrize("name", [*PROTOCOLS])
def test_views_are_cut_on_a_device_as_on_the_cpu(name, num_frames):
    protocol = PROTOCOLS[name]
    indices = protocol.needed(num_frames)
    images = torch.arange(len(indices)).view(-1, 1, 1, 1) + torch.arange(230).view(1, 1, 1, -1)
    images = (images % 256).to(torch.uint8).expand(-1, 3, 224, -1)
    found = cut_on_device(FramesOnDevice(num_frames, indices, images), protocol)
    by_index = dict(zip(indices, images.numpy(), strict=True))
    assert torch.equal(found, cut_views(Frames(num_frames, by_index), protocol))
