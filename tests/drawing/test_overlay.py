"""What is white is exactly what went, at the pixel; heat maps keep their order without colour."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidprune.drawing.colours import cividis, group_colours, heat
from vidprune.drawing.overlay import Tiles, heated, one_per_position, pruned, tiles_of
from vidprune.layout import TokenGrid

FRAMES = np.random.default_rng(0).integers(1, 250, (4, 30, 20, 3), dtype=np.uint8)


def merged(grid: TokenGrid, times: int) -> TokenGrid:
    for _ in range(times):
        grid = TokenGrid(frames=grid.frames, rows=-(-grid.rows // 2), columns=-(-grid.columns // 2))
    return grid


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    times=st.integers(0, 2),
    height=st.integers(20, 90),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_white_is_what_went_and_nothing_else_changes(
    rows: int, columns: int, times: int, height: int, seed: int
) -> None:
    fine = TokenGrid(frames=2, rows=rows, columns=columns)
    grid = merged(fine, times)
    tiles = tiles_of(FRAMES, fine, height=height)
    tall, wide = tiles.frames.shape[1] // rows, tiles.frames.shape[2] // columns
    stays = np.random.default_rng(seed).random(grid.tokens) < 0.5
    shown = pruned(tiles, np.where(stays, np.arange(grid.tokens), -1), grid)
    for frame, row, column in np.ndindex(4, *tiles.frames.shape[1:3]):
        place = frame // 2 * grid.tokens_per_frame
        place += (row // tall >> times) * grid.columns + (column // wide >> times)
        wanted = tiles.frames[frame, row, column] if stays[place] else [255, 255, 255]
        assert (shown[frame, row, column] == wanted).all()


def test_patches_are_whole_pixels_and_the_aspect_is_kept() -> None:
    grid = TokenGrid(frames=4, rows=5, columns=4)
    tiles = tiles_of(FRAMES, grid, height=61)
    height, width = tiles.frames.shape[1:3]
    assert height % grid.rows == 0 == width % grid.columns
    assert height == 60
    assert width == 40
    assert (one_per_position(FRAMES, TokenGrid(frames=2, rows=5, columns=4)) == FRAMES[::2]).all()


def test_who_was_merged_wears_the_colour_of_whom_it_joined() -> None:
    grid = TokenGrid(frames=1, rows=1, columns=3)
    tiles = Tiles(np.full((1, 12, 36, 3), 100, dtype=np.uint8), grid)
    shown = pruned(tiles, np.array([0, 0, 2]), grid)[0]
    colour = group_colours(np.array([0]))[0]
    assert (shown[0, :12] == colour).all(), "the owner is framed"
    assert (shown[6, 6] == 100).all(), "and seen"
    assert (shown[6, 18] == colour).all(), "the other has a dot"
    assert (shown[0, 12:24] > 200).all(), "and is veiled"
    assert (shown[:, 24:] == 100).all(), "who stands alone is left alone"


def test_heat_maps_rise_from_dark_to_light_for_every_eye() -> None:
    """Relative luminance (ITU-R BT.709), and what is left of it without red or green cones."""
    linear = (cividis() / 255.0) ** 2.2
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    # Colours are whole numbers: that much may be lost in rounding.
    assert np.diff(luminance).min() > -1e-3
    assert luminance[-1] - luminance[0] > 0.6
    # Brettel-like projections after Viénot, Brettel & Mollon (1999).
    for weights in ([0.1123, 0.8877, 0.0], [0.2925, 0.7075, 0.0]):
        assert np.diff(linear @ weights).min() > -1e-3


def test_what_was_not_judged_is_white_and_crossed_out() -> None:
    grid = TokenGrid(frames=1, rows=1, columns=3)
    tiles = Tiles(np.full((1, 8, 24, 3), 127, dtype=np.uint8), grid)
    shown = heated(tiles, np.array([0.0, np.nan, 1.0]), grid, low=0.0, high=1.0)[0]
    assert np.ptp(shown[:, :8].reshape(-1, 3), 0).max() <= 1
    assert abs(shown[0, 0].astype(int) - cividis()[0]).max() <= 1
    assert abs(shown[0, 16].astype(int) - cividis()[255]).max() <= 1
    middle = shown[:, 8:16]
    assert set(map(tuple, middle.reshape(-1, 3).tolist())) == {(255, 255, 255), (150, 150, 150)}


def test_values_beyond_the_ends_and_maps_without_a_range() -> None:
    assert (heat(np.array([-5.0, 9.0]), low=0, high=1) == cividis()[[0, 255]]).all()
    assert (heat(np.array([2.0]), low=2, high=2) == cividis()[0]).all()


def test_neighbours_mostly_have_colours_of_their_own() -> None:
    for columns in (4, 7, 14, 16, 28):
        colours = group_colours(np.arange(columns * columns)).reshape(columns, columns, 3)
        same_row = (colours[:, 1:] == colours[:, :-1]).all(-1).mean()
        same_column = (colours[1:] == colours[:-1]).all(-1).mean()
        assert same_row == 0
        assert same_column < 0.35


@pytest.mark.parametrize("side", [1, 2, 3])
def test_even_the_smallest_patches_can_be_marked(side: int) -> None:
    grid = TokenGrid(frames=1, rows=1, columns=2)
    tiles = Tiles(np.full((1, side, 2 * side, 3), 100, dtype=np.uint8), grid)
    shown = pruned(tiles, np.array([0, 0]), grid)
    assert (shown[0, side // 2, side + side // 2] != 100).any()
