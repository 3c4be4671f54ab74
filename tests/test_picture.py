"""The picture of what stayed: a white pixel exactly where a token was dropped."""

import numpy as np
import pytest

from vidprune.layout import TokenGrid
from vidprune.picture import Row, draw_kept, whitened

GRID = TokenGrid(frames=3, rows=2, columns=4)


def dark_frames(frames: int, height: int = 16, width: int = 32) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.integers(0, 200, (frames, height, width, 3), dtype=np.uint8)


def white(image: np.ndarray) -> np.ndarray:
    return (image == 255).all(-1)


@pytest.mark.parametrize("seed", range(5))
def test_white_exactly_where_a_token_was_dropped(seed):
    generator = np.random.default_rng(seed)
    kept = generator.permutation(GRID.tokens)[: generator.integers(0, GRID.tokens + 1)]
    frames = dark_frames(3, width=48)
    drawn = whitened(frames, kept, GRID)
    for time in range(3):
        for row in range(2):
            for column in range(4):
                place = np.s_[time, 8 * row : 8 * row + 8, 12 * column : 12 * column + 12]
                stays = time * 8 + row * 4 + column in kept
                assert white(drawn[place]).all() != stays
                if stays:
                    assert np.array_equal(drawn[place], frames[place])


def test_all_kept_is_the_frames_and_so_is_a_row_without_kept():
    frames = dark_frames(3)
    assert np.array_equal(whitened(frames, np.arange(GRID.tokens), GRID), frames)
    assert np.array_equal(whitened(frames, None, GRID), frames)


def test_padding_is_no_place():
    frames = dark_frames(3)
    padded = whitened(frames, np.array([4, 9, -1, -1]), GRID)
    assert np.array_equal(padded, whitened(frames, np.array([4, 9]), GRID))
    assert white(padded)[2].all()


def test_frames_are_not_written_to():
    frames = dark_frames(3)
    before = frames.copy()
    whitened(frames, np.array([], dtype=np.int64), GRID)
    assert np.array_equal(frames, before)


def test_of_each_temporal_position_the_first_frame_is_shown_exactly_at_a_multiple():
    frames = dark_frames(6)
    picture = np.asarray(draw_kept(frames, [Row("the clip")], GRID, frame_pixels=32))
    for column in range(3):
        left = 6 + column * (64 + 6)
        tile = picture[6 + 22 : 6 + 22 + 32, left : left + 64]
        assert np.array_equal(tile[::2, ::2], frames[2 * column])
        assert np.array_equal(tile[1::2, 1::2], frames[2 * column])


def test_every_stage_is_a_line_below_the_other():
    frames = dark_frames(3)
    rows = [Row("all", np.arange(24)), Row("none", np.array([], dtype=np.int64))]
    picture = np.asarray(draw_kept(frames, rows, GRID, frame_pixels=16))
    first, second = (picture[top : top + 16, 6 : 6 + 32] for top in (28, 28 + 44))
    assert np.array_equal(first, frames[0])
    assert white(second).all()
    assert picture.shape == (2 * 44 + 6, 3 * 38 + 6, 3)


def test_a_gap_lies_between_the_frames():
    rows = [Row("none", np.array([], dtype=np.int64))]
    picture = np.asarray(draw_kept(dark_frames(3), rows, GRID, frame_pixels=16))
    line = white(picture[30])
    assert np.flatnonzero(line).tolist() == [*range(6, 38), *range(44, 76), *range(82, 114)]
