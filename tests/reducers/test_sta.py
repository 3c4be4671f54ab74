"""STA's selection: the authors' outputs, the specification by loops, and every option."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from comparator import assert_same_selection
from vidprune.exporting import sta_by_loops
from vidprune.layout import Layout, TokenGrid
from vidprune.reducers.base import Reducer, Signals
from vidprune.reducers.draws import draw
from vidprune.reducers.schedule import Stage
from vidprune.reducers.sta import (
    STA,
    scores,
    select,
    semantic_importance,
    spared_by_cells,
    unit_rows,
)

GOLDEN = "golden/sta_select_shared.safetensors"
SCORES = ("both", "temporal", "semantic")


def random_clips(
    shape: tuple[int, int], *, channels: int = 5, width: int = 4, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(*shape, channels, generator=generator, dtype=torch.float64)
    return tokens, torch.randn(*shape, width, generator=generator, dtype=torch.float64)


def by_loops(tokens: Tensor, keys: Tensor, **options: Any) -> list[list[int]]:
    pairs = zip(tokens.double().numpy(), keys.double().numpy(), strict=True)
    return [sta_by_loops.select(t, k, **options) for t, k in pairs]


def whole_layout(grid: TokenGrid, clip_keys: list[int]) -> Layout:
    origin = torch.arange(grid.tokens).expand(len(clip_keys), -1)
    return Layout(grid=grid, origin=origin, clip_keys=torch.tensor(clip_keys))


def reduce_once(reducer: Reducer, stage: Stage, grid: TokenGrid, clip_keys: list[int]) -> Tensor:
    """One stage on random tokens, the first of the clip's grid being those that are left."""
    tokens, keys = random_clips((len(clip_keys), stage.entering))
    origin = torch.arange(stage.entering).expand(len(clip_keys), -1)
    layout = Layout(grid=grid, origin=origin, clip_keys=torch.tensor(clip_keys))
    return reducer(tokens, Signals(keys=keys), layout, stage).keep


# The authors' release.


def golden_cases(path: Path) -> list[tuple[dict[str, Any], Tensor, Tensor, Tensor]]:
    with safe_open(path, "pt") as file:
        return [
            (case, *(file.get_tensor(f"{case['case']}.{x}") for x in ("tokens", "metric", "kept")))
            for case in json.loads(file.metadata()["cases"])
        ]


def options_of(case: dict[str, Any]) -> dict[str, Any]:
    return {"groups": case["frames"], "drop": case["r"], "backward": case["stage"] == 2}


def test_keeps_what_the_release_keeps_in_its_order(shared: Callable[[str], Path]) -> None:
    for case, tokens, keys, kept in golden_cases(shared(GOLDEN)):
        assert torch.equal(select(tokens, keys, **options_of(case)), kept), case


def test_each_clip_alone_keeps_what_the_release_keeps(shared: Callable[[str], Path]) -> None:
    for case, tokens, keys, kept in golden_cases(shared(GOLDEN)):
        for clip in range(len(tokens)):
            alone = select(tokens[clip, None], keys[clip, None], **options_of(case))
            assert torch.equal(alone[0], kept[clip]), case


def test_the_specification_by_loops_agrees_with_the_release(shared: Callable[[str], Path]) -> None:
    for case, tokens, keys, kept in golden_cases(shared(GOLDEN)):
        assert_same_selection(kept, tokens, keys, **options_of(case))


# The specification by loops.


def shape(**options: Any) -> dict[str, Any]:
    return {"score": "both", **options}


@st.composite
def selections(draw_: Callable[[Any], Any]) -> dict[str, Any]:
    size = draw_(st.sampled_from([1, 2, 3, 4, 5, 7, 11, 13]))
    return {
        "batch": draw_(st.integers(1, 3)),
        "size": size,
        "groups": draw_(st.integers(1, 5)),
        "drop": draw_(st.integers(0, size - 1)),
        "backward": draw_(st.booleans()),
        "score": draw_(st.sampled_from(SCORES)),
        "seed": draw_(st.integers(0, 10**6)),
    }


@given(case=selections())
@settings(max_examples=150, deadline=None)
@example(shape(batch=1, size=13, groups=1, drop=12, backward=False, seed=0))
@example(shape(batch=1, size=13, groups=4, drop=12, backward=True, seed=1))
@example(shape(batch=2, size=7, groups=3, drop=5, backward=False, seed=2))
@example(shape(batch=1, size=1, groups=3, drop=0, backward=True, seed=3))
def test_agrees_with_the_loops_on_any_shape(case: dict[str, Any]) -> None:
    tokens, keys = random_clips((case["batch"], case["size"] * case["groups"]), seed=case["seed"])
    options = {name: case[name] for name in ("groups", "drop", "backward", "score")}
    assert select(tokens, keys, **options).tolist() == by_loops(tokens, keys, **options)


@given(case=selections(), width=st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_agrees_with_the_loops_where_values_repeat(case: dict[str, Any], width: int) -> None:
    if case["drop"] == 0:
        return
    generator = torch.Generator().manual_seed(case["seed"])
    shape = (case["batch"], case["size"] * case["groups"], width)
    tokens, keys = (torch.randint(-1, 2, shape, generator=generator).double() for _ in "tk")
    options = {name: case[name] for name in ("groups", "drop", "backward", "score")}
    kept = select(tokens, keys, **options)
    assert_same_selection(kept, tokens, keys, **options, tolerance=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_inputs_are_judged_at_full_precision(dtype: torch.dtype) -> None:
    tokens, keys = (x.to(dtype) for x in random_clips((2, 4 * 49), channels=32, width=16, seed=5))
    kept = select(tokens, keys, groups=4, drop=20)
    assert_same_selection(kept, tokens, keys, groups=4, drop=20)


def test_autocast_does_not_coarsen_the_choice() -> None:
    tokens, keys = (x.float() for x in random_clips((2, 4 * 49), channels=32, width=16, seed=5))
    with torch.autocast("cpu", torch.bfloat16):
        kept = select(tokens, keys, groups=4, drop=20)
    assert torch.equal(kept, select(tokens, keys, groups=4, drop=20))


def test_the_comparator_sees_a_flip_of_distant_scores_and_forgives_one_of_near_scores() -> None:
    tokens, keys = random_clips((1, 3 * 9), seed=1)
    kept = select(tokens, keys, groups=3, drop=3)
    swapped = kept.clone()
    swapped[0, [6, 7]] = kept[0, [7, 6]]
    with pytest.raises(AssertionError, match="order kept is off"):
        assert_same_selection(swapped, tokens, keys, groups=3, drop=3)
    assert_same_selection(swapped, tokens, keys, groups=3, drop=3, tolerance=1.0)
    swapped = kept.clone()
    swapped[0, -1] = next(n for n in range(18, 27) if n not in kept[0])
    with pytest.raises(AssertionError, match="above one that went"):
        assert_same_selection(swapped, tokens, keys, groups=3, drop=3)


# Edges of the rule.


def test_dropping_nothing_keeps_every_token_in_place() -> None:
    tokens, keys = random_clips((2, 12))
    assert select(tokens, keys, groups=3, drop=0).tolist() == [list(range(12))] * 2


def test_more_dropped_than_there_are_sources_takes_the_last_destinations() -> None:
    tokens, keys = random_clips((1, 7))
    assert select(tokens, keys, groups=1, drop=5).tolist() == [[1, 3]]
    assert select(tokens, keys, groups=1, drop=6).tolist() == [[1]]


def test_equal_scores_keep_the_earlier_position_first() -> None:
    tokens = torch.ones(1, 3 * 40, 2)
    keys = torch.zeros(1, 3 * 40, 4)
    odd, even = list(range(1, 40, 2)), list(range(0, 40, 2))
    first = (odd + even)[:30]
    forward = select(tokens, keys, groups=3, drop=10)[0]
    assert forward.tolist() == first + list(range(40, 70)) + list(range(80, 110))
    backward = select(tokens, keys, groups=3, drop=10, backward=True)[0]
    assert backward.tolist() == [*range(30), *range(40, 70), *(80 + n for n in first)]


@pytest.mark.parametrize("score", SCORES)
def test_a_zero_key_row_stays_zero_and_gives_no_nan(score: str) -> None:
    tokens, keys = random_clips((2, 3 * 8), seed=3)
    keys[:, ::5] = 0
    assert not unit_rows(keys)[:, ::5].any()
    kept = select(tokens, keys, groups=3, drop=3, score=score)
    assert_same_selection(kept, tokens, keys, groups=3, drop=3, score=score, tolerance=1e-10)


def test_a_group_of_equal_activations_has_no_importance() -> None:
    alike = [[1.0, -1.0], [2.0, 0.0], [-2.0, 0.0]]
    tokens = torch.tensor([[alike, [[0.0, 1.0], [3.0, 0.0], [2.0, 0.0]]]])
    assert semantic_importance(tokens).tolist() == [[[0, 0, 0], [0, 1, 0.5]]]


def test_scaling_keys_and_tokens_changes_nothing() -> None:
    tokens, keys = random_clips((1, 4 * 9), seed=4)
    kept = select(tokens, keys, groups=4, drop=4)
    assert torch.equal(select(tokens * 8, keys * 0.25, groups=4, drop=4), kept)


def test_backward_is_forward_on_the_clip_played_backwards() -> None:
    tokens, keys = random_clips((1, 4 * 9), seed=6)
    reversed_pair = (x.unflatten(1, (4, 9)).flip(1).flatten(1, 2) for x in (tokens, keys))
    mirrored = select(*reversed_pair, groups=4, drop=4).view(4, 5).flip(0)
    shift = 9 * torch.tensor([[-3], [-1], [1], [3]])
    kept = select(tokens, keys, groups=4, drop=4, backward=True)
    assert torch.equal(kept.view(4, 5), mirrored + shift)


def test_neither_neighbours_nor_their_order_change_what_a_clip_keeps() -> None:
    tokens, keys = (x.float() for x in random_clips((4, 8 * 49), channels=24, width=16, seed=7))
    together = select(tokens, keys, groups=8, drop=20)
    order = [2, 0, 3, 1]
    assert torch.equal(select(tokens[order], keys[order], groups=8, drop=20), together[order])
    for clip in range(4):
        alone = select(tokens[clip, None], keys[clip, None], groups=8, drop=20)
        assert torch.equal(alone[0], together[clip])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"groups": 5, "drop": 1}, "groups=5 must divide the 12 tokens"),
        ({"groups": 0, "drop": 1}, "groups=0 must divide"),
        ({"groups": 3, "drop": 4}, "drop=4 must be at least 0 and less than the 4 tokens"),
        ({"groups": 3, "drop": -1}, "drop=-1 must be at least 0"),
    ],
)
def test_what_cannot_be_selected_is_refused(options: dict[str, int], sentence: str) -> None:
    tokens, keys = random_clips((1, 12))
    with pytest.raises(ValueError, match=sentence):
        select(tokens, keys, **options)


def test_keys_of_other_tokens_are_refused() -> None:
    tokens, keys = random_clips((1, 12))
    with pytest.raises(ValueError, match=r"keys of shape \(1, 11, 4\) do not match"):
        select(tokens, keys[:, :11], groups=1, drop=1)


# The dataclass: which group, which order, which likeness.

GRID = TokenGrid(frames=8, rows=6, columns=6)


def plan_of(reducer: STA, grid: TokenGrid = GRID) -> tuple[Stage, ...]:
    return reducer.plan(12, grid)


@pytest.mark.parametrize(
    ("order", "backward"),
    [(None, (False, True, False)), ("FBF", (False, True, False)), ("BFB", (True, False, True))],
)
def test_order_says_in_which_direction_each_stage_visits(
    order: str | None, backward: tuple[bool, ...]
) -> None:
    reducer = STA(r=8, order=order)
    for stage, back in zip(plan_of(reducer), backward, strict=True):
        tokens, keys = random_clips((1, stage.entering))
        expected = select(tokens, keys, groups=stage.groups, drop=stage.drop, backward=back)
        assert torch.equal(reduce_once(reducer, stage, GRID, [0]), expected)


def test_a_stage_that_drops_nothing_does_not_shift_the_order() -> None:
    (stage,) = plan_of(STA(schedule=(0, 8, 0)))
    assert stage.index == 1
    tokens, keys = random_clips((1, stage.entering))
    expected = select(tokens, keys, groups=4, drop=16, backward=True)
    assert torch.equal(reduce_once(STA(schedule=(0, 8, 0)), stage, GRID, [0]), expected)


@pytest.mark.parametrize(
    ("similarity", "need"),
    [("key", "keys"), ("query", "queries"), ("value", "values"), ("output", None)],
)
def test_similarity_says_what_likeness_is_taken_from(similarity: Any, need: str | None) -> None:
    reducer = STA(r=8, similarity=similarity)
    assert reducer.needs == (frozenset() if need is None else {need})
    stage = plan_of(reducer)[0]
    tokens, likeness = random_clips((1, stage.entering))
    signals = Signals(**({} if need is None else {need: likeness}))
    expected = select(tokens, tokens if need is None else likeness, groups=8, drop=8)
    kept = reducer(tokens, signals, whole_layout(GRID, [0]), stage).keep
    assert torch.equal(kept, expected)


@pytest.mark.parametrize("score", SCORES)
def test_score_says_which_factors_rank(score: Any) -> None:
    stage = plan_of(STA(r=8))[0]
    tokens, keys = random_clips((1, stage.entering))
    expected = select(tokens, keys, groups=8, drop=8, score=score)
    assert torch.equal(reduce_once(STA(r=8, score=score), stage, GRID, [0]), expected)


@pytest.mark.parametrize("drop", [1, 4, 9, 16, 25])
def test_grid_drops_one_token_from_every_square_cell(drop: int) -> None:
    draws = draw(torch.arange(50), torch.arange(36).expand(50, -1), seed=0, stage=0)
    kept = spared_by_cells(draws, (6, 6), drop)
    side = int(drop**0.5)
    for clip in kept.tolist():
        gone = set(range(36)) - set(clip)
        cells = {(n // 6 * side // 6, n % 6 * side // 6) for n in gone}
        assert len(gone) == len(cells) == drop
        assert clip == sorted(clip)


@pytest.mark.parametrize(("size", "drop"), [(36, 7), (36, 35), (13, 5), (36, 25)])
def test_grid_without_square_cells_drops_one_from_every_run(size: int, drop: int) -> None:
    draws = draw(torch.arange(20), torch.arange(size).expand(20, -1), seed=0, stage=0)
    for clip in spared_by_cells(draws, None, drop).tolist():
        gone = sorted(set(range(size)) - set(clip))
        assert [n * drop // size for n in gone] == list(range(drop))


def test_every_token_of_a_cell_may_go() -> None:
    draws = draw(torch.arange(400), torch.arange(36).expand(400, -1), seed=0, stage=0)
    gone = [set(range(36)) - set(clip) for clip in spared_by_cells(draws, (6, 6), 4).tolist()]
    counts = np.bincount([n for clip in gone for n in clip], minlength=36)
    assert counts.min() > 400 / 9 * 0.5
    assert counts.max() < 400 / 9 * 1.6


@pytest.mark.parametrize("rule", ["grid", "random"])
@pytest.mark.parametrize("order", ["FBF", "BFB"])
def test_a_drawn_first_group_depends_on_clip_key_and_seed_alone(rule: Any, order: str) -> None:
    reducer = STA(r=9, first_group=rule, order=order)
    assert "clip_keys" in reducer.needs
    stage = plan_of(reducer)[0]
    first = slice(7 * 27, None) if order == "BFB" else slice(0, 27)
    both = reduce_once(reducer, stage, GRID, [5, 6])
    assert torch.equal(both, reduce_once(reducer, stage, GRID, [5, 6]))
    assert torch.equal(both[0, first], reduce_once(reducer, stage, GRID, [5])[0, first])
    assert torch.equal(both[0, first], reduce_once(reducer, stage, GRID, [6, 5])[1, first])
    assert both[0, first].tolist() != both[1, first].tolist()
    other = reduce_once(STA(r=9, first_group=rule, order=order, seed=1), stage, GRID, [5])
    assert both[0, first].tolist() != other[0, first].tolist()


@pytest.mark.parametrize("rule", ["grid", "random"])
def test_groups_after_a_drawn_first_one_are_scored_as_ever(rule: Any) -> None:
    stage = plan_of(STA(r=9))[0]
    drawn = reduce_once(STA(r=9, first_group=rule), stage, GRID, [5])
    assert torch.equal(drawn[:, 27:], reduce_once(STA(r=9), stage, GRID, [5])[:, 27:])


def test_two_half_frames_are_not_taken_for_a_whole_one() -> None:
    reducer = STA(schedule=(18, 2, 0), first_group="grid", order="FFF")
    stage = plan_of(reducer)[1]
    assert (stage.group_size, stage.drop) == (36, 4)
    for clip in reduce_once(reducer, stage, GRID, list(range(20)))[:, :32].tolist():
        gone = sorted(set(range(36)) - set(clip))
        assert [n * 4 // 36 for n in gone] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"similarity": "keys"}, "similarity='keys' is not known; choose one of key, query"),
        ({"score": "all"}, "score='all' is not known; choose one of both, temporal, semantic"),
        ({"first_group": "none"}, "first_group='none' is not known; choose one of bipartite"),
        ({"order": "FB"}, "order='FB' must hold one F or B for each of the 3 stages, such as FBF"),
        ({"order": "fbf"}, "order='fbf' must hold one F or B"),
        ({"order": "FBF", "stages": 2}, "each of the 2 stages, such as FB$"),
        ({"order": 5}, "order=5 must hold one F or B"),
        ({"seed": "x"}, "seed='x' must be a whole number"),
    ],
)
def test_an_option_that_is_not_known_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        STA(r=8, **options)


@pytest.mark.parametrize("score", ["both", "temporal", "semantic"])
@pytest.mark.parametrize("backward", [False, True])
def test_scores_are_those_of_the_loops_and_the_least_stay(score: str, backward: bool) -> None:
    generator = torch.Generator().manual_seed(11)
    tokens, keys = (torch.randn(2, 24, 5, generator=generator, dtype=torch.float64) for _ in "tk")
    options = {"groups": 4, "drop": 2, "backward": backward, "score": score}
    found = scores(tokens, keys, **options)
    kept = select(tokens, keys, **options)
    first = 3 if backward else 0
    for clip in range(2):
        loops = sta_by_loops.visit(tokens[clip].numpy(), keys[clip].numpy(), **options)
        for group, wanted, _ in loops:
            ranks = found["score"][clip, 6 * group : 6 * group + 6]
            if group == first:
                assert ranks.isnan().all()
                continue
            # Up to a factor, where redundancy is told as a multiple of its mean.
            ratio = ranks / torch.tensor(wanted, dtype=torch.float64)
            known = ratio[torch.tensor(wanted) > 1e-9]
            torch.testing.assert_close(known, known[:1].expand_as(known))
            stay = kept[clip][kept[clip] // 6 == group] - 6 * group
            gone = sorted(set(range(6)) - set(stay.tolist()))
            assert ranks[gone].min() >= ranks[stay].max()
    importance = found["importance"].unflatten(1, (4, 6))
    assert importance.amin(-1).eq(0).all()
    assert importance.amax(-1).eq(1).all()
    redundancy = found["redundancy"].unflatten(1, (4, 6)).mean(-1)
    judged = redundancy[:, [group for group in range(4) if group != first]]
    if score == "semantic":
        assert judged.isnan().all()
    else:
        torch.testing.assert_close(judged, torch.ones_like(judged))
