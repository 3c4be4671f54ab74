"""What every reducer keeps to, on every backbone; `matrix` says which are tested on which."""

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from matrix import (
    AMOUNTS,
    COMPILED,
    EXPORTED,
    FAMILIES,
    MODELS,
    PAIRS,
    PYRAMID,
    REFUSED,
    ROWS,
    TOO_SHORT,
    Model,
    on_grids,
    reducer_of,
)
from tiny_job import one_thread
from tiny_models import OPTIONS, tiny
from vidprune.backbones.registry import FAMILIES as ADAPTED
from vidprune.backbones.registry import adapt
from vidprune.inference import Classifier
from vidprune.layout import TokenGrid
from vidprune.macs import costs
from vidprune.model import Trace
from vidprune.planning import stages_for
from vidprune.pruned import prune
from vidprune.reducers.base import Reducer
from vidprune.reducers.schedule import Stage
from vidprune.reducers.spec import REDUCERS, describe, parse
from vidprune.video import Protocol

each_pair = pytest.mark.parametrize(("name", "spec"), PAIRS, ids=str)
each_model = pytest.mark.parametrize("name", MODELS, ids=str)
each_amount = pytest.mark.parametrize(("name", "reducer"), AMOUNTS, ids=str)
each_reducer = pytest.mark.parametrize("reducer", REDUCERS)


@pytest.fixture(scope="module", autouse=True)
def small_models_do_not_gain_from_threads() -> Iterator[None]:
    with one_thread(), torch.no_grad():
        yield


@cache
def dense(
    name: Model,
    grid: TokenGrid | None = None,
    dtype: torch.dtype = torch.float32,
    *,
    blocks: int = 4,
) -> PreTrainedModel:
    return tiny(name.family, grid or name.grids.usual, head=name.head, blocks=blocks).to(dtype)


def pixels_for(model: PreTrainedModel, batch: int = 4, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, *adapt(model).clip_shape)
    return torch.randn(shape, generator=generator).to(model.dtype)


def traced(model: PreTrainedModel, pixels: Tensor, **options: Any) -> Any:
    return model(pixels, return_trace=True, **options)


def answers(output: Any, batch: int) -> Tensor:
    """A row per clip: its logits, or its pooled features; some models have one for each frame."""
    found = output.logits if "logits" in output else output.pooler_output
    return found.reshape(batch, -1)


def is_ragged(stages: tuple[Stage, ...]) -> bool:
    """Whether how many stay depends on the clip."""
    return any(stage.drop == 0 for stage in stages)


def kept_by(trace: Trace) -> list[list[list[int]]]:
    """Per stage and clip, what stays; padding left out."""
    return [
        [[place for place in clip if place >= 0] for clip in kept.tolist()] for kept in trace.kept
    ]


# The tables are whole.


def test_every_reducer_has_a_row_and_every_family_a_model() -> None:
    assert ROWS.keys() == REDUCERS.keys(), "give each reducer a row in ROWS, and remove the others"
    assert FAMILIES.keys() == OPTIONS.keys(), "give each family a small model in tiny_models"
    types = {model_type for model_type, _ in OPTIONS.values()}
    assert types == ADAPTED.keys(), "give each family a small model in tiny_models"
    for name, row in ROWS.items():
        for text in (*row.specs, row.amount.replace("#", "1")):
            assert isinstance(parse(text), REDUCERS[name]), text


@each_model
@each_reducer
def test_every_reducer_works_on_a_model_or_is_refused(name: Model, reducer: str) -> None:
    works = {spec for spec in name.specs if reducer_of(spec) == reducer}
    refused = {spec for model, spec, _ in REFUSED if model == name and reducer_of(spec) == reducer}
    assert works | refused
    assert not works & refused


@each_reducer
def test_every_option_is_at_work_somewhere(reducer: str) -> None:
    specs = {spec for _, spec in PAIRS if reducer_of(spec) == reducer}
    described = [describe(parse(spec)).partition(":")[2] for spec in specs]
    said = {part.partition("=")[0] for text in described for part in text.split(",")}
    # How many stages there are, an explicit schedule or a list of blocks says as well.
    assert {field.name for field in fields(REDUCERS[reducer])} - {"stages"} <= said


@pytest.mark.parametrize("reducer", PYRAMID.limits)
def test_whatever_fits_a_pyramid_is_tried_with_its_gaps_closed_and_filled(reducer: str) -> None:
    name = Model("videoswin")
    specs = [spec for spec in name.specs if reducer_of(spec) == reducer]
    quotas = [stage.quotas for spec in specs for stage in prune(dense(name), spec).stages]
    assert None in quotas
    assert any(each is not None and len(each.kept) > 1 for each in quotas), "no cells to confuse"


@pytest.mark.parametrize("spec", dict.fromkeys(spec for _, spec in PAIRS))
def test_text_and_reducer_are_two_forms_of_one(spec: str) -> None:
    reducer = parse(spec)
    assert isinstance(reducer, Reducer)
    assert parse(describe(reducer)) == reducer
    assert hash(parse(spec)) == hash(reducer)


@pytest.mark.parametrize(("name", "spec", "words"), REFUSED, ids=str)
def test_what_a_model_cannot_carry_is_refused_before_it_runs(
    name: Model, spec: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        prune(dense(name), spec)
    with pytest.raises(ValueError, match=words):
        costs(dense(name).config, spec)


# What stays.


def grids_entered(model: PreTrainedModel, stages: tuple[Stage, ...]) -> list[TokenGrid]:
    """The grid on which each stage acts: in a pyramid that of the level it leads to."""
    levels, ends = adapt(model).levels, []
    for level in levels:
        ends.append(sum(level.blocks for level in levels[: len(ends) + 1]) - 1)
    leads_on = dict(zip(ends[:-1], levels[1:], strict=True))
    return [leads_on.get(stage.block, levels[0]).grid for stage in stages]


def assert_trace_is_sound(trace: Trace, model: PreTrainedModel, batch: int) -> None:
    stages = model.stages
    grids, before = grids_entered(model, stages), None
    assert len(trace.kept) == len(trace.origin) == len(stages)
    for number, (stage, kept, origin) in enumerate(
        zip(stages, trace.kept, trace.origin, strict=True)
    ):
        if number == 0 or grids[number] != grids[number - 1]:
            before = torch.arange(grids[number].tokens).expand(batch, -1)
        assert before is not None
        assert kept.dtype == origin.dtype == torch.int64
        assert kept.shape == origin.shape
        assert len(kept) == batch
        present = kept >= 0
        if is_ragged(stages):
            assert kept.shape[1] <= stage.kept
            assert bool(present.any(0).all()), "more padding than the fullest clip needs"
        else:
            assert before.shape[1] == stage.entering
            assert kept.shape[1] == stage.kept
            assert bool(present.all())
        assert_each_stays_once(before, kept, origin)
        assert_cells_are_those_planned(stage, origin, grids[number])
        before = origin


def assert_cells_are_those_planned(stage: Stage, origin: Tensor, grid: TokenGrid) -> None:
    """Frame by frame and cell by cell: by where they stand attention finds them in windows."""
    if stage.quotas is None:
        return
    cells = [cell for cell, kept in enumerate(stage.quotas.kept) for _ in range(kept)]
    planned = [(frame, cell) for frame in range(grid.frames) for cell in cells]
    for clip in origin.tolist():
        split = (divmod(place, grid.tokens_per_frame) for place in clip)
        assert [(frame, stage.quotas.cells[inside]) for frame, inside in split] == planned


def assert_each_stays_once(before: Tensor, kept: Tensor, origin: Tensor) -> None:
    for clip, (places, from_where) in enumerate(zip(kept.tolist(), origin.tolist(), strict=True)):
        real = [place for place in places if place >= 0]
        assert len(set(real)) == len(real) > 0
        assert max(real) < before.shape[1]
        assert [before[clip, place].item() for place in real] == from_where[: len(real)]
        assert set(places[len(real) :]) <= {-1}
        assert set(from_where[len(real) :]) <= {-1}


def assert_owners_are_sound(trace: Trace, model: PreTrainedModel, batch: int) -> None:
    """Every token of a stage's grid is stood for by one survivor, and each survivor by itself."""
    if not trace.owner:
        return
    grids, whose = grids_entered(model, model.stages), None
    assert len(trace.owner) == len(model.stages)
    for number, (owner, kept, origin) in enumerate(
        zip(trace.owner, trace.kept, trace.origin, strict=True)
    ):
        grid = grids[number]
        if number == 0 or grid != grids[number - 1]:
            whose = torch.arange(grid.tokens).expand(batch, -1)
        assert whose is not None
        whose = owner.gather(1, whose)
        assert bool((kept.gather(1, whose) >= 0).all()), "padding stands for a token"
        for clip, places in enumerate(origin.tolist()):
            for place, start in enumerate(places):
                assert start < 0 or whose[clip, start] == place


def assert_sound(output: Any, model: PreTrainedModel, batch: int) -> None:
    assert bool(answers(output, batch).isfinite().all())
    assert_trace_is_sound(output.trace, model, batch)
    assert_owners_are_sound(output.trace, model, batch)


@each_pair
def test_what_stays_is_what_was_planned(name: Model, spec: str) -> None:
    pruned = prune(dense(name), spec)
    output = traced(pruned, pixels_for(pruned))
    assert pruned.stages, "a spec at work drops something"
    last = grids_entered(pruned, pruned.stages)[-1]
    assert sum(map(len, kept_by(output.trace)[-1])) < 4 * last.tokens
    assert_sound(output, pruned, 4)
    different = (answers(output, 4) - answers(prune(pruned, None)(pixels_for(pruned)), 4)).abs()
    assert bool((different.amax(1) > 1e-4).all()), "what goes leaves a mark"


@each_pair
def test_shapes_that_hurt(name: Model, spec: str) -> None:
    for grid in (*name.grids.awkward, name.grids.one_frame):
        model = dense(name, grid)
        if (name, spec, grid) in TOO_SHORT:
            with pytest.raises(ValueError, match="choose"):
                prune(model, spec)
            continue
        pruned = prune(model, spec)
        for batch in (1, 3):
            assert_sound(traced(pruned, pixels_for(model, batch)), pruned, batch)


@each_pair
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_other_precisions(name: Model, spec: str, dtype: torch.dtype) -> None:
    pruned = prune(dense(name, dtype=dtype), spec)
    pixels = pixels_for(dense(name), 2)
    output = traced(pruned, pixels.to(dtype))
    assert answers(output, 2).dtype == dtype
    assert_sound(output, pruned, 2)
    if dtype == torch.float64:
        single = traced(prune(dense(name), spec), pixels)
        assert kept_by(single.trace) == kept_by(output.trace)
        found = answers(output, 2).float()
        torch.testing.assert_close(found, answers(single, 2), rtol=1e-4, atol=1e-4)


# One clip's tokens are its own affair.


@each_pair
def test_neighbours_and_their_order_change_nothing(name: Model, spec: str) -> None:
    pruned, order = prune(dense(name), spec), [2, 0, 3, 1]
    pixels = pixels_for(pruned, seed=3)
    together, shuffled = traced(pruned, pixels), traced(pruned, pixels[order])
    for ours, theirs in zip(kept_by(together.trace), kept_by(shuffled.trace), strict=True):
        assert [ours[clip] for clip in order] == theirs
    found = answers(together, 4)
    torch.testing.assert_close(found[order], answers(shuffled, 4), rtol=1e-4, atol=1e-5)
    for clip in range(4):
        alone = traced(pruned, pixels[clip, None])
        for ours, theirs in zip(kept_by(together.trace), kept_by(alone.trace), strict=True):
            assert ours[clip] == theirs[0]
        torch.testing.assert_close(found[clip], answers(alone, 1)[0], rtol=1e-4, atol=1e-5)


def in_batches_of_four(name: Model, spec: str) -> Any:
    """Clips and their keys to answers: by the classifier of a job, or an encoder just as it."""
    pruned = prune(dense(name), spec)
    if name.head:
        frames, _, size, _ = adapt(pruned).clip_shape
        protocol = Protocol(sampling="segment", segments=1, crops=1, frames=frames, size=size)
        return Classifier(pruned, protocol, batch_size=4, device=torch.device("cpu"))

    def embed(clips: Tensor, keys: Tensor) -> Tensor:
        numbers = torch.arange(4).clamp(max=len(clips) - 1)
        pixels = (clips[numbers].float() - 128) / 40
        return answers(pruned(pixels, clip_keys=keys[numbers]), 4)[: len(clips)]

    return embed


@each_pair
def test_in_batches_of_one_shape_answers_are_bit_equal(name: Model, spec: str) -> None:
    answer = in_batches_of_four(name, spec)
    clips = (pixels_for(dense(name)) * 40 + 128).clamp(0, 255).to(torch.uint8)
    keys, order = torch.arange(4), [3, 1, 0]
    together = answer(clips, keys)
    alone = torch.cat([answer(clips[i : i + 1], keys[i : i + 1]) for i in range(4)])
    if is_ragged(prune(dense(name), spec).stages):
        # Padding follows the fullest clip of a batch, and another shape rounds otherwise.
        torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    else:
        assert torch.equal(alone, together)
        assert torch.equal(answer(clips[order], keys[order]), together[order])


@each_pair
def test_what_is_drawn_follows_seed_and_clip_and_nothing_else(name: Model, spec: str) -> None:
    model, reducer = dense(name), parse(spec)
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


def with_amount(name: Model, reducer: str, amount: int) -> Reducer:
    found = parse(name.amount(reducer).replace("#", str(amount)))
    assert found is not None
    return found


@each_model
@each_reducer
def test_nothing_dropped_is_the_dense_model_bit_for_bit(name: Model, reducer: str) -> None:
    """On every model, also where no more can be carried."""
    for grid in name.grids.all:
        model = dense(name, grid)
        pruned = prune(model, with_amount(name, reducer, 0))
        for batch in (1, 3):
            assert_bit_equal(pruned(pixels_for(model, batch)), model(pixels_for(model, batch)))
        assert pruned.stages == ()
        assert costs(pruned).gmacs_per_view == costs(model).gmacs_per_view


def assert_bit_equal(ours: Any, original: Any) -> None:
    compared = [
        torch.equal(ours[key], original[key])
        for key in ("logits", "last_hidden_state", "pooler_output")
        if original.get(key) is not None
    ]
    assert compared
    assert all(compared)


def largest(name: Model, reducer: str, grid: TokenGrid) -> int:
    """The most tokens that may be asked for."""
    shape = adapt(dense(name, grid))
    for amount in range(1, grid.tokens + 2):
        try:
            stages_for(shape, with_amount(name, reducer, amount))
        except ValueError:
            return amount - 1
    return grid.tokens


@each_amount
def test_the_most_that_may_go_and_one_more(name: Model, reducer: str) -> None:
    for grid in name.grids.all:
        model, most = dense(name, grid), largest(name, reducer, grid)
        pruned = prune(model, with_amount(name, reducer, most))
        assert_sound(traced(pruned, pixels_for(model, 2)), pruned, 2)
        if ROWS[reducer].capped:
            assert most == grid.tokens
            assert min(stage.kept for stage in pruned.stages) < grid.tokens
            half = stages_for(adapt(model), with_amount(name, reducer, grid.tokens // 2))
            assert [stage.kept for stage in half] == [stage.kept for stage in pruned.stages]
        else:
            assert most < grid.tokens
            with pytest.raises(ValueError, match="choose"):
                prune(model, with_amount(name, reducer, most + 1))


@each_pair
def test_costs_by_formula_are_those_of_a_real_forward(name: Model, spec: str) -> None:
    for grid in (name.grids.usual, name.grids.awkward[0]):
        model = dense(name, grid)
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
        if name.head:
            assert costs(model.config, spec) == found


# Compilation and export, where shapes are static.


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def asked_for(name: Model) -> dict[str, Any]:
    """All that a model can be asked for."""
    return {"return_trace": True} | ({} if name.head else {"dense": "nearest"})


def assert_same_output(ours: Any, theirs: Any) -> None:
    assert kept_by(ours.trace) == kept_by(theirs.trace)
    for key in ("logits", "last_hidden_state", "pooler_output", "dense_features"):
        if theirs.get(key) is not None:
            torch.testing.assert_close(ours[key], theirs[key], rtol=1e-4, atol=1e-5)


def for_graphs(name: Model, grid: TokenGrid) -> PreTrainedModel:
    """Tracing takes as long as a model has blocks: three, and where levels merge one for each and
    one whose windows are shifted."""
    return dense(name, grid, blocks=4 if name.rule is PYRAMID else 3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "spec", "grid"), on_grids(COMPILED), ids=str)
@pytest.mark.usefixtures("fresh_dynamo")
def test_it_compiles_as_one_graph(name: Model, spec: str, grid: TokenGrid) -> None:
    """To machine code for two of one family: what a compiler makes of a graph is its own affair."""
    to_machine_code = name.family == "videomae" and reducer_of(spec) in ("sta", "tome")
    backend = "inductor" if to_machine_code else "eager"
    pruned, options = prune(for_graphs(name, grid), spec), asked_for(name)
    compiled = torch.compile(pruned, fullgraph=True, backend=backend)
    pixels = pixels_for(pruned, 2)
    assert_same_output(compiled(pixels, **options), pruned(pixels, **options))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "spec", "grid"), on_grids(EXPORTED), ids=str)
@pytest.mark.usefixtures("fresh_dynamo")
def test_it_exports_strictly_with_any_batch(name: Model, spec: str, grid: TokenGrid) -> None:
    pruned, options = prune(for_graphs(name, grid), spec), asked_for(name)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(
        pruned,
        (pixels_for(pruned, 2),),
        options,
        dynamic_shapes={"pixel_values": {0: batch}} | dict.fromkeys(options),
        strict=True,
    ).module()
    for size in (1, 5):
        pixels = pixels_for(pruned, size, seed=size)
        assert_same_output(exported(pixels, **options), pruned(pixels, **options))
