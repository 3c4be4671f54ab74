"""Folding, attending and pooling by size, against loops and against tokens literally repeated."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tiny_videomae import clips, tiny_videomae
from vidprune.backbones.registry import adapt
from vidprune.layout import Layout, TokenGrid
from vidprune.merging import key_bias, pooling_weights, reduced
from vidprune.pruned import prune
from vidprune.reducers.base import Reduction

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
EPSILON = {dtype: torch.finfo(dtype).eps for dtype in DTYPES}


def layout_of(batch: int, tokens: int, *, sizes: Tensor | None = None) -> Layout:
    grid = TokenGrid(frames=1, rows=1, columns=tokens)
    return Layout(grid=grid, origin=torch.arange(tokens).expand(batch, -1), sizes=sizes)


def drawn(batch: int, entering: int, kept: int, *, seed: int = 0) -> tuple[Tensor, Reduction]:
    """Tokens (B, N, 3) in float64, and a folding of them that means nothing."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, entering, 3, generator=generator, dtype=torch.float64)
    keep = torch.stack([torch.randperm(entering, generator=generator)[:kept] for _ in tokens])
    owner = torch.randint(0, kept, (batch, entering), generator=generator)
    owner = owner.scatter(1, keep, torch.arange(kept).expand(batch, -1))
    return tokens, Reduction(keep, owner)


def some_sizes(batch: int, tokens: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 6, (batch, tokens), generator=generator).float()


def folded_by_loops(
    tokens: Tensor, sizes: list[float], keep: list[int], owner: list[int], weight: list[float]
) -> tuple[Tensor, list[float]]:
    rows, totals = [], []
    for place, survivor in enumerate(keep):
        total, row = sizes[survivor], tokens[survivor] * sizes[survivor]
        for position, whose in enumerate(owner):
            if position not in keep and whose == place:
                share = sizes[position] * weight[position]
                total, row = total + share, row + tokens[position] * share
        rows.append(row / total)
        totals.append(total)
    return torch.stack(rows), totals


# Folding.


@given(
    seed=st.integers(0, 10**6),
    entering=st.integers(1, 14),
    kept=st.integers(1, 14),
    sized=st.booleans(),
    weighed=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_folding_is_the_loops(
    seed: int, entering: int, kept: int, sized: bool, weighed: bool
) -> None:
    tokens, reduction = drawn(2, entering, min(kept, entering), seed=seed)
    sizes = some_sizes(2, entering, seed=seed) if sized else None
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(2, entering, generator=generator) if weighed else None
    reduction = Reduction(reduction.keep, reduction.owner, weight)
    found, layout = reduced(tokens, layout_of(2, entering, sizes=sizes), reduction)
    assert torch.equal(layout.origin, reduction.keep)
    for clip in range(2):
        wanted, totals = folded_by_loops(
            tokens[clip],
            [1.0] * entering if sizes is None else sizes[clip].tolist(),
            reduction.keep[clip].tolist(),
            reduction.owner[clip].tolist(),
            [1.0] * entering if weight is None else weight[clip].tolist(),
        )
        torch.testing.assert_close(found[clip], wanted, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(layout.sizes[clip], torch.tensor(totals))


@given(seed=st.integers(0, 10**6), entering=st.integers(1, 40), share=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_folding_neither_makes_nor_loses_anything(seed: int, entering: int, share: float) -> None:
    tokens, reduction = drawn(2, entering, max(1, int(entering * share)), seed=seed)
    sizes = some_sizes(2, entering, seed=seed)
    found, layout = reduced(tokens, layout_of(2, entering, sizes=sizes), reduction)
    assert torch.equal(layout.sizes.sum(1), sizes.sum(1))
    before, after = (
        (number[..., None].double() * values).sum(1)
        for number, values in ((sizes, tokens), (layout.sizes, found))
    )
    torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_survivors_that_nobody_joins_are_untouched_bit_for_bit(dtype: torch.dtype) -> None:
    tokens, reduction = drawn(3, 30, 20)
    tokens, sizes = tokens.to(dtype), some_sizes(3, 30)
    found, layout = reduced(tokens, layout_of(3, 30, sizes=sizes), reduction)
    assert found.dtype == dtype
    assert layout.sizes.dtype == torch.float32
    alone = 0
    for clip in range(3):
        members = reduction.owner[clip].bincount(minlength=20)
        for place in (members == 1).nonzero().flatten().tolist():
            position = reduction.keep[clip, place]
            assert torch.equal(found[clip, place], tokens[clip, position])
            assert layout.sizes[clip, place] == sizes[clip, position]
            alone += 1
    assert alone > 10


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equal_tokens_neither_grow_nor_shrink(dtype: torch.dtype) -> None:
    # Shares that are rounded one by one do not sum to 1: over many channels it shows.
    token = torch.randn(4096, generator=torch.Generator().manual_seed(0)).to(dtype)
    for size in range(2, 12):
        tokens, owner = token.expand(1, size, -1), torch.zeros(1, size, dtype=torch.int64)
        reduction = Reduction(torch.zeros(1, 1, dtype=torch.int64), owner)
        found = reduced(tokens, layout_of(1, size), reduction)[0][0, 0]
        torch.testing.assert_close(found, token, rtol=max(EPSILON[dtype], 4e-7), atol=1e-7)
        growth = (found.double() @ token.double()) / (token.double() @ token.double()) - 1
        assert growth.abs() < max(EPSILON[dtype] / 16, 1e-7)


def test_dropping_leaves_tokens_and_their_sizes_as_they_are() -> None:
    tokens, reduction = drawn(2, 12, 7)
    sizes = some_sizes(2, 12)
    alone = Reduction(reduction.keep)
    found, layout = reduced(tokens, layout_of(2, 12, sizes=sizes), alone)
    for clip, keep in enumerate(reduction.keep.tolist()):
        assert found[clip].tolist() == [tokens[clip, place].tolist() for place in keep]
        assert layout.sizes[clip].tolist() == [sizes[clip, place].item() for place in keep]
    assert reduced(tokens, layout_of(2, 12), alone)[1].sizes is None


# Attention: a token of size n is there n times.


@torch.no_grad()
def test_a_log_size_bias_is_attention_over_repeated_tokens() -> None:
    backbone = adapt(tiny_videomae().double())
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(1, 9, 24, generator=generator, dtype=torch.float64)
    sizes = torch.tensor([[1.0, 3.0, 1.0, 2.0, 7.0, 1.0, 1.0, 4.0, 1.0]])
    bias = key_bias(layout_of(1, 9, sizes=sizes), proportional=True)
    found, _ = backbone.attend(2, tokens, layout_of(1, 9), bias)
    there = torch.arange(9).repeat_interleave(sizes[0].int())
    repeated, _ = backbone.attend(2, tokens[:, there], layout_of(1, len(there)))
    first = [there.tolist().index(position) for position in range(9)]
    torch.testing.assert_close(found, repeated[:, first], rtol=1e-6, atol=1e-6)
    plain, _ = backbone.attend(2, tokens, layout_of(1, 9))
    assert not torch.allclose(found, plain, atol=1e-2)


@torch.no_grad()
def test_padding_is_not_attended_to() -> None:
    backbone = adapt(tiny_videomae().double())
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 9, 24, generator=generator, dtype=torch.float64)
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[0, 6:] = False
    layout = Layout(grid=TokenGrid(frames=1, rows=1, columns=9), origin=valid.long(), valid=valid)
    found, _ = backbone.attend(2, tokens, layout, key_bias(layout, proportional=False))
    wanted, _ = backbone.attend(2, tokens[:1, :6], layout_of(1, 6))
    torch.testing.assert_close(found[:1, :6], wanted)
    torch.testing.assert_close(found[1:], backbone.attend(2, tokens[1:], layout_of(1, 9))[0])


def test_there_is_no_bias_where_nothing_asks_for_one() -> None:
    assert key_bias(layout_of(1, 9), proportional=True) is None
    assert key_bias(layout_of(1, 9, sizes=torch.ones(1, 9)), proportional=False) is None


# Pooling: a token of size n counts n times.


def test_pooling_counts_every_original_token_once() -> None:
    tokens, _ = drawn(2, 30, 11)
    mean = tokens.mean(1)
    layout = layout_of(2, 30)
    for kept in (11, 6, 2):
        _, again = drawn(2, tokens.shape[1], kept, seed=kept)
        tokens, layout = reduced(tokens, layout, again)
        weights = pooling_weights(layout)
        assert weights.dtype == torch.float32
        torch.testing.assert_close(weights.sum(1), torch.ones(2))
        pooled = (tokens * weights[..., None]).sum(1)
        torch.testing.assert_close(pooled, mean, rtol=1e-5, atol=1e-6)
    assert pooling_weights(layout_of(2, 30)) is None


@pytest.mark.parametrize(
    "reducer",
    [
        "tome:r=9",
        "tome:r=9,proportional_attention=true",
        "sta:r=4,fold=true",
        "random:r=4,fold=true",
        "grid:r=4,fold=true",
        "run-length:r=4,fold=true",
        "run-length:threshold=1.12,fold=true",
    ],
)
@torch.no_grad()
def test_where_blocks_do_nothing_folding_changes_nothing(reducer: str) -> None:
    # Sharp: each stage's means and the last pooling have to be the mean of all that there was.
    model = tiny_videomae()
    for layer in model.videomae.encoder.layer:
        for linear in (layer.attention.output.dense, layer.output.dense):
            linear.weight.zero_()
            linear.bias.zero_()
    pixels = clips(3)
    torch.testing.assert_close(
        prune(model, reducer)(pixels).logits, model(pixels).logits, rtol=1e-4, atol=1e-5
    )
    without = reducer.split(",")[0] + (",mode=drop" if "tome" in reducer else "")
    lossy = prune(model, without)(pixels).logits
    assert not torch.allclose(lossy, model(pixels).logits, atol=1e-3)
