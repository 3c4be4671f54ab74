"""What chance does to training clips: where it may fall, and that it falls alike again."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidprune.training.augment import _OPERATIONS, Augmentation, augmented
from vidprune.training.mixing import Mixing, mixed, targets_of
from vidprune.training.sampling import random_box, random_indices
from vidprune.video import Protocol

PLAIN = Augmentation(crop_area=(1, 1), flip=False, operations=0, erasing=0)


def protocol(sampling: str, *, stride: int = 1) -> Protocol:
    return Protocol(sampling=sampling, segments=1, crops=1, frames=8, stride=stride)


@given(st.integers(1, 100), st.integers(0, 2**32))
def test_segment_sampling_takes_one_frame_of_each_part(num_frames: int, seed: int) -> None:
    found = random_indices(protocol("segment"), num_frames, np.random.default_rng(seed))
    tick = num_frames / 8
    for part, index in enumerate(found):
        assert int(part * tick) <= index <= min((part + 1) * tick, num_frames - 1)


@given(st.integers(1, 100), st.integers(1, 5), st.integers(0, 2**32))
def test_dense_sampling_takes_a_run_and_repeats_the_last_frame(
    num_frames: int, stride: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    found = random_indices(protocol("dense", stride=stride), num_frames, rng)
    start = found[0]
    assert list(found) == [min(start + stride * x, num_frames - 1) for x in range(8)]
    assert start >= 0
    # A run that fits is never cut short.
    assert start == 0 or start + 7 * stride < num_frames


def test_a_run_may_begin_anywhere_and_centred_sampling_begins_anew() -> None:
    starts = {
        random_indices(protocol("dense", stride=2), 20, np.random.default_rng(seed))[0]
        for seed in range(200)
    }
    assert starts == set(range(6))
    rng = np.random.default_rng(0)
    assert random_indices(protocol("centred"), 3, rng) == (0, 1, 2, 0, 1, 2, 0, 1)


@given(st.integers(8, 300), st.integers(8, 300), st.floats(0.05, 1), st.integers(0, 2**32))
@settings(max_examples=200)
def test_a_box_lies_in_the_frame_and_covers_what_was_asked(
    height: int, width: int, least: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    left, top, right, bottom = random_box(height, width, rng, area=(least, 1.0))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    square = min(height, width)
    covered = (right - left) * (bottom - top)
    # Sides are whole pixels; what fits nowhere is the centred square.
    assert covered >= least * height * width - (height + width) or covered == square**2


def frames(count: int = 4, height: int = 24, width: int = 32) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    one = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return [one.copy() for _ in range(count)]


def test_all_frames_of_a_clip_are_changed_alike() -> None:
    changed = 0
    for seed in range(40):
        clip = augmented(frames(), 16, Augmentation(erasing=0), np.random.default_rng(seed))
        assert clip.shape == (4, 3, 16, 16)
        assert (clip == clip[:1]).all()
        changed += not (clip == augmented(frames(), 16, PLAIN, np.random.default_rng(seed))).all()
    assert changed == 40


def test_nothing_asked_for_changes_nothing() -> None:
    square = [frame[:, :24] for frame in frames()]
    clip = augmented(square, 24, PLAIN, np.random.default_rng(1))
    assert (clip == np.stack(square).transpose(0, 3, 1, 2)).all()


def test_a_flip_mirrors_columns_half_of_the_time() -> None:
    square = [frame[:, :24] for frame in frames()]
    how = Augmentation(crop_area=(1, 1), flip=True, operations=0, erasing=0)
    given_ = np.stack(square).transpose(0, 3, 1, 2)
    found = [augmented(square, 24, how, np.random.default_rng(seed)) for seed in range(200)]
    mirrored = sum((clip == given_[..., ::-1]).all() for clip in found)
    kept = sum((clip == given_).all() for clip in found)
    assert mirrored + kept == 200
    assert 70 <= mirrored <= 130


def test_erasing_takes_the_same_rectangle_from_every_frame() -> None:
    square = [np.zeros((24, 24, 3), np.uint8)] * 4
    how = Augmentation(crop_area=(1, 1), flip=False, operations=0, erasing=1)
    clip = augmented(square, 24, how, np.random.default_rng(3))
    touched = clip.any(axis=(0, 1))
    rows, columns = touched.any(1).nonzero()[0], touched.any(0).nonzero()[0]
    hole = clip[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert 0.02 * 576 - 24 <= touched.sum() <= 576 / 3 + 24
    assert (hole > 0).mean() > 0.9


@pytest.mark.parametrize("number", range(len(_OPERATIONS)))
def test_an_operation_gives_another_image_of_the_same_shape(number: int) -> None:
    from PIL import Image

    # Neither black, white, nor using all levels, so that each operation has something to do.
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(20, 200, (24, 24, 3), dtype=np.uint8))
    for signed in (-0.7, 0.7):
        found = _OPERATIONS[number](image, signed)
        assert (found.size, found.mode) == ((24, 24), "RGB")
        assert (np.asarray(found) != np.asarray(image)).any()


def test_an_operation_is_stronger_at_a_larger_magnitude() -> None:
    def moved(magnitude: float) -> float:
        how = Augmentation(crop_area=(1, 1), flip=False, erasing=0, magnitude=magnitude)
        square = [frame[:, :24] for frame in frames(1)]
        plain = np.stack(square).transpose(0, 3, 1, 2).astype(float)
        return float(
            np.mean(
                [
                    np.abs(augmented(square, 24, how, np.random.default_rng(seed)) - plain).mean()
                    for seed in range(100)
                ]
            )
        )

    assert moved(0) < moved(5) < moved(10)


def test_targets_are_smoothed() -> None:
    found = targets_of(torch.tensor([2]), 4, 0.2)
    assert torch.allclose(found[0], torch.tensor([0.05, 0.05, 0.85, 0.05]))


def test_solarize_add_lightens_dark_channels_alone() -> None:
    from PIL import Image

    found = _OPERATIONS[6](Image.new("RGB", (1, 1), (200, 50, 127)), 0.5)
    assert found.getpixel((0, 0)) == (200, 105, 182)


@pytest.mark.parametrize("how", [Mixing(cutmix=0), Mixing(mixup=0)], ids=["mixup", "cutmix"])
def test_targets_are_mixed_as_the_pixels_are(how: Mixing) -> None:
    # Each clip is a constant, so that the mean of a mixed one tells its shares.
    values = torch.tensor([0.0, 1.0, 2.0, 5.0])
    pixels = values.view(4, 1, 1, 1, 1).expand(4, 3, 3, 32, 32)
    targets = torch.eye(4)
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(30):
        blended, told = mixed(pixels, targets, how, rng)
        assert torch.allclose(told.sum(1), torch.ones(4))
        assert torch.allclose(blended.mean((1, 2, 3, 4)), told @ values, atol=1e-4)
        shares.append(told[0, 0].item())
    assert min(shares) < 0.4
    assert max(shares) > 0.7


def test_nothing_is_mixed_where_nothing_is_asked_for() -> None:
    pixels, targets = torch.rand(2, 1, 3, 4, 4), torch.eye(2)
    found = mixed(pixels, targets, Mixing(mixup=0, cutmix=0), np.random.default_rng(0))
    assert found[0] is pixels
    assert found[1] is targets
