"""What dropping methods share: who is nearest, who folds, and what that asks of the model."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reducers.tome_by_loops import cosine
from vidprune.layout import Layout, TokenGrid
from vidprune.reducers.base import Signals
from vidprune.reducers.baselines import Random
from vidprune.reducers.dropping import best_matches, lowest
from vidprune.reducers.schedule import Stage
from vidprune.reducers.sta import STA

GRID = TokenGrid(frames=4, rows=3, columns=3)


def matches_by_loops(keys: np.ndarray, keep: list[int]) -> list[int]:
    owner = []
    for position in range(len(keys)):
        if position in keep:
            owner.append(keep.index(position))
            continue
        likeness = [cosine(keys[position], keys[survivor]) for survivor in keep]
        owner.append(likeness.index(max(likeness)))
    return owner


def drawn_keys(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(
    seed=st.integers(0, 10**6),
    entering=st.integers(1, 15),
    kept=st.integers(1, 15),
    batch=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_each_token_belongs_to_the_survivor_most_like_it(
    seed: int, entering: int, kept: int, batch: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys = drawn_keys((batch, entering, 4), seed)
    some = [torch.randperm(entering, generator=generator)[: min(kept, entering)] for _ in keys]
    keep = torch.stack(some)
    wanted = [matches_by_loops(k, p) for k, p in zip(keys.numpy(), keep.tolist(), strict=True)]
    assert best_matches(keys, keep).tolist() == wanted


def test_of_equals_the_first_in_the_order_kept_counts() -> None:
    alike = torch.ones(1, 6, 2)
    # Survivors own themselves, however like the first they are.
    assert best_matches(alike, torch.tensor([[4, 1, 3]])).tolist() == [[0, 1, 0, 2, 0, 0]]
    assert best_matches(torch.zeros(1, 4, 2), torch.tensor([[2, 0]])).tolist() == [[1, 0, 0, 0]]


def test_direction_counts_and_length_does_not() -> None:
    keys = torch.tensor([[[1.0, 0.0], [90.0, 90.0], [0.1, 0.0], [-5.0, 0.0]]])
    assert best_matches(keys, torch.tensor([[1, 0]])).tolist() == [[1, 0, 1, 0]]


def test_likeness_is_float32_whatever_comes() -> None:
    keys = drawn_keys((2, 60, 8)).bfloat16()
    keep = torch.arange(0, 60, 3).expand(2, -1)
    wanted = best_matches(keys.double(), keep)
    assert torch.equal(best_matches(keys, keep), wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(best_matches(keys.float(), keep), wanted)


def test_each_group_keeps_its_lowest_in_their_order() -> None:
    stage = Stage(index=0, block=0, groups=2, entering=8, drop=2)
    values = torch.tensor([[3, 1, 2, 1, 0, 0, 0, 0], [9, 8, 7, 6, -1, 5, -2, 5]])
    assert lowest(values, stage).tolist() == [[1, 3, 4, 5], [2, 3, 4, 6]]


@pytest.mark.parametrize("kind", [STA, Random])
def test_folding_keeps_what_dropping_keeps(kind: Any) -> None:
    tokens, keys = drawn_keys((2, 36, 5), 1), drawn_keys((2, 36, 4), 2)
    layout = Layout(
        grid=GRID, origin=torch.arange(36).expand(2, -1), clip_keys=torch.tensor([1, 2])
    )
    stage = kind(r=3).plan(3, GRID)[0]
    dropped = kind(r=3)(tokens, Signals(keys=keys), layout, stage)
    folded = kind(r=3, fold=True)(tokens, Signals(keys=keys), layout, stage)
    assert dropped.owner is None
    assert torch.equal(folded.keep, dropped.keep)
    assert torch.equal(folded.owner, best_matches(keys, dropped.keep))
    assert folded.weight is folded.valid is None


@pytest.mark.parametrize(
    ("reducer", "needs"),
    [
        (Random(r=3), {"clip_keys"}),
        (Random(r=3, fold=True), {"clip_keys", "keys"}),
        (STA(r=3), {"keys"}),
        (STA(r=3, similarity="value"), {"values"}),
        (STA(r=3, similarity="value", fold=True), {"values", "keys"}),
        (
            Random(r=3, fold=True, proportional_attention=True),
            {"clip_keys", "keys", "proportional_attention"},
        ),
    ],
    # Sets are told in another order by every process that collects tests.
    ids=lambda given: "+".join(sorted(given)) if isinstance(given, set) else str(given),
)
def test_only_what_is_used_is_asked_for(reducer: Any, needs: set[str]) -> None:
    assert reducer.needs == needs


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fold": 1}, "fold=1 must be true or false"),
        ({"fold": True, "proportional_attention": "yes"}, "proportional_attention='yes' must be"),
        ({"proportional_attention": True}, "proportional_attention=True needs fold=True"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [STA, Random])
def test_switches_that_make_no_sense_are_refused(
    kind: Any, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        kind(r=3, **options)
