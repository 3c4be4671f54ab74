"""What is left of the actors: the mask goes the way of the pixels."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vidprune.demo.clips import render, write_clips
from vidprune.layout import TokenGrid
from vidprune.video import Protocol, Sample, read_dataset, read_views

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PROTOCOL = Protocol(sampling="segment", segments=1, crops=1, frames=4, size=112)
GRID = TokenGrid(frames=2, rows=14, columns=14)


@pytest.fixture(scope="module")
def actors() -> dict:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return runpy.run_path(str(BENCHMARKS / "actors.py"))
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_an_actor_everywhere_covers_every_token(actors: dict) -> None:
    cover = actors["cover_of"](np.full((9, 120, 160), 100, np.uint8), PROTOCOL, GRID)
    assert torch.equal(cover, torch.ones(2 * 14 * 14))


def test_a_cell_is_found_where_the_view_shows_it(actors: dict) -> None:
    """Frames of 120 x 160 become 112 x 149, of which columns 18 to 130 are shown."""
    mask = np.zeros((4, 120, 160), np.uint8)
    mask[2:, 40:48, 96:104] = 100
    cover = actors["cover_of"](mask, PROTOCOL, GRID).view(2, 14, 14)
    assert cover[0].sum() == 0
    # In pixels of the resized frame the cell spans rows 37.3 to 44.8, columns 89.4 to 96.9.
    row, column = (37.3 + 44.8) / 2, (89.4 + 96.9) / 2 - 18
    weights = cover[1] / cover[1].sum()
    assert (weights.sum(1) * (8 * torch.arange(14) + 4)).sum() == pytest.approx(row, abs=1.5)
    assert (weights.sum(0) * (8 * torch.arange(14) + 4)).sum() == pytest.approx(column, abs=1.5)
    assert cover[1].sum() * 64 == pytest.approx(7.5 * 7.5, rel=0.05)


def test_the_share_that_is_kept_leaves_padding_out(actors: dict) -> None:
    cover = torch.tensor([0.5, 0.0, 1.0, 0.5])
    share = actors["kept_share"]
    assert share(torch.tensor([2, 1, -1]), cover) == pytest.approx(50)
    assert share(torch.tensor([0, 1, 2, 3]), cover) == pytest.approx(100)


def test_masks_are_found_by_the_names_of_videos(actors: dict, tmp_path: Path) -> None:
    cells = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    np.savez(tmp_path / "masks.npz", **{"wave/one": cells})
    mask = actors["masks_of"](tmp_path / "masks.npz")
    found = mask(7, Sample(name="wave/one.mp4", path=tmp_path / "wave" / "one.mp4", label=0))
    assert found.shape == (1, 16, 24)
    assert (found[0, 8:, 16:] == 5).all()
    assert mask(0, Sample(name="two.mp4", path=tmp_path / "wave" / "two.mp4", label=0)) is None


def test_masks_of_generated_clips_show_what_moves(actors: dict, tmp_path: Path) -> None:
    """Of an object that moves, what lies under its mask in one frame is elsewhere in the next."""
    samples = read_dataset(write_clips(tmp_path, per_class=2, seed=55).parent)
    mask = actors["masks_drawn"](55)
    place = next(i for i, sample in enumerate(samples) if sample.label == 1) + 1
    found = mask(place, samples[place])
    clip = render(1, 55 + place)
    assert np.array_equal(found, np.round(100 * clip.actors).astype(np.uint8))
    decoded = read_views(samples[place].path, replace(PROTOCOL, frames=16, size=64)).pixels[0]
    frames = decoded.numpy().transpose(0, 2, 3, 1)
    assert np.abs(frames.astype(int) - clip.frames.astype(int)).mean() < 12
