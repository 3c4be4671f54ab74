"""ToMe against a forward by loops, which repeats tokens instead of weighing them."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reducers import tome_by_loops
from tiny_videomae import clips, tiny_videomae
from vidprune.layout import Layout, TokenGrid
from vidprune.model import Trace
from vidprune.pruned import prune
from vidprune.reducers.base import Reduction, Signals
from vidprune.reducers.schedule import Place
from vidprune.reducers.tome import ToMe, falling

VIT = TokenGrid(frames=8, rows=14, columns=14)


def reduction(keys: Tensor, drop: int, **options: Any) -> Reduction:
    """What one block does to tokens with these keys (B, N, d)."""
    batch, entering = keys.shape[:2]
    reducer = ToMe(schedule=(drop,), **options)
    grid = TokenGrid(frames=1, rows=1, columns=entering)
    (stage,) = reducer.plan(1, grid)
    layout = Layout(grid=grid, origin=torch.arange(entering).expand(batch, -1))
    return reducer(torch.zeros(batch, entering, 3), Signals(keys=keys), layout, stage)


def joined(reduced: Reduction) -> list[dict[int, int]]:
    """Per clip, whom each position that goes joins, by position."""
    assert reduced.owner is not None
    found = []
    for keep, owner in zip(reduced.keep.tolist(), reduced.owner.tolist(), strict=True):
        whom = {position: keep[place] for position, place in enumerate(owner)}
        assert all(whom[position] == position for position in keep)
        found.append({p: to for p, to in whom.items() if p not in keep})
    return found


# One block.


@given(
    seed=st.integers(0, 10**6),
    entering=st.integers(2, 19),
    share=st.floats(0.01, 1),
    batch=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_a_block_merges_what_the_loops_merge(
    seed: int, entering: int, share: float, batch: int
) -> None:
    drop = max(1, int(share * (entering // 2)))
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(batch, entering, 4, generator=generator, dtype=torch.float64)
    found = reduction(keys, drop)
    wanted = [tome_by_loops.match(clip, drop) for clip in keys.numpy()]
    assert found.keep.tolist() == [stay for stay, _ in wanted]
    assert joined(found) == [joins for _, joins in wanted]


def test_a_block_by_hand() -> None:
    # Sources 0, 2, 4; destinations 1, 3. Cosines: 0 with 1: 0.6, 0 with 3: 0.8; 2 with 1: 1;
    # 4 with 3: -0.6, 4 with 1: -0.8.
    keys = torch.tensor([[[3.0, 4.0], [2.0, 0.0], [7.0, 0.0], [0.0, 5.0], [-4.0, -3.0]]])
    for drop, stay, joins in [
        (1, [0, 4, 1, 3], {2: 1}),
        (2, [4, 1, 3], {2: 1, 0: 3}),
    ]:
        found = reduction(keys, drop)
        assert found.keep.tolist() == [stay]
        assert joined(found) == [joins]


def test_of_equals_the_earlier_position_comes_first() -> None:
    alike = torch.ones(1, 8, 2)
    found = reduction(alike, 2)
    assert found.keep.tolist() == [[4, 6, 1, 3, 5, 7]]
    assert joined(found) == [{0: 1, 2: 1}]
    nothing = reduction(torch.zeros(1, 5, 2), 2)
    assert nothing.keep.tolist() == [[4, 1, 3]]
    assert joined(nothing) == [{0: 1, 2: 1}]


def test_length_of_keys_counts_for_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    keys = torch.randn(2, 12, 4, generator=generator)
    lengths = 2.0 ** torch.randint(-3, 4, (2, 12, 1), generator=generator)
    one, other = reduction(keys, 4), reduction(keys * lengths, 4)
    assert torch.equal(one.keep, other.keep)
    assert torch.equal(one.owner, other.owner)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keys_are_scored_in_float32(dtype: torch.dtype) -> None:
    keys = torch.randn(3, 200, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    wanted = reduction(keys.float(), 50)
    found = reduction(keys, 50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = reduction(keys.float(), 50)
    for each in (found, cast):
        assert torch.equal(each.keep, wanted.keep)
        assert torch.equal(each.owner, wanted.owner)


def test_dropping_keeps_what_merging_keeps_and_owns_nothing() -> None:
    keys = torch.randn(2, 11, 4, generator=torch.Generator().manual_seed(2))
    dropped = reduction(keys, 4, mode="drop")
    assert torch.equal(dropped.keep, reduction(keys, 4).keep)
    assert dropped.owner is None


# A whole forward.


def last_sizes(trace: Trace, tokens: int) -> list[list[int]]:
    sizes = torch.ones(trace.kept[0].shape[0], tokens)
    for kept, owner in zip(trace.kept, trace.owner, strict=True):
        sizes = torch.zeros(kept.shape).scatter_add(1, owner, sizes)
    return sizes.int().tolist()


@pytest.mark.parametrize(
    ("options", "merges"),
    [
        ({"r": 9}, [9] * 6),
        ({"r": 9, "proportional_attention": True}, [9] * 6),
        ({"r": 9, "mode": "drop"}, [9] * 6),
        ({"r": 9, "schedule": "decreasing"}, [18, 14, 11, 7, 4, 0]),
        (
            {"schedule": (0, 70, 0, 1, 40, 0), "proportional_attention": True},
            [0, 64, 0, 1, 31, 0],
        ),
        ({"r": 200, "proportional_attention": True}, [64, 32, 16, 8, 4, 2]),
    ],
    ids=str,
)
@torch.no_grad()
def test_a_forward_is_the_one_by_loops(options: dict[str, Any], merges: list[int]) -> None:
    model, pixels = tiny_videomae().double(), clips(2).double()
    reducer = ToMe(**options)
    output = prune(model, reducer)(pixels, return_trace=True)
    for clip in range(2):
        logits, stages, sizes = tome_by_loops.forward(
            model,
            pixels[clip],
            merges=merges,
            drop=reducer.mode == "drop",
            proportional=reducer.proportional_attention,
        )
        assert [kept[clip].tolist() for kept in output.trace.kept] == stages
        # Sizes and their shares are float32 in a float64 model, too.
        torch.testing.assert_close(output.logits[clip], logits, rtol=1e-5, atol=1e-6)
        if reducer.mode == "merge":
            assert last_sizes(output.trace, 128)[clip] == sizes


@torch.no_grad()
def test_every_choice_changes_the_logits() -> None:
    model = tiny_videomae()
    choices: list[dict[str, Any]] = [
        {},
        {"mode": "drop"},
        {"proportional_attention": True},
        {"schedule": "decreasing"},
    ]
    logits = [prune(model, ToMe(r=9, **choice))(clips(1)).logits for choice in choices]
    for place, one in enumerate(logits):
        assert not any(torch.allclose(one, other, atol=1e-4) for other in logits[:place])


# The plan.


def lengths(reducer: ToMe, depth: int, grid: TokenGrid = VIT) -> list[int]:
    return [stage.kept for stage in reducer.plan(depth, grid)]


def test_every_block_acts_between_attention_and_mlp() -> None:
    stages = ToMe(r=60).plan(24, VIT)
    assert [stage.block for stage in stages] == list(range(24))
    assert {stage.place for stage in stages} == {Place.AFTER_ATTENTION}
    assert [stage.entering for stage in stages] == [1568 - 60 * block for block in range(24)]
    assert [stage.kept for stage in stages] == [1568 - 60 * block for block in range(1, 25)]
    assert {(stage.groups, stage.drop) for stage in stages} == {(1, 60)}


def test_at_most_half_of_the_tokens_go() -> None:
    odd = TokenGrid(frames=1, rows=1, columns=23)
    assert lengths(ToMe(r=10**6), 9, odd) == [12, 6, 3, 2, 1]
    assert lengths(ToMe(r=8), 9, odd) == [15, 8, 4, 2, 1]
    assert lengths(ToMe(schedule=(0, 20, 1, 0)), 4, odd) == [12, 11]
    assert [stage.block for stage in ToMe(schedule=(0, 20, 1, 0)).plan(4, odd)] == [1, 2]


def test_nothing_to_drop_is_no_plan() -> None:
    assert ToMe(r=0).plan(12, VIT) == ()
    assert ToMe(r=0, schedule="decreasing").plan(12, VIT) == ()
    assert ToMe(schedule=(0, 0)).plan(2, VIT) == ()
    assert ToMe(r=5).plan(3, TokenGrid(frames=1, rows=1, columns=1)) == ()


@pytest.mark.parametrize(
    ("r", "depth", "numbers"),
    [
        (3, 6, (6, 5, 4, 2, 1, 0)),
        (8, 5, (16, 12, 8, 4, 0)),
        (1, 4, (2, 1, 1, 0)),
        (7, 2, (14, 0)),
        (7, 1, (7,)),
        (0, 3, (0, 0, 0)),
    ],
)
def test_numbers_fall_from_twice_to_none(r: int, depth: int, numbers: tuple[int, ...]) -> None:
    assert falling(r, depth) == numbers


@given(r=st.integers(0, 300), depth=st.integers(2, 60))
def test_falling_numbers_lie_on_a_line_and_sum_to_the_constant_total(r: int, depth: int) -> None:
    numbers = falling(r, depth)
    assert sum(numbers) == r * depth
    assert (numbers[0], numbers[-1]) == (2 * r, 0)
    assert all(one >= other for one, other in pairwise(numbers))
    for block, number in enumerate(numbers):
        assert abs(number - 2 * r * (1 - block / (depth - 1))) < 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "r=None must be a whole number of at least 0"),
        ({"r": -1}, "r=-1 must be a whole number"),
        ({"r": 1.5}, r"r=1\.5 must be a whole number"),
        ({"r": True}, "r=True must be a whole number"),
        ({"r": 3, "schedule": (1, 2)}, r"r=3 and the explicit schedule=\(1, 2\) both say"),
        ({"r": 3, "schedule": "increasing"}, "schedule='increasing' is not known; choose one of"),
        ({"schedule": ()}, r"schedule=\(\) must list whole numbers"),
        ({"schedule": (1, -2)}, "must list whole numbers"),
        ({"r": 3, "mode": "prune"}, "mode='prune' is not known; choose one of merge, drop"),
        ({"r": 3, "proportional_attention": 1}, "proportional_attention=1 must be true or false"),
        (
            {"r": 3, "mode": "drop", "proportional_attention": True},
            "proportional_attention=True needs mode='merge'",
        ),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ToMe(**options)


def test_an_explicit_schedule_is_as_long_as_the_model_is_deep() -> None:
    with pytest.raises(ValueError, match="lists 2 numbers, but the model has 3 blocks"):
        ToMe(schedule=(1, 2)).plan(3, VIT)
    assert ToMe(schedule=[1, 2]).schedule == (1, 2)
