"""What every reducer keeps to, on every backbone: one table of each, and one row for a new one."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from tiny_job import one_thread
from tiny_videomae import tiny_videomae
from vidprune.backbones.registry import BACKBONES, adapt
from vidprune.inference import Classifier
from vidprune.layout import TokenGrid
from vidprune.macs import costs
from vidprune.model import Trace
from vidprune.pruned import PrunedOutput, prune
from vidprune.reducers.base import Reducer
from vidprune.reducers.schedule import Stage
from vidprune.reducers.spec import REDUCERS, describe, parse
from vidprune.video import Protocol


@dataclass(frozen=True)
class Row:
    """A reducer as the tests call it.

    `specs`: its options, as text, each at work somewhere; all fit `GRID` and `AWKWARD`, or stand in
    `REFUSED`. `amount`: text in which a number of tokens is put for `#`; 0 must be the dense
    model. `capped`: too large an amount is cut down as documented, and not refused.
    """

    specs: tuple[str, ...]
    amount: str
    capped: bool = False


ROWS = {
    "sta": Row(
        specs=(
            "sta:r=3",
            "sta:r=3,fold=true",
            "sta:r=3,fold=true,proportional_attention=true",
            "sta:r=4,first_group=grid,seed=2",
            "sta:schedule=2/5,order=BF,similarity=output,score=temporal",
            "sta:r=1,schedule=increasing,similarity=value,score=semantic,first_group=random",
            "sta:r=3,blocks=1/3",
        ),
        amount="sta:r=#",
    ),
    "random": Row(
        specs=(
            "random:r=3",
            "random:r=2,schedule=constant,blocks=0/1/3,seed=7",
            "random:r=3,fold=true,proportional_attention=true",
        ),
        amount="random:r=#",
    ),
    "grid": Row(
        specs=(
            "grid:r=3",
            "grid:schedule=3/2,places=random,blocks=1/3,seed=5",
            "grid:r=4,fold=true,proportional_attention=true",
        ),
        amount="grid:r=#",
    ),
    "tome": Row(
        specs=(
            "tome:r=5",
            "tome:r=5,proportional_attention=true",
            "tome:r=5,schedule=decreasing",
            "tome:schedule=0/9/0/3",
            "tome:r=5,mode=drop",
        ),
        amount="tome:r=#",
        capped=True,
    ),
    "run-length": Row(
        specs=(
            "run-length:r=3",
            "run-length:r=3,fold=true,proportional_attention=true",
            "run-length:threshold=1.12",
            "run-length:threshold=1.12,fold=true,proportional_attention=true",
        ),
        amount="run-length:r=#",
    ),
    "vid-tldr": Row(
        specs=(
            "vid-tldr:r=5",
            "vid-tldr:r=7/0/5,blocks=0/1/3",
            "vid-tldr:r=5,proportional_attention=false",
        ),
        amount="vid-tldr:r=#",
        capped=True,
    ),
}


def of_videomae(grid: TokenGrid) -> PreTrainedModel:
    return tiny_videomae(
        image_size=(4 * grid.rows, 4 * grid.columns),
        patch_size=4,
        num_frames=2 * grid.frames,
        num_hidden_layers=4,
    )


# Each a small model of 4 blocks on that grid, all of whose weights are drawn.
MODELS = {"VideoMAEForVideoClassification": of_videomae}

GRID = TokenGrid(frames=4, rows=4, columns=4)
ONE_FRAME = TokenGrid(frames=1, rows=4, columns=5)
AWKWARD = (TokenGrid(frames=7, rows=5, columns=3), TokenGrid(frames=3, rows=1, columns=11))
# (The first temporal position stays whole, and there is no other.)
REFUSED = {
    (spec, ONE_FRAME) for spec in ROWS["run-length"].specs if spec.startswith("run-length:r=")
}

SPECS = [spec for row in ROWS.values() for spec in row.specs]
each_backbone = pytest.mark.parametrize("backbone", BACKBONES)
each_spec = pytest.mark.parametrize("spec", SPECS)
each_name = pytest.mark.parametrize("name", REDUCERS)


@pytest.fixture(scope="module", autouse=True)
def small_models_do_not_gain_from_threads() -> Iterator[None]:
    with one_thread(), torch.no_grad():
        yield


@cache
def dense(backbone: str, grid: TokenGrid = GRID, dtype: torch.dtype = torch.float32) -> Any:
    return MODELS[backbone](grid).to(dtype)


def pixels_for(model: PreTrainedModel, batch: int = 4, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, *adapt(model).clip_shape)
    return torch.randn(shape, generator=generator).to(model.dtype)


def traced(model: PreTrainedModel, pixels: Tensor, **options: Any) -> PrunedOutput:
    return model(pixels, return_trace=True, **options)


def is_ragged(stages: tuple[Stage, ...]) -> bool:
    """Whether how many stay depends on the clip."""
    return any(stage.drop == 0 for stage in stages)


def kept_by(trace: Trace) -> list[list[list[int]]]:
    """Per stage and clip, what stays; padding left out."""
    return [
        [[place for place in clip if place >= 0] for clip in kept.tolist()] for kept in trace.kept
    ]


# The tables are whole.


def test_every_reducer_has_a_row_and_every_backbone_a_model() -> None:
    assert ROWS.keys() == REDUCERS.keys(), "give each reducer a row in ROWS, and remove the others"
    assert MODELS.keys() == BACKBONES.keys(), "give each backbone a small model in MODELS"
    for name, row in ROWS.items():
        for text in (*row.specs, row.amount.replace("#", "1")):
            assert isinstance(parse(text), REDUCERS[name]), text


@each_name
def test_the_specs_of_a_row_show_every_option(name: str) -> None:
    described = [describe(parse(spec)).partition(":")[2] for spec in ROWS[name].specs]
    said = {part.partition("=")[0] for text in described for part in text.split(",")}
    # How many stages there are, an explicit schedule or a list of blocks says as well.
    assert {field.name for field in fields(REDUCERS[name])} - {"stages"} <= said


@each_spec
def test_text_and_reducer_are_two_forms_of_one(spec: str) -> None:
    reducer = parse(spec)
    assert isinstance(reducer, Reducer)
    assert parse(describe(reducer)) == reducer
    assert hash(parse(spec)) == hash(reducer)


# What stays.


def assert_trace_is_sound(trace: Trace, stages: tuple[Stage, ...], grid: TokenGrid) -> None:
    before = torch.arange(grid.tokens).expand(trace.kept[0].shape[0] if trace.kept else 1, -1)
    assert len(trace.kept) == len(trace.origin) == len(stages)
    for stage, kept, origin in zip(stages, trace.kept, trace.origin, strict=True):
        assert kept.dtype == origin.dtype == torch.int64
        present = kept >= 0
        if is_ragged(stages):
            assert kept.shape[1] <= stage.kept
            assert bool(present.any(0).all()), "more padding than the fullest clip needs"
        else:
            assert kept.shape[1] == stage.kept
            assert bool(present.all())
        for clip, (places, from_where) in enumerate(
            zip(kept.tolist(), origin.tolist(), strict=True)
        ):
            real = [place for place in places if place >= 0]
            assert len(set(real)) == len(real) > 0
            assert max(real) < before.shape[1]
            assert [before[clip, place].item() for place in real] == from_where[: len(real)]
            assert set(places[len(real) :]) <= {-1}
            assert set(from_where[len(real) :]) <= {-1}
        before = origin


def assert_owners_are_sound(trace: Trace, grid: TokenGrid) -> None:
    """Every original token is stood for by one survivor, and each survivor by itself."""
    batch = trace.kept[0].shape[0]
    whose = torch.arange(grid.tokens).expand(batch, -1)
    for owner, kept, origin in zip(trace.owner, trace.kept, trace.origin, strict=True):
        whose = owner.gather(1, whose)
        assert bool((kept.gather(1, whose) >= 0).all()), "padding stands for a token"
        for clip, places in enumerate(origin.tolist()):
            for place, start in enumerate(places):
                assert start < 0 or whose[clip, start] == place
    sizes = torch.zeros(batch, trace.kept[-1].shape[1]).scatter_add(
        1, whose, torch.ones(batch, grid.tokens)
    )
    assert bool((sizes.sum(1) == grid.tokens).all())


@each_backbone
@each_spec
def test_what_stays_is_what_was_planned(backbone: str, spec: str) -> None:
    pruned = prune(dense(backbone), spec)
    output = traced(pruned, pixels_for(pruned))
    assert bool(output.logits.isfinite().all())
    assert pruned.stages, "a spec at work drops something"
    assert sum(map(len, kept_by(output.trace)[-1])) < 4 * GRID.tokens
    assert_trace_is_sound(output.trace, pruned.stages, GRID)
    if output.trace.owner:
        assert len(output.trace.owner) == len(pruned.stages)
        assert_owners_are_sound(output.trace, GRID)


@each_backbone
@each_spec
def test_shapes_that_hurt(backbone: str, spec: str) -> None:
    for grid in (*AWKWARD, ONE_FRAME):
        model = dense(backbone, grid)
        if (spec, grid) in REFUSED:
            with pytest.raises(ValueError, match="choose"):
                prune(model, spec)
            continue
        pruned = prune(model, spec)
        for batch in (1, 3):
            output = traced(pruned, pixels_for(model, batch))
            assert bool(output.logits.isfinite().all())
            assert_trace_is_sound(output.trace, pruned.stages, grid)
            if output.trace.owner:
                assert_owners_are_sound(output.trace, grid)


@each_backbone
@each_spec
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_other_precisions(backbone: str, spec: str, dtype: torch.dtype) -> None:
    pruned = prune(dense(backbone, dtype=dtype), spec)
    pixels = pixels_for(dense(backbone), 2)
    output = traced(pruned, pixels.to(dtype))
    assert output.logits.dtype == dtype
    assert bool(output.logits.isfinite().all())
    assert_trace_is_sound(output.trace, pruned.stages, GRID)
    if dtype == torch.float64:
        single = traced(prune(dense(backbone), spec), pixels)
        assert kept_by(single.trace) == kept_by(output.trace)
        torch.testing.assert_close(output.logits.float(), single.logits, rtol=1e-4, atol=1e-4)


# One clip's tokens are its own affair.


@each_backbone
@each_spec
def test_neighbours_and_their_order_change_nothing(backbone: str, spec: str) -> None:
    pruned, order = prune(dense(backbone), spec), [2, 0, 3, 1]
    pixels = pixels_for(pruned, seed=3)
    together, shuffled = traced(pruned, pixels), traced(pruned, pixels[order])
    for ours, theirs in zip(kept_by(together.trace), kept_by(shuffled.trace), strict=True):
        assert [ours[clip] for clip in order] == theirs
    torch.testing.assert_close(together.logits[order], shuffled.logits, rtol=1e-4, atol=1e-5)
    for clip in range(4):
        alone = traced(pruned, pixels[clip, None])
        for ours, theirs in zip(kept_by(together.trace), kept_by(alone.trace), strict=True):
            assert ours[clip] == theirs[0]
        torch.testing.assert_close(together.logits[clip], alone.logits[0], rtol=1e-4, atol=1e-5)


@each_backbone
@each_spec
def test_in_batches_of_one_shape_logits_are_bit_equal(backbone: str, spec: str) -> None:
    model = dense(backbone)
    frames, _, size, _ = adapt(model).clip_shape
    protocol = Protocol(sampling="segment", segments=1, crops=1, frames=frames, size=size)
    classify = Classifier(prune(model, spec), protocol, batch_size=4, device=torch.device("cpu"))
    clips = (pixels_for(model) * 40 + 128).clamp(0, 255).to(torch.uint8)
    keys, order = torch.arange(4), [3, 1, 0]
    together = classify(clips, keys)
    alone = torch.cat([classify(clips[i : i + 1], keys[i : i + 1]) for i in range(4)])
    if is_ragged(prune(model, spec).stages):
        # Padding follows the fullest clip of a batch, and another shape rounds otherwise.
        torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    else:
        assert torch.equal(alone, together)
        assert torch.equal(classify(clips[order], keys[order]), together[order])


@each_backbone
@each_spec
def test_what_is_drawn_follows_seed_and_clip_and_nothing_else(backbone: str, spec: str) -> None:
    model, reducer = dense(backbone), parse(spec)
    pixels, keys = pixels_for(model, 2), torch.tensor([5, 5 + 2**33])
    same = kept_by(traced(prune(model, reducer), pixels, clip_keys=keys).trace)
    torch.manual_seed(99)
    assert kept_by(traced(prune(model, reducer), pixels, clip_keys=keys).trace) == same
    other = kept_by(traced(prune(model, reducer), pixels, clip_keys=keys + 1).trace)
    if "clip_keys" not in reducer.needs:
        assert other == same
        return
    assert other != same
    reseeded = replace(reducer, seed=reducer.seed + 1)
    assert kept_by(traced(prune(model, reseeded), pixels, clip_keys=keys).trace) != same
    twice = pixels[:1].expand(2, *pixels.shape[1:])
    both = kept_by(traced(prune(model, reducer), twice, clip_keys=keys).trace)
    assert all(one != another for one, another in both)


# How much.


def with_amount(name: str, amount: int) -> Reducer:
    reducer = parse(ROWS[name].amount.replace("#", str(amount)))
    assert reducer is not None
    return reducer


@each_backbone
@each_name
@pytest.mark.parametrize("grid", [GRID, ONE_FRAME, *AWKWARD], ids=str)
def test_nothing_dropped_is_the_dense_model_bit_for_bit(
    backbone: str, name: str, grid: TokenGrid
) -> None:
    model = dense(backbone, grid)
    pruned = prune(model, with_amount(name, 0))
    for batch in (1, 3):
        pixels = pixels_for(model, batch)
        assert torch.equal(pruned(pixels).logits, model(pixels).logits)
    assert pruned.stages == ()
    assert costs(pruned).gmacs_per_view == costs(model).gmacs_per_view


def largest(name: str, backbone: str, grid: TokenGrid) -> int:
    """The most tokens that may be asked for."""
    shape = adapt(dense(backbone, grid))
    for amount in range(1, grid.tokens + 2):
        try:
            with_amount(name, amount).plan(shape.depth, grid)
        except ValueError:
            return amount - 1
    return grid.tokens


@each_backbone
@each_name
@pytest.mark.parametrize("grid", [GRID, ONE_FRAME, *AWKWARD], ids=str)
def test_the_most_that_may_go_and_one_more(backbone: str, name: str, grid: TokenGrid) -> None:
    model, most = dense(backbone, grid), largest(name, backbone, grid)
    pruned = prune(model, with_amount(name, most))
    output = traced(pruned, pixels_for(model, 2))
    assert bool(output.logits.isfinite().all())
    assert_trace_is_sound(output.trace, pruned.stages, grid)
    if ROWS[name].capped:
        assert most == grid.tokens
        assert min(stage.kept for stage in pruned.stages) < grid.tokens
        half = with_amount(name, grid.tokens // 2).plan(4, grid)
        assert [stage.kept for stage in half] == [stage.kept for stage in pruned.stages]
    else:
        assert most < grid.tokens
        with pytest.raises(ValueError, match="choose"):
            prune(model, with_amount(name, most + 1))


@each_backbone
@each_spec
def test_costs_by_formula_are_those_of_a_real_forward(backbone: str, spec: str) -> None:
    for grid in (GRID, AWKWARD[0]):
        model = dense(backbone, grid)
        pruned, pixels = prune(model, spec), pixels_for(model, 1)
        # The fused kernels have no count; taken apart, attention is products that have.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            output = traced(pruned, pixels)
        found, counted = costs(pruned), counter.get_total_flops() / 2 / 1e9
        if is_ragged(pruned.stages):
            assert counted < found.gmacs_per_view
            continue
        assert found.gmacs_per_view == pytest.approx(counted, rel=1e-6)
        assert found.tokens == tuple(kept.shape[1] for kept in output.trace.kept)
        assert costs(model.config, spec) == found


# Compilation and export, where shapes are static.

STATIC = [spec for spec in SPECS if "threshold" not in spec]
FIRST = [ROWS[name].specs[0] for name in REDUCERS]


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def assert_same_output(ours: PrunedOutput, theirs: PrunedOutput) -> None:
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-4, atol=1e-5)
    assert kept_by(ours.trace) == kept_by(theirs.trace)


@pytest.mark.slow
@each_backbone
@pytest.mark.parametrize("spec", FIRST)
@pytest.mark.usefixtures("fresh_dynamo")
def test_it_compiles_as_one_graph(backbone: str, spec: str) -> None:
    """Strict export below traces all the others, which is where a graph would break."""
    pruned = prune(dense(backbone), spec)
    compiled = torch.compile(pruned, fullgraph=True)
    for batch in (1, 3):
        pixels = pixels_for(pruned, batch)
        assert_same_output(traced(compiled, pixels), traced(pruned, pixels))


@pytest.mark.slow
@each_backbone
@pytest.mark.parametrize("spec", STATIC)
@pytest.mark.usefixtures("fresh_dynamo")
def test_it_exports_strictly_with_any_batch(backbone: str, spec: str) -> None:
    pruned = prune(dense(backbone), spec)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(
        pruned,
        (pixels_for(pruned, 2),),
        {"return_trace": True},
        dynamic_shapes={"pixel_values": {0: batch}, "return_trace": None},
        strict=True,
    ).module()
    for size in (1, 5):
        pixels = pixels_for(pruned, size, seed=size)
        assert_same_output(traced(exported, pixels), traced(pruned, pixels))
