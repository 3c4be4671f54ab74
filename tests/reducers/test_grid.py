"""Uniform tubes: the same places in every frame, spread as ordered dithering spreads them."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidprune.layout import Layout, TokenGrid
from vidprune.reducers.base import Reduction, Signals
from vidprune.reducers.grid import Grid, dispersed

CPU = torch.device("cpu")
VIT = TokenGrid(frames=8, rows=14, columns=14)
SMALL = TokenGrid(frames=3, rows=4, columns=5)


def layouts(reducer: Grid, grid: TokenGrid, clip_keys: list[int]) -> list[Layout]:
    """Where the survivors of each stage lie."""
    origin = torch.arange(grid.tokens).expand(len(clip_keys), -1)
    layout, after = Layout(grid=grid, origin=origin, clip_keys=torch.tensor(clip_keys)), []
    for stage in reducer.plan(12, grid):
        keep = reduce_once(reducer, layout, stage).keep
        layout = Layout(grid=grid, origin=layout.origin.gather(1, keep), clip_keys=layout.clip_keys)
        after.append(layout)
    return after


def reduce_once(reducer: Grid, layout: Layout, stage: Any) -> Reduction:
    batch, entering = layout.origin.shape
    keys = torch.randn(batch, entering, 4, generator=torch.Generator().manual_seed(0))
    return reducer(torch.zeros(batch, entering, 2), Signals(keys=keys), layout, stage)


def tubes(layout: Layout) -> list[list[int]]:
    """Per clip the places that stay, which have to be those of every frame, in order."""
    each = layout.grid.tokens_per_frame
    by_frame = layout.origin.unflatten(1, (layout.grid.frames, -1))
    frames = torch.arange(layout.grid.frames)[:, None]
    assert torch.equal(by_frame // each, frames.expand_as(by_frame))
    assert (by_frame.diff(dim=-1) > 0).all()
    places = by_frame % each
    assert torch.equal(places, places[:, :1].expand_as(places))
    return places[:, 0].tolist()


def bayer(side: int) -> list[list[int]]:
    """The matrix of ordered dithering, by its recursion over quarters."""
    if side == 1:
        return [[0]]
    half = side // 2
    inner, corner = bayer(half), [[0, 2], [3, 1]]
    return [
        [4 * inner[y % half][x % half] + corner[y // half][x // half] for x in range(side)]
        for y in range(side)
    ]


def order_by_hand(rows: int, columns: int) -> list[int]:
    side = 1
    while side < max(rows, columns):
        side *= 2
    ranks = bayer(side)
    return sorted(range(rows * columns), key=lambda p: ranks[p // columns][p % columns])


# Which places.


@pytest.mark.parametrize("places", ["even", "random"])
@pytest.mark.parametrize("grid", [VIT, SMALL, TokenGrid(frames=7, rows=5, columns=3)], ids=str)
def test_every_stage_leaves_tubes(places: Any, grid: TokenGrid) -> None:
    after = layouts(Grid(r=6, places=places), grid, [3, -8, 2**50])
    kept = [grid.tokens_per_frame - gone for gone in (6, 9, 10)]
    assert [len(tubes(layout)[0]) for layout in after] == kept


@pytest.mark.parametrize("grid", [VIT, SMALL, TokenGrid(frames=2, rows=1, columns=9)], ids=str)
def test_even_places_are_the_first_of_ordered_dithering(grid: TokenGrid) -> None:
    order = order_by_hand(grid.rows, grid.columns)
    for layout in layouts(Grid(r=4), grid, [1, 2]):
        one, other = tubes(layout)
        assert one == other == sorted(order[: len(one)])


def test_a_quarter_is_every_second_row_and_column() -> None:
    (layout,) = layouts(Grid(r=147, stages=1), VIT, [0])
    wanted = [row * 14 + column for row in range(0, 14, 2) for column in range(0, 14, 2)]
    assert tubes(layout) == [wanted]


@given(rows=st.integers(1, 20), columns=st.integers(1, 20))
@settings(deadline=None)
def test_the_order_is_a_ranking_of_all_places(rows: int, columns: int) -> None:
    ranks = dispersed(rows, columns, CPU)
    assert ranks.dtype == torch.int64
    assert ranks.argsort().tolist() == order_by_hand(rows, columns)
    assert len(set(ranks.tolist())) == rows * columns


@pytest.mark.parametrize("side", [4, 8, 16])
def test_any_number_of_places_is_spread_over_halves_and_quarters(side: int) -> None:
    order = dispersed(side, side, CPU).argsort()
    taken = torch.zeros(side * side + 1, side * side)
    for count in range(side * side):
        taken[count + 1] = taken[count]
        taken[count + 1, order[count]] = 1
    frames = taken.unflatten(1, (side, side))
    for shape in ((side // 2, side), (side, side // 2), *((n, n) for n in (2, side // 2))):
        parts = frames.unfold(1, shape[0], shape[0]).unfold(2, shape[1], shape[1])
        counts = parts.sum((-1, -2)).flatten(1)
        assert (counts.amax(1) - counts.amin(1)).max() <= 1


def test_random_places_are_drawn_per_clip_and_seed() -> None:
    def places(clip_key: int, **options: int) -> tuple[int, ...]:
        reducer = Grid(r=6, places="random", **options)
        return tuple(tubes(layouts(reducer, VIT, [clip_key, 5])[-1])[0])

    draws = [places(1), places(2), places(1, seed=1), places(1 + 2**40)]
    assert places(1) == draws[0]
    assert len(set(draws)) == 4


def test_every_place_is_as_likely_to_stay_in_every_stage() -> None:
    clips = 3000
    for layout in layouts(Grid(r=4, places="random"), SMALL, list(range(clips))):
        kept: Tensor = torch.tensor(tubes(layout))
        counts = torch.bincount(kept.flatten(), minlength=20)
        share = kept.shape[1] / 20
        sigma = (clips * share * (1 - share)) ** 0.5
        assert ((counts - clips * share).abs() < 4.5 * sigma).all()


@pytest.mark.parametrize("places", ["even", "random"])
def test_it_draws_only_where_it_is_random(places: Any) -> None:
    assert ("clip_keys" in Grid(r=4, places=places).needs) is (places == "random")
    assert "keys" not in Grid(r=4, places=places).needs


def test_what_is_dropped_can_be_folded() -> None:
    reducer = Grid(r=5, fold=True)
    (stage, *_) = reducer.plan(3, SMALL)
    layout = Layout(grid=SMALL, origin=torch.arange(60).expand(2, -1))
    folded = reduce_once(reducer, layout, stage)
    assert folded.owner is not None
    assert torch.equal(folded.keep, reduce_once(Grid(r=5), layout, stage).keep)
    assert torch.equal(folded.owner.gather(1, folded.keep), torch.arange(45).expand(2, -1))


# How many.


@pytest.mark.parametrize(
    ("options", "drops"),
    [
        ({"r": 64}, [64, 32, 16]),
        ({"r": 3}, [3, 1]),
        ({"r": 7, "schedule": "constant"}, [7, 7, 7]),
        ({"r": 7, "schedule": "increasing", "stages": 2}, [7, 14]),
        ({"schedule": (5, 0, 1)}, [5, 1]),
        ({"r": 0}, []),
    ],
    ids=str,
)
@pytest.mark.parametrize("frames", [8, 7, 1])
def test_every_frame_loses_what_the_schedule_says_rounded_down(
    options: dict[str, Any], drops: list[int], frames: int
) -> None:
    grid = TokenGrid(frames=frames, rows=14, columns=14)
    stages = Grid(**options).plan(12, grid)
    assert [stage.drop for stage in stages] == drops
    assert {stage.groups for stage in stages} <= {frames}


def test_at_least_one_place_stays() -> None:
    (stage,) = Grid(r=195, stages=1).plan(3, VIT)
    assert stage.kept == 8
    with pytest.raises(ValueError, match="cannot drop 196 tokens from every group"):
        Grid(r=196, stages=1).plan(3, VIT)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"places": "odd"}, "places='odd' is not known; choose one of even, random"),
        ({"seed": "x"}, "seed='x' must be a whole number"),
        ({"proportional_attention": True}, "needs fold=True"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Grid(r=3, **options)
