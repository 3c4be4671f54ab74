"""vid-TLDR's merging against loops over single tokens, and the model around it."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tiny_videomae import clips, tiny_videomae
from vidprune.layout import Layout, TokenGrid
from vidprune.macs import costs
from vidprune.merging import reduced
from vidprune.pruned import prune
from vidprune.reducers.base import Reduction, Signals
from vidprune.reducers.schedule import Place, Stage
from vidprune.reducers.spec import describe, parse
from vidprune.reducers.vid_tldr import VidTLDR, saliency, sharpness

VIT = TokenGrid(frames=8, rows=14, columns=14)
Rows = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def dense() -> PreTrainedModel:
    return tiny_videomae()


# The method, one token at a time, in float64.


def saliency_by_loops(attention: Rows) -> list[float]:
    sharp = [sum(a * math.log(a) for a in map(float, row) if a > 0) for row in attention]
    low, high = min(sharp), max(sharp)
    if high == low:
        return [0.0] * len(sharp)
    scaled = [(s - low) / (high - low) for s in sharp]
    mean = sum(scaled) / len(scaled)
    most = max(s - mean for s in scaled)
    return [0.0 if s < mean else (s - mean) / most for s in scaled]


def merge_by_loops(
    tokens: Rows, attention: Rows, sizes: list[float], r: int
) -> tuple[list[int], list[list[int]], Rows, list[float]]:
    """Who stays; whom each of them stands for; what they become; how large they are."""
    count = len(tokens)
    salient = saliency_by_loops(attention)
    likeness = {}
    for source in range(0, count, 2):
        cosines = {
            destination: float(
                tokens[source]
                @ tokens[destination]
                / np.linalg.norm(tokens[source])
                / np.linalg.norm(tokens[destination])
            )
            for destination in range(1, count, 2)
        }
        best = max(cosines, key=lambda destination: cosines[destination])
        likeness[source] = (cosines[best], best)
    merged = sorted(likeness, key=lambda source: -likeness[source][0])[:r]
    keep = [n for n in range(0, count, 2) if n not in merged] + list(range(1, count, 2))
    owned = [[source for source in merged if likeness[source][1] == n] for n in keep]
    values, totals = [], []
    for n, sources in zip(keep, owned, strict=True):
        total, value = sizes[n], tokens[n] * sizes[n]
        for source in sources:
            total += sizes[source] * salient[source]
            value = value + tokens[source] * sizes[source] * salient[source]
        values.append(value / total)
        totals.append(total)
    return keep, owned, np.stack(values), totals


def stage_of(entering: int, drop: int) -> Stage:
    return Stage(
        index=0, block=0, groups=1, entering=entering, drop=drop, place=Place.AFTER_ATTENTION
    )


def drawn(count: int, seed: int, *, channels: int = 5) -> tuple[Rows, Rows, Rows]:
    """Tokens, attention with rows from flat to peaked, sizes of at least 1."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, count)) * random.uniform(0, 4, (count, 1))
    attention = np.exp(logits)
    attention /= attention.sum(-1, keepdims=True)
    return random.normal(size=(count, channels)), attention, random.uniform(1, 3, count)


def reduce(tokens: Rows, attention: Rows, r: int) -> Reduction:
    layout = Layout(grid=VIT, origin=torch.arange(len(tokens))[None])
    signals = Signals(attention=torch.tensor(attention)[None])
    return VidTLDR(r=r)(torch.tensor(tokens)[None], signals, layout, stage_of(len(tokens), r))


@pytest.mark.parametrize("count", [2, 3, 8, 25, 60])
@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
def test_it_merges_what_the_loops_merge(count: int, share: float) -> None:
    r = max(int(count // 2 * share), 1)
    for seed in range(5):
        tokens, attention, sizes = drawn(count, seed)
        keep, owned, values, totals = merge_by_loops(tokens, attention, sizes.tolist(), r)
        reduction = reduce(tokens, attention, r)
        assert reduction.keep[0].tolist() == keep
        owner = reduction.owner[0].tolist()
        for place, (survivor, sources) in enumerate(zip(keep, owned, strict=True)):
            assert [n for n in range(count) if owner[n] == place] == sorted([survivor, *sources])
        layout = Layout(grid=VIT, origin=torch.arange(count)[None], sizes=torch.tensor(sizes)[None])
        found, after = reduced(torch.tensor(tokens)[None], layout, reduction)
        # What joins is weighed in float32.
        np.testing.assert_allclose(found[0], values, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(after.sizes[0], totals, rtol=1e-6)


@pytest.mark.parametrize("count", [2, 7, 40])
def test_saliency_is_that_of_the_loops(count: int) -> None:
    for seed in range(5):
        _, attention, _ = drawn(count, seed)
        found = saliency(torch.tensor(attention)[None])[0].tolist()
        assert found == pytest.approx(saliency_by_loops(attention), rel=1e-9, abs=1e-12)
        assert max(found) == pytest.approx(1)
        assert min(found) == 0


def test_sharpness_runs_from_minus_log_n_to_nought() -> None:
    attention = torch.stack(
        [torch.full((8,), 1 / 8), torch.eye(8)[3], torch.tensor([0.5] * 2 + [0] * 6)]
    )
    wanted = [-math.log(8), 0.0, -math.log(2)]
    assert sharpness(attention[None])[0].tolist() == pytest.approx(wanted, abs=1e-6)


def test_weights_that_have_underflowed_are_no_nan() -> None:
    attention = torch.eye(6)[None].clone()
    attention[0, 0] = 1 / 6
    assert saliency(attention)[0].tolist() == pytest.approx([0, 1, 1, 1, 1, 1])


def test_attention_in_half_precision_is_weighed_in_full() -> None:
    attention = torch.tensor(drawn(40, 0)[1])[None].bfloat16()
    torch.testing.assert_close(
        saliency(attention), saliency(attention.double()).float(), rtol=1e-4, atol=1e-6
    )


def test_where_all_are_equally_sharp_none_is_salient() -> None:
    for attention in (torch.full((1, 4, 4), 0.25), torch.eye(4)[None]):
        assert saliency(attention)[0].tolist() == [0, 0, 0, 0]


def test_a_source_of_the_background_vanishes_without_diluting() -> None:
    """Token 0 is flat in its attention and joins token 1, which stays as it was, of size 1."""
    tokens = np.random.default_rng(0).normal(size=(6, 4))
    tokens[0] = 3 * tokens[1]
    attention = np.eye(6) * 0.9 + 0.1 / 6
    attention[0] = 1 / 6
    reduction = reduce(tokens, attention, 1)
    assert reduction.keep[0].tolist() == [2, 4, 1, 3, 5]
    assert reduction.owner[0].tolist() == [2, 2, 0, 3, 1, 4]
    layout = Layout(grid=VIT, origin=torch.arange(6)[None])
    found, after = reduced(torch.tensor(tokens)[None], layout, reduction)
    assert torch.equal(found[0], torch.tensor(tokens)[[2, 4, 1, 3, 5]])
    assert after.sizes[0].tolist() == [1, 1, 1, 1, 1]


def test_a_source_of_the_foreground_counts_in_full() -> None:
    tokens = np.random.default_rng(0).normal(size=(6, 4))
    tokens[0] = 3 * tokens[1]
    attention = np.full((6, 6), 1 / 6)
    attention[0] = np.eye(6)[0]
    layout = Layout(grid=VIT, origin=torch.arange(6)[None])
    found, after = reduced(torch.tensor(tokens)[None], layout, reduce(tokens, attention, 1))
    np.testing.assert_allclose(found[0, 2], 2 * tokens[1], rtol=1e-6)
    assert after.sizes[0].tolist() == [1, 1, 2, 1, 1]


# In a model.


def attention_by_hand(module: Any, tokens: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor]:
    """What the attention of one clip gives, and its weights, averaged over heads."""
    inner, mixed, maps = module.attention, [], []
    query, key, value = (part(tokens) for part in (inner.query, inner.key, inner.value))
    width = query.shape[-1] // inner.num_attention_heads
    for head in range(inner.num_attention_heads):
        q, k, v = (part[:, head * width : (head + 1) * width] for part in (query, key, value))
        weights = (q @ k.T / width**0.5).exp()
        if sizes is not None:
            weights = weights * sizes
        maps.append(weights / weights.sum(-1, keepdim=True))
        mixed.append(maps[-1] @ v)
    return module.output.dense(torch.cat(mixed, -1)), torch.stack(maps).mean(0)


def naive(
    model: PreTrainedModel, clip: Tensor, merges: dict[int, int], *, proportional: bool
) -> tuple[Tensor, list[list[int]]]:
    """One clip in float64 through transformers' layers, merging by loops."""
    tokens, kept = model.videomae.embeddings(clip[None], None)[0], []
    sizes = torch.ones(len(tokens), dtype=torch.float64)
    for index, layer in enumerate(model.videomae.encoder.layer):
        mixed, seen = attention_by_hand(
            layer.attention, layer.layernorm_before(tokens), sizes if proportional else None
        )
        tokens = tokens + mixed
        if index in merges:
            keep, _, values, totals = merge_by_loops(
                tokens.numpy(), seen.numpy(), sizes.tolist(), merges[index]
            )
            kept.append(keep)
            tokens, sizes = torch.tensor(values), torch.tensor(totals, dtype=torch.float64)
        tokens = layer.output(layer.intermediate(layer.layernorm_after(tokens)), tokens)
    pooled = (tokens * sizes[:, None]).sum(0) / sizes.sum()
    return model.classifier(model.fc_norm(pooled)), kept


@pytest.mark.parametrize("proportional", [True, False])
@torch.no_grad()
def test_a_pruned_forward_is_the_naive_one(proportional: bool) -> None:
    model = tiny_videomae(num_hidden_layers=4).double()
    pixels = clips(2).double()
    reducer = VidTLDR(r=(30, 20, 9), proportional_attention=proportional)
    output = prune(model, reducer)(pixels, return_trace=True)
    for clip in range(2):
        logits, kept = naive(model, pixels[clip], {0: 30, 1: 20, 2: 9}, proportional=proportional)
        assert [stage[clip].tolist() for stage in output.trace.kept] == kept
        # Weights and sizes are in float32.
        torch.testing.assert_close(output.logits[clip], logits, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_proportional_attention_is_not_without_effect(dense: PreTrainedModel) -> None:
    weighed, plain = (
        prune(dense, VidTLDR(r=20, proportional_attention=switch))(clips(1)).logits
        for switch in (True, False)
    )
    assert float((weighed - plain).abs().max()) > 1e-3


@torch.no_grad()
def test_neighbours_change_nothing(dense: PreTrainedModel) -> None:
    pruned, pixels, order = prune(dense, VidTLDR(r=20)), clips(3), [2, 0, 1]
    together = pruned(pixels, return_trace=True)
    shuffled = pruned(pixels[order], return_trace=True)
    for ours, theirs in zip(together.trace.kept, shuffled.trace.kept, strict=True):
        assert torch.equal(ours[order], theirs)
    torch.testing.assert_close(together.logits[order], shuffled.logits, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_half_precision_weighs_in_full(dense: PreTrainedModel) -> None:
    model = tiny_videomae().bfloat16()
    output = prune(model, VidTLDR(r=20))(clips(2).bfloat16(), return_trace=True)
    assert output.logits.dtype == torch.bfloat16
    assert output.logits.isfinite().all()
    assert output.trace.kept[-1].shape == (2, 68)


def test_it_costs_the_map_the_matching_and_the_folding(dense: PreTrainedModel) -> None:
    found = costs(dense, VidTLDR(r=20, blocks=(1,)))
    width = 24
    seen = 2 * 128 * width**2 + 128**2 * width
    matched, folded = 64 * 64 * width, 108 * 20 * width
    assert found.tokens == (108,)
    assert found.modules["selection"] == pytest.approx((seen + matched + folded) / 1e9)


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
@torch.no_grad()
def test_it_compiles_as_one_graph(backend: str) -> None:
    pruned = prune(tiny_videomae(num_hidden_layers=2), VidTLDR(r=(20, 9)))
    wanted = pruned(clips(2), return_trace=True)
    torch._dynamo.reset()
    found = torch.compile(pruned, fullgraph=True, backend=backend)(clips(2), return_trace=True)
    torch._dynamo.reset()
    assert torch.equal(found.trace.origin[-1], wanted.trace.origin[-1])
    torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_it_exports_with_any_batch() -> None:
    pruned = prune(tiny_videomae(num_hidden_layers=2), VidTLDR(r=(20, 9)))
    shapes = {"pixel_values": {0: torch.export.Dim("batch", min=1, max=64)}}
    exported = torch.export.export(pruned, (clips(2),), dynamic_shapes=shapes, strict=True).module()
    torch.testing.assert_close(exported(clips(3)).logits, pruned(clips(3)).logits)


# Where and how much.


@pytest.mark.parametrize(
    ("options", "blocks", "lengths"),
    [
        ({"r": 200}, (0, 1, 2), (1368, 1168, 968)),
        ({"r": (600, 200, 100)}, (0, 1, 2), (968, 768, 668)),
        ({"r": [250, 150, 150, 150]}, (0, 1, 2, 3), (1318, 1168, 1018, 868)),
        ({"r": 500, "blocks": (4,)}, (4,), (1068,)),
        ({"r": (0, 300)}, (1,), (1268,)),
        ({"r": 700}, (0, 1, 2), (868, 434, 217)),
        ({"r": 5000, "blocks": (0, 1, 2, 3)}, (0, 1, 2, 3), (784, 392, 196, 98)),
        ({"r": 0}, (), ()),
        ({"r": 0, "blocks": (90,)}, (), ()),
    ],
)
def test_where_it_acts_and_what_it_leaves(
    options: dict[str, Any], blocks: tuple[int, ...], lengths: tuple[int, ...]
) -> None:
    stages = VidTLDR(**options).plan(12, VIT)
    assert tuple(stage.block for stage in stages) == blocks
    assert tuple(stage.kept for stage in stages) == lengths
    assert all(stage.place is Place.AFTER_ATTENTION for stage in stages)


def test_one_token_cannot_be_merged() -> None:
    stages = VidTLDR(r=1, blocks=(0, 1, 2)).plan(12, TokenGrid(frames=1, rows=1, columns=2))
    assert [stage.kept for stage in stages] == [1]


@pytest.mark.parametrize(
    ("reducer", "text"),
    [
        (VidTLDR(r=200), "vid-tldr:r=200"),
        (VidTLDR(r=(600, 200, 100)), "vid-tldr:r=600/200/100"),
        (VidTLDR(r=(500,)), "vid-tldr:r=500/"),
        (
            VidTLDR(r=8, blocks=(1, 4), proportional_attention=False),
            "vid-tldr:r=8,blocks=1/4,proportional_attention=false",
        ),
    ],
)
def test_text_reads_as_the_call(reducer: VidTLDR, text: str) -> None:
    assert describe(reducer) == text
    assert parse(text) == reducer


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "r=None must be a whole number of at least 0"),
        ({"r": -1}, "r=-1 must be a whole number"),
        ({"r": True}, "r=True must be a whole number"),
        ({"r": 0.5}, "r=0.5 must be a whole number"),
        ({"r": (3, -1)}, r"r=\(3, -1\) must list whole numbers"),
        ({"r": ()}, r"r=\(\) must list whole numbers"),
        ({"r": 3, "blocks": (2, 1)}, r"blocks=\(2, 1\) must rise strictly"),
        ({"r": 3, "blocks": ()}, r"blocks=\(\) must list whole numbers"),
        ({"r": (3, 4), "blocks": (0, 1, 2)}, "must have one number per block each"),
        ({"r": 3, "proportional_attention": 1}, "proportional_attention=1 must be true or false"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        VidTLDR(**options)


@pytest.mark.parametrize("options", [{"r": 3}, {"r": (1, 2, 3)}, {"r": 1, "blocks": (0, 2)}])
def test_blocks_that_a_model_does_not_have_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"do not fit a model of 2 blocks \(0 to 1\)"):
        VidTLDR(**options).plan(2, VIT)
