"""The resize, against scalar loops over the same whole-number rule and over plain bilinear."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vidprune.video.resize import resize_short_side, resized_shape

SIDE = st.integers(1, 40)


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def source(position, length_in, length_out):
    """Half-pixel centres: the two neighbours, held at the edges, and the second one's share."""
    centre = (position + 0.5) * length_in / length_out - 0.5
    before = int(np.floor(centre))
    first, second = (min(max(i, 0), length_in - 1) for i in (before, before + 1))
    return first, second, centre - before


def bilinear_by_loops(image, height, width):
    result = np.empty((3, height, width))
    for y in range(height):
        above, below, down = source(y, image.shape[0], height)
        for x in range(width):
            left, right, along = source(x, image.shape[1], width)
            top = (1 - along) * image[above, left] + along * image[above, right]
            bottom = (1 - along) * image[below, left] + along * image[below, right]
            result[:, y, x] = (1 - down) * top + down * bottom
    return result


@given(SIDE, SIDE, st.integers(1, 24))
@settings(max_examples=40, deadline=None)
def test_within_one_level_of_bilinear_in_floating_point(height, width, size):
    assume(max(height, width) <= 4 * min(height, width))
    image = random_image(height, width)
    exact = bilinear_by_loops(image, *resized_shape(height, width, size))
    assert np.abs(resize_short_side(image, size) - exact).max() <= 1


@pytest.mark.parametrize(
    ("height", "width", "size", "expected"),
    [
        (256, 340, 224, (224, 297)),
        (340, 256, 224, (297, 224)),
        (256, 454, 224, (224, 397)),
        (128, 128, 224, (224, 224)),
        (241, 321, 224, (224, 298)),
        (1, 1, 224, (224, 224)),
    ],
)
def test_the_longer_side_is_rounded_down(height, width, size, expected):
    assert resized_shape(height, width, size) == expected
    assert resize_short_side(random_image(height, width), size).shape == (3, *expected)


@pytest.mark.parametrize(("height", "width"), [(24, 40), (40, 24), (24, 24)])
def test_an_image_of_the_right_size_is_not_resampled(height, width):
    image = random_image(height, width)
    assert np.array_equal(resize_short_side(image, 24), image.transpose(2, 0, 1))


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
@pytest.mark.parametrize("size", [7, 16, 31])
def test_a_flat_image_stays_flat(level, size):
    image = np.full((20, 33, 3), level, np.uint8)
    assert (resize_short_side(image, size) == level).all()


def test_pixels_worked_by_hand():
    # Two pixels to four: centres at -0.25, 0.25, 0.75, 1.25 of the source.
    image = np.array([[[0] * 3, [200] * 3]] * 2, np.uint8)
    resized = resize_short_side(image, 4)
    assert resized[0, 0].tolist() == [0, 50, 150, 200]


def test_views_of_other_arrays_are_resized_like_copies():
    image = random_image(30, 40)[:, ::-1]
    assert np.array_equal(resize_short_side(image, 16), resize_short_side(image.copy(), 16))


def test_equals_opencv_to_the_bit():
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed; it is compared where it is")
    for seed in range(40):
        height, width = np.random.default_rng(seed).integers(40, 400, 2)
        image = random_image(height, width, seed)
        rows, columns = resized_shape(height, width, 112)
        expected = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR)
        assert np.array_equal(resize_short_side(image, 112), expected.transpose(2, 0, 1))
