"""The trajectory sum against loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidprune.insight.trajectory import trajectory_sum
from vidprune.layout import TokenGrid


def by_loops(tokens: torch.Tensor, places: list[int], grid: TokenGrid) -> float:
    frames = [place // grid.tokens_per_frame for place in places]
    last = [i for i, frame in enumerate(frames) if frame == grid.frames - 1]
    if not last:
        return math.nan
    total = 0.0
    for token in last:
        for frame in range(grid.frames - 1):
            likenesses = [
                float(torch.cosine_similarity(tokens[token], tokens[other], dim=0))
                for other in range(len(places))
                if frames[other] == frame
            ]
            total += max(likenesses, default=0.0)
    return total / len(last)


@given(
    frames=st.integers(1, 4),
    kept=st.lists(st.integers(0, 10**6), min_size=1, max_size=12, unique=True),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=40, deadline=None)
def test_it_is_what_loops_say(frames: int, kept: list[int], seed: int) -> None:
    grid = TokenGrid(frames=frames, rows=2, columns=3)
    places = list(dict.fromkeys(each % grid.tokens for each in kept))
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2, len(places), 5, generator=generator)
    origin = torch.tensor([places, places])
    found = trajectory_sum(tokens, origin, grid)
    for clip in range(2):
        wanted = by_loops(tokens[clip].double(), places, grid)
        assert found[clip].item() == pytest.approx(wanted, abs=1e-5, nan_ok=True)


def test_frames_that_repeat_each_other_reach_the_most() -> None:
    grid = TokenGrid(frames=5, rows=2, columns=2)
    frame = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(0))
    places = torch.arange(grid.tokens)[None]
    assert trajectory_sum(frame.repeat(1, 5, 1), places, grid).item() == pytest.approx(4)


def test_padding_is_no_token() -> None:
    grid = TokenGrid(frames=2, rows=1, columns=2)
    tokens = torch.tensor([[[1.0, 0], [0, 1], [1, 0]]])
    origin = torch.tensor([[0, 2, 3]])
    valid = torch.tensor([[True, True, False]])
    assert trajectory_sum(tokens, origin, grid, valid=valid).item() == pytest.approx(0)
    assert trajectory_sum(tokens, origin, grid).item() == pytest.approx(0.5)
