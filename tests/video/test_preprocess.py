"""Normalisation."""

import pytest
import torch

from vidprune.video.preprocess import IMAGENET, Normalisation, normalise


def test_every_level_of_every_channel_as_defined():
    levels = torch.arange(256, dtype=torch.uint8)
    pixels = levels.view(1, 1, 256).expand(3, 1, 256)
    values = normalise(pixels, IMAGENET)
    for channel, (mean, std) in enumerate(zip(IMAGENET.mean, IMAGENET.std, strict=True)):
        expected = (levels.double() / 255 - mean) / std
        assert (values[channel, 0] - expected).abs().max() < 1e-6


def test_shape_dtype_and_channel_position_are_kept():
    pixels = torch.randint(0, 256, (2, 4, 3, 5, 6), dtype=torch.uint8)
    values = normalise(pixels)
    assert values.shape == pixels.shape
    assert values.dtype == torch.float32
    assert torch.equal(values[1, 2], normalise(pixels[1, 2]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_round_once_at_the_end(dtype):
    pixels = torch.arange(0, 255, dtype=torch.uint8)[:250].view(1, 250, 1).expand(3, 250, 1)
    assert torch.equal(normalise(pixels, dtype=dtype), normalise(pixels).to(dtype))


def test_another_normalisation_is_used():
    half = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2).expand(3, 1, 2)
    assert normalise(pixels, half)[0, 0].tolist() == [-1.0, 1.0]


@pytest.mark.parametrize(
    "pixels",
    [
        torch.zeros(3, 4, 4),
        torch.zeros(4, 4, 3, dtype=torch.uint8),
        torch.zeros(3, 4, dtype=torch.uint8),
    ],
)
def test_other_layouts_are_refused(pixels):
    with pytest.raises(ValueError, match=r"pixels is .* must be \(..., 3, height, width\)"):
        normalise(pixels)


def test_normalisation_is_checked_when_made():
    with pytest.raises(ValueError, match=r"mean is .* must hold 3 numbers"):
        Normalisation(mean=(0.5, 0.5))
    with pytest.raises(ValueError, match=r"std is .* all must be > 0"):
        Normalisation(std=(0.2, 0.0, 0.2))
