"""Ward merging against pair by pair, and what it promises: equal tokens stand for each other."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import VideoMAEConfig

from reducers import ward_by_loops
from tiny_videomae import clips, tiny_videomae
from vidprune.layout import Layout, TokenGrid
from vidprune.macs import costs
from vidprune.pruned import prune
from vidprune.reducers.base import Reduction, Signals
from vidprune.reducers.schedule import Place
from vidprune.reducers.ward import CHANNELS, Ward, ahead_share, counts_of_rounds, sketch

VIT = TokenGrid(frames=8, rows=14, columns=14)
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}


def reduction(tokens: Tensor, drop: int, sizes: Tensor | None = None, **options: Any) -> Reduction:
    """What one stage does to tokens (B, N, C)."""
    batch, entering = tokens.shape[:2]
    grid = TokenGrid(frames=1, rows=1, columns=entering)
    reducer = Ward(schedule=(drop,), **options)
    (stage,) = reducer.plan(1, grid)
    layout = Layout(grid=grid, origin=torch.arange(entering).expand(batch, -1), sizes=sizes)
    return reducer(tokens, Signals(), layout, stage)


# One stage.


@given(
    seed=st.integers(0, 10**6),
    entering=st.integers(2, 21),
    share=st.floats(0.01, 0.99),
    batch=st.integers(1, 3),
    rounds=st.integers(1, 4),
    sized=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_a_stage_keeps_and_folds_what_the_loops_do(
    seed: int, entering: int, share: float, batch: int, rounds: int, sized: bool
) -> None:
    drop = min(max(1, int(share * entering)), entering - 1)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, entering, 3, generator=generator, dtype=torch.float64)
    sizes = torch.randint(1, 9, (batch, entering), generator=generator).float() if sized else None
    found = reduction(tokens, drop, sizes, rounds=rounds)
    counts = counts_of_rounds(entering, entering - drop, rounds)
    assert found.owner is not None
    for clip in range(batch):
        own = torch.ones(entering) if sizes is None else sizes[clip]
        rows = tokens[clip].numpy()
        kept = ward_by_loops.survivors(rows, own.double().numpy(), counts)
        assert found.keep[clip].tolist() == kept
        assert found.owner[clip].tolist() == ward_by_loops.owners(rows, kept)


def test_a_stage_by_hand() -> None:
    # Sources 0, 2, 4 at 0, 5, 9.5; destinations 1, 3 at 1, 8. Of size 1 each they cost half the
    # square: 0 with 1: 0.5, 2 with 3: 4.5, 4 with 3: 1.125.
    tokens = torch.tensor([[[0.0], [1.0], [5.0], [8.0], [9.5]]])
    for drop, kept, owner in [
        (1, [1, 2, 3, 4], [0, 0, 1, 2, 3]),
        (2, [1, 2, 3], [0, 0, 1, 2, 2]),
        # A second round, since three of five are more than half: 1 of size 2 at 0.5 with 2 costs
        # 13.5, 3 of size 2 at 8.75 with 2 costs 9.375.
        (3, [1, 2], [0, 0, 1, 1, 1]),
    ]:
        found = reduction(tokens, drop, rounds=1)
        assert found.keep.tolist() == [kept]
        assert found.owner is not None
        assert found.owner.tolist() == [owner]
    # What stands for many is dear to join: 0 with 1 of sizes 9 and 9 costs 4.5, twice 4 with 3.
    sizes = torch.tensor([[9.0, 9.0, 1.0, 1.0, 1.0]])
    assert reduction(tokens, 1, sizes, rounds=1).keep.tolist() == [[0, 1, 2, 3]]


@given(entering=st.integers(1, 2000), share=st.floats(0, 1), rounds=st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_rounds_fall_to_what_is_kept_and_some_sources_may_stay(
    entering: int, share: float, rounds: int
) -> None:
    kept = max(1, int(share * entering))
    counts = (entering, *counts_of_rounds(entering, kept, rounds))
    assert counts[-1] == kept
    assert all(b < a and (5 * b >= 3 * a or a == 2) for a, b in pairwise(counts))
    if kept >= entering * 0.61**rounds and entering > 50:
        assert len(counts) - 1 <= rounds


@pytest.mark.parametrize("kept", [256, 64, 9, 2])
def test_of_two_kinds_of_tokens_both_survive(kept: int) -> None:
    """However few stay, wherever they lie, and they are what they were: on a grid as wide as this
    every second column would be sources alone."""
    kinds = torch.randn(2, 5, generator=torch.Generator().manual_seed(kept))
    for which in (torch.arange(512) % 8 < 4, torch.arange(512) < 100, torch.arange(512) % 4 == 0):
        tokens = kinds[which.long()][None]
        found = reduction(tokens, 512 - kept)
        assert {bool(which[place]) for place in found.keep[0]} == {True, False}
        assert found.owner is not None
        assert torch.equal(tokens[0][found.keep[0]][found.owner[0]], tokens[0])


def test_survivors_are_chosen_by_what_they_are() -> None:
    keeps = []
    for seed in range(2):
        tokens = torch.randn(1, 512, 5, generator=torch.Generator().manual_seed(seed))
        keeps.append(reduction(tokens, 480).keep[0])
        assert len({int(place) % 8 for place in keeps[-1]}) > 4, "columns of a grid"
    assert not torch.equal(*keeps)


def test_of_equals_the_earlier_position_goes_first() -> None:
    found = reduction(torch.ones(1, 8, 2), 2, rounds=1)
    assert found.keep.tolist() == [[1, 3, 4, 5, 6, 7]]
    assert found.owner is not None
    assert found.owner.tolist() == [[0, 0, 0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_judged_in_float32(dtype: torch.dtype) -> None:
    tokens = torch.randn(3, 200, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    wanted = reduction(tokens.float(), 120)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = reduction(tokens.float(), 120)
    for each in (reduction(tokens, 120), cast):
        assert torch.equal(each.keep, wanted.keep)
        assert torch.equal(each.owner, wanted.owner)


def test_what_all_tokens_have_in_common_counts_for_nothing() -> None:
    """As in large models, whose tokens share a few channels of a thousand times the others."""
    generator = torch.Generator().manual_seed(4)
    tokens = torch.randn(2, 60, 8, generator=generator).round(decimals=2)
    common = torch.tensor([4096.0, *[0.0] * 7])
    one, other = reduction(tokens, 30), reduction(tokens + common, 30)
    assert torch.equal(one.keep, other.keep)
    assert torch.equal(one.owner, other.owner)


def test_many_channels_are_compared_by_a_few() -> None:
    """Squared distances are off by sqrt(2 / d) in the mean, d being 32, wherever the tokens lie."""
    generator = torch.Generator().manual_seed(5)
    for width in (33, 128, 768):
        rows = torch.randn(1, 200, width, generator=generator, dtype=torch.float64) + 9
        seen = sketch(rows)
        assert seen.shape == (1, 200, CHANNELS)
        ratio = torch.pdist(seen[0]).square() / torch.pdist(rows[0]).square()
        assert ratio.mean() == pytest.approx(1, abs=0.05)
        assert ratio.std() == pytest.approx((2 / CHANNELS) ** 0.5, rel=0.2)
    few = torch.randn(1, 9, CHANNELS, generator=generator)
    assert torch.equal(sketch(few), few - few.mean(1, keepdim=True))


@pytest.mark.parametrize("r", [32, 112, 160])
def test_choosing_costs_little(r: int) -> None:
    """Of a ViT-B and a ViT-L at the paper's size, down to a quarter; folding included."""
    for config in (VideoMAEConfig(), VideoMAEConfig(**LARGE)):
        found = costs(config, Ward(r=r))
        assert found.selection <= 0.02 * found.gmacs_per_view


# A whole forward.


@torch.no_grad()
def test_where_tokens_are_equal_nothing_is_lost() -> None:
    """The derivation's promise: a clip that stands still, in a model that sees no places."""
    model = tiny_videomae(image_size=48, num_frames=8).double()
    table = model.videomae.embeddings.position_embeddings
    model.videomae.embeddings.position_embeddings = torch.zeros_like(table)
    still = clips(2, frames=2, size=48).double().repeat(1, 4, 1, 1, 1)
    # Of nine tokens four each; an odd number, so that a place is now a source, now a destination.
    pruned = prune(model, "ward:schedule=4/1")
    output, dense = pruned(still, return_trace=True), model(still).logits
    assert [kept.shape[1] for kept in output.trace.kept] == [20, 16]
    torch.testing.assert_close(output.logits, dense, rtol=1e-6, atol=1e-6)
    blind = prune(model, "ward:schedule=4/1,proportional_attention=false")(still).logits
    assert (blind - dense).abs().max() > 1e-3


def test_stages_keep_equal_shares() -> None:
    kept = [stage.kept for stage in Ward(r=98).plan(12, VIT)]
    assert kept == [1245, 988, 784]
    before = Ward(r=98, where="before").plan(12, VIT)
    assert [stage.place for stage in before] == [Place.BEFORE_BLOCK] * 3
    assert [stage.kept for stage in Ward(schedule=(10, 0, 30)).plan(12, VIT)] == [1488, 1248]
    assert [stage.block for stage in Ward(r=98).plan(2, VIT)] == [0, 1]
    assert Ward(r=0).plan(12, VIT) == ()


def seen_by_blocks(reducer: Ward, depth: int, grid: TokenGrid) -> list[int]:
    """How many tokens each block attends to."""
    due = {(stage.block, stage.place): stage.kept for stage in reducer.plan(depth, grid)}
    seen, tokens = [], grid.tokens
    for block in range(depth):
        tokens = due.get((block, Place.BEFORE_BLOCK), tokens)
        seen.append(tokens)
        tokens = due.get((block, Place.AFTER_BLOCK), tokens)
    return seen


@given(depth=st.integers(4, 40), r=st.integers(1, 195))
def test_the_first_block_sees_at_most_a_third_of_all_tokens(depth: int, r: int) -> None:
    """And no fewer than that, wherever some merge before it."""
    seen = seen_by_blocks(Ward(r=r), depth, VIT)
    after = seen_by_blocks(Ward(r=r, where="after"), depth, VIT)
    # Of four numbers each is rounded.
    assert seen[0] <= sum(seen) / 3 + 3
    if after[0] < sum(after) / 3:
        assert seen == after
    else:
        assert seen[0] >= sum(seen) / 3 - 3
    assert seen[-1] == after[-1] == VIT.frames * (196 - r)
    shares = [later / earlier for earlier, later in pairwise(seen[:4])]
    assert max(shares) - min(shares) < 0.2 + 3 / seen[3]


def test_only_where_it_helps_some_merge_before_the_first_block() -> None:
    for reducer, depth in (
        (Ward(r=150), 12),
        (Ward(r=190), 3),
        (Ward(schedule=(100, 50, 40)), 12),
        (Ward(r=190, blocks=(1, 2, 3)), 12),
        (Ward(r=190, blocks=(3, 4, 5)), 12),
        (Ward(r=190, where="after"), 12),
    ):
        assert all(stage.place is Place.AFTER_BLOCK for stage in reducer.plan(depth, VIT))
    # As docs/reducers.md says.
    for depth, share in ((12, 0.136), (6, 0.296)):
        assert ahead_share(share + 5e-4, (0, 1, 2), depth) == 1
        assert ahead_share(share - 1e-3, (0, 1, 2), depth) < 1
    before = Ward(r=190, where="before").plan(12, VIT)
    assert [(stage.block, stage.place) for stage in before] == [
        (block, Place.BEFORE_BLOCK) for block in (0, 1, 2)
    ]
    stages = Ward(r=190).plan(12, VIT)
    assert [(stage.index, stage.block) for stage in stages] == [(0, 0), (1, 0), (2, 1), (3, 2)]
    assert [stage.place is Place.BEFORE_BLOCK for stage in stages] == [True, False, False, False]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "r is missing, which must be a whole number of at least 0"),
        ({"r": -1}, "r=-1 must be a whole number"),
        ({"r": 3, "schedule": (1, 2)}, "both say how many tokens go"),
        ({"schedule": (1, 2), "blocks": (0,)}, "must have one number per block each"),
        ({"r": 3, "blocks": (2, 1)}, "must rise strictly"),
        ({"r": 3, "where": "between"}, "choose one of auto, after, before"),
        ({"r": 3, "backend": "cuda"}, "choose one of auto, torch, triton"),
        ({"r": 3, "rounds": 0}, "rounds=0 must be a whole number from 1 to 16"),
        ({"r": 3, "rounds": 10**11}, "rounds=100000000000 must be a whole number from 1 to 16"),
        ({"r": 3, "proportional_attention": 1}, "must be true or false"),
    ],
)
def test_bad_settings_get_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Ward(**options)


@pytest.mark.parametrize(
    ("reducer", "sentence"),
    [
        (Ward(r=196), "r=196 takes 196 tokens from each temporal position, which has 196"),
        (Ward(schedule=(100, 96)), "takes 196 tokens"),
        (Ward(r=3, blocks=(0, 12)), "do not fit a model of 12 blocks"),
    ],
)
def test_what_does_not_fit_gets_a_sentence(reducer: Ward, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        reducer.plan(12, VIT)
