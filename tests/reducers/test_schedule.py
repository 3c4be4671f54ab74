"""Where tokens go and how many: the paper's numbers, other clip lengths, refusals."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vidprune.layout import TokenGrid
from vidprune.reducers.baselines import Random
from vidprune.reducers.schedule import SCHEDULES, GroupSchedule, group_counts, spread_blocks
from vidprune.reducers.sta import STA

VIT = TokenGrid(frames=8, rows=14, columns=14)


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [
        (8, (0, 2, 5)),
        (12, (0, 4, 8)),
        (24, (0, 8, 16)),
        (32, (0, 10, 21)),
        (6, (0, 2, 4)),
        (3, (0, 1, 2)),
    ],
)
def test_three_stages_act_after_the_release_s_blocks(depth: int, blocks: tuple[int, ...]) -> None:
    assert spread_blocks(depth, 3) == blocks
    assert tuple(stage.block for stage in STA(r=1).plan(depth, VIT)) == blocks


@pytest.mark.parametrize(("stages", "blocks"), [(1, (0,)), (2, (0, 12)), (4, (0, 6, 12, 18))])
def test_other_numbers_of_stages_spread_alike(stages: int, blocks: tuple[int, ...]) -> None:
    assert tuple(stage.block for stage in STA(r=1, stages=stages).plan(24, VIT)) == blocks


@pytest.mark.parametrize(
    ("frames", "counts"),
    [
        (1, (1, 1, 1)),
        (2, (2, 1, 1)),
        (3, (3, 1, 1)),
        (4, (4, 2, 1)),
        (5, (5, 1, 1)),
        (6, (6, 3, 1)),
        (7, (7, 1, 1)),
        (8, (8, 4, 2)),
        (10, (10, 5, 1)),
        (12, (12, 6, 3)),
        (16, (16, 8, 4)),
    ],
)
def test_groups_for_any_number_of_frames(frames: int, counts: tuple[int, ...]) -> None:
    assert group_counts(frames, 3) == counts


@given(frames=st.integers(1, 64), stages=st.integers(1, 5))
def test_groups_are_made_of_whole_groups_and_at_most_halve_on(frames: int, stages: int) -> None:
    counts = group_counts(frames, stages)
    assert counts[0] == frames
    for index, (before, count) in enumerate(pairwise(counts), start=1):
        assert before % count == 0
        assert 1 <= count <= max(frames / 2**index, 1)


@pytest.mark.parametrize(
    ("options", "drops", "lengths"),
    [
        ({"r": 64}, (64, 64, 64), (1056, 800, 672)),
        ({"r": 32}, (32, 32, 32), (1312, 1184, 1120)),
        ({"r": 48, "schedule": "constant"}, (48, 96, 192), (1184, 800, 416)),
        ({"r": 27, "schedule": "increasing"}, (27, 108, 432), (1352, 920, 56)),
        ({"schedule": (64, 32, 16)}, (64, 64, 64), (1056, 800, 672)),
        ({"schedule": [10, 20]}, (10, 40), (1488, 1328)),
        ({"r": 8, "stages": 4}, (8, 8, 8, 8), (1504, 1472, 1456, 1448)),
        ({"r": 8, "stages": 2}, (8, 8), (1504, 1472)),
        ({"r": 8, "blocks": (3,)}, (8,), (1504,)),
    ],
)
def test_drops_of_sixteen_frames(
    options: dict[str, Any], drops: tuple[int, ...], lengths: tuple[int, ...]
) -> None:
    stages = STA(**options).plan(24, VIT)
    assert tuple(stage.drop for stage in stages) == drops
    assert tuple(stage.kept for stage in stages) == lengths


def test_random_follows_the_same_plan() -> None:
    assert Random(r=64).plan(24, VIT) == STA(r=64).plan(24, VIT)


@given(
    frames=st.integers(1, 12),
    side=st.integers(1, 9),
    r=st.integers(0, 40),
    schedule=st.sampled_from(SCHEDULES),
    stages=st.integers(1, 4),
)
def test_a_plan_hands_whole_groups_from_stage_to_stage(
    frames: int, side: int, r: int, schedule: Any, stages: int
) -> None:
    grid = TokenGrid(frames=frames, rows=side, columns=side)
    try:
        plan = GroupSchedule(r=r, schedule=schedule, stages=stages).plan(12, grid)
    except ValueError:
        assume(False)
    entering = grid.tokens
    for stage in plan:
        assert stage.entering == entering
        assert stage.groups * stage.group_size == entering
        assert 0 < stage.drop < stage.group_size
        entering = stage.kept
    assert bool(plan) == (r > 0)


@pytest.mark.parametrize("options", [{"r": 0}, {"schedule": (0, 0, 0)}, {"r": 0, "blocks": (90,)}])
def test_nothing_to_drop_is_no_stage(options: dict[str, Any]) -> None:
    assert STA(**options).plan(12, VIT) == ()


def test_a_stage_that_drops_nothing_is_left_out_and_the_others_keep_their_number() -> None:
    stages = STA(schedule=(0, 8, 4)).plan(12, VIT)
    assert [(stage.index, stage.block, stage.groups) for stage in stages] == [(1, 4, 4), (2, 8, 2)]


def test_the_largest_legal_r_leaves_one_token() -> None:
    grid = TokenGrid(frames=1, rows=3, columns=3)
    (stage,) = STA(r=8, stages=1).plan(12, grid)
    assert stage.kept == 1


def test_a_stage_reads_as_a_sentence() -> None:
    first = STA(r=64).plan(12, VIT)[0]
    expected = "after block 0: 1568 -> 1056 tokens (8 groups of 196, 64 dropped from each)"
    assert str(first) == expected


@pytest.mark.parametrize(
    ("options", "depth", "sentence"),
    [
        ({"r": 196}, 12, "cannot drop 196 tokens.*stage 1.*holds 196 tokens.*smaller r"),
        (
            {"r": 150},
            12,
            "drop 150 tokens.* stage 2 .after block 4.: a group holds 92 tokens there",
        ),
        ({"r": 1}, 2, "3 stages after blocks 0, 0, 1 do not fit a model of 2 blocks"),
        ({"r": 1, "blocks": (0, 12)}, 12, r"after blocks 0, 12 do not fit a model of 12 blocks"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(
    options: dict[str, Any], depth: int, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        STA(**options).plan(depth, VIT)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "r=None must be a whole number of at least 0"),
        ({"r": -1}, "r=-1 must be a whole number of at least 0"),
        ({"r": 1.5}, "r=1.5 must be a whole number"),
        ({"r": True}, "r=True must be a whole number"),
        ({"r": "8"}, "r='8' must be a whole number"),
        ({"r": 8, "schedule": "falling"}, "schedule='falling' is not known; choose one of decr"),
        ({"r": 8, "schedule": (1, 2, 3)}, "r=8 and the explicit schedule=.* give one of the two"),
        ({"schedule": (1, -2)}, r"schedule=\(1, -2\) must list whole numbers"),
        ({"schedule": ()}, r"schedule=\(\) must list whole numbers"),
        ({"schedule": 1.5}, "schedule=1.5 must list whole numbers"),
        ({"r": 8, "stages": 0}, "stages=0 must be a whole number of at least 1"),
        ({"r": 8, "stages": 2.5}, "stages=2.5 must be a whole number of at least 1"),
        ({"r": 8, "stages": True}, "stages=True must be a whole number of at least 1"),
        ({"r": 8, "stages": 2, "blocks": (1, 2, 3)}, "stages says 2 and blocks says 3"),
        ({"schedule": (1, 2), "blocks": (1, 2, 3)}, "blocks says 3 and schedule says 2"),
        ({"r": 8, "blocks": (4, 2)}, r"blocks=\(4, 2\) must rise strictly"),
        ({"r": 8, "blocks": (4, 4)}, r"blocks=\(4, 4\) must rise strictly"),
        ({"r": 8, "blocks": (1, "2")}, "blocks=.* must list whole numbers"),
    ],
)
@pytest.mark.parametrize("kind", [STA, Random])
def test_settings_that_contradict_themselves_are_refused(
    kind: type, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        kind(**options)
