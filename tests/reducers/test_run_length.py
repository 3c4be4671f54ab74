"""Run-length against loops over the pixels of a clip, alone and in padded batches."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tiny_videomae import tiny_videomae
from vidprune.backbones.registry import adapt
from vidprune.layout import Layout, TokenGrid
from vidprune.macs import costs
from vidprune.pruned import prune
from vidprune.reducers.base import Reduction, Signals
from vidprune.reducers.run_length import RunLength, changes
from vidprune.reducers.schedule import Place, Stage
from vidprune.reducers.spec import describe, parse

VIT = TokenGrid(frames=8, rows=14, columns=14)
FRAMES, SIDE, PATCH, TUBELET = 16, 64, 16, 2
ROWS = SIDE // PATCH
PLACES, TIMES = ROWS * ROWS, FRAMES // TUBELET


def patch(row: int, column: int) -> tuple[Any, slice, slice]:
    return (
        ...,
        slice(row * PATCH, row * PATCH + PATCH),
        slice(column * PATCH, column * PATCH + PATCH),
    )


def clips_that_stand_still(batch: int, *, moves: tuple[float, ...], seed: int = 0) -> Tensor:
    """(B, 16, 3, 64, 64): each patch of a frame is new with its clip's probability of ``moves``
    and otherwise that of the frame before, so that runs of all lengths are there."""
    random = np.random.default_rng(seed)
    pixels = random.normal(size=(batch, FRAMES, 3, SIDE, SIDE))
    for clip in range(batch):
        for time in range(1, FRAMES):
            for row in range(ROWS):
                for column in range(ROWS):
                    if random.random() >= moves[clip]:
                        place = patch(row, column)
                        pixels[clip, time][place] = pixels[clip, time - 1][place]
    return torch.tensor(pixels, dtype=torch.float32)


@pytest.fixture(scope="module")
def dense() -> PreTrainedModel:
    return tiny_videomae()


# The rule, in float64 and without a tensor operation.


def change(clip: npt.NDArray[np.float64], time: int, row: int, column: int) -> float:
    """A tubelet's last frame against the first of the tubelet before, one patch."""
    now = clip[(time + 1) * TUBELET - 1][patch(row, column)]
    then = clip[(time - 1) * TUBELET][patch(row, column)]
    differences = [
        abs(float(now[channel, y, x]) - float(then[channel, y, x]))
        for channel in range(3)
        for y in range(PATCH)
        for x in range(PATCH)
    ]
    return sum(differences) / len(differences)


def by_loops(
    clip: Tensor, *, threshold: float | None = None, r: int | None = None
) -> tuple[list[int], list[int]]:
    """Which tokens stay, and for every token the one that stands for it."""
    pixels = clip.double().numpy()
    differs = {
        (time, row, column): change(pixels, time, row, column)
        for time in range(1, TIMES)
        for row in range(ROWS)
        for column in range(ROWS)
    }
    if threshold is not None:
        gone = {place for place, value in differs.items() if value <= threshold}
    else:
        gone = set(sorted(differs, key=lambda place: (differs[place], place))[: r * TIMES])
    kept, heads = [], []
    for time in range(TIMES):
        for row in range(ROWS):
            for column in range(ROWS):
                head = time
                while (head, row, column) in gone:
                    head -= 1
                heads.append(head * PLACES + row * ROWS + column)
                if head == time:
                    kept.append(heads[-1])
    return kept, heads


FORMS = [{"threshold": 0.1}, {"threshold": 0.0}, {"threshold": 1.2}, {"r": 3}, {"r": 13}, {"r": 14}]


@pytest.mark.parametrize("form", FORMS, ids=str)
@torch.no_grad()
def test_what_stays_is_what_loops_over_the_pixels_say(
    dense: PreTrainedModel, form: dict[str, Any]
) -> None:
    pixels = clips_that_stand_still(3, moves=(0.1, 0.3, 0.6))
    output = prune(dense, RunLength(**form, fold=True))(pixels, return_trace=True)
    ((kept,), (origin,), (owner,)) = output.trace.kept, output.trace.origin, output.trace.owner
    assert torch.equal(kept, origin)
    for clip in range(3):
        wanted, heads = by_loops(pixels[clip], **form)
        stays = len(wanted)
        assert kept[clip, :stays].tolist() == wanted
        assert (kept[clip, stays:] == -1).all()
        assert kept[clip][owner[clip]].tolist() == heads


def test_changes_are_those_of_the_loops() -> None:
    pixels = clips_that_stand_still(1, moves=(0.5,)).double()
    signal = adapt(tiny_videomae()).patches(pixels)
    wanted = [
        change(pixels[0].numpy(), time, row, column)
        for time in range(1, TIMES)
        for row in range(ROWS)
        for column in range(ROWS)
    ]
    np.testing.assert_allclose(changes(signal, PLACES)[0].numpy(), wanted, rtol=1e-12)


def test_pixels_in_half_precision_are_compared_in_full() -> None:
    pixels = torch.randn(1, 12, 2, 7, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = changes(pixels, 3)
    wanted = changes(pixels.double(), 3)
    torch.testing.assert_close(found, wanted.float(), rtol=1e-6, atol=0)


def test_another_grid_and_tubelet() -> None:
    """Two rows of three, tubes of three frames; the signal alone, no model."""
    random = np.random.default_rng(0)
    pixels = random.normal(size=(2, 4 * 6, 3, 5)) * random.integers(0, 2, (2, 4 * 6, 3, 1))
    found = changes(torch.tensor(pixels), 6).numpy()
    assert found.shape == (2, 18)
    for clip in range(2):
        for token in range(18):
            later, before = pixels[clip, token + 6, 2], pixels[clip, token, 0]
            wanted = sum(abs(later[n] - before[n]) for n in range(5)) / 5
            assert found[clip, token] == pytest.approx(wanted, rel=1e-12)


# Clips of which one knows what has to stay.


def still(seed: int = 0) -> Tensor:
    """One clip whose frames are all the same."""
    frame = torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return frame.expand(1, FRAMES, -1, -1, -1).clone()


def kept_of(model: PreTrainedModel, pixels: Tensor, **form: Any) -> list[int]:
    with torch.no_grad():
        trace = prune(model, RunLength(**form))(pixels, return_trace=True).trace
    return trace.origin[0][0].tolist()


@pytest.mark.parametrize("threshold", [0, 0.1, 5])
def test_of_a_still_clip_the_first_temporal_position_stays(
    dense: PreTrainedModel, threshold: float
) -> None:
    assert kept_of(dense, still(), threshold=threshold) == list(range(PLACES))


@pytest.mark.parametrize(
    ("frames", "times"),
    [((6, 7), (3, 4)), ((7,), (3,)), ((6,), (4,)), ((0, 1), (1,)), ((14, 15), (7,)), ((14,), ())],
)
def test_a_patch_that_changes_keeps_what_shows_the_change(
    dense: PreTrainedModel, frames: tuple[int, ...], times: tuple[int, ...]
) -> None:
    """A tube is compared by its last frame and to the first: the one that changes stays where its
    last frame did, the next one where its first did, and nothing at other places."""
    pixels = still()
    for frame in frames:
        pixels[0, frame][patch(1, 2)] += 1
    wanted = [*range(PLACES), *(time * PLACES + ROWS + 2 for time in times)]
    assert kept_of(dense, pixels) == wanted
    assert kept_of(dense, pixels, threshold=0) == wanted
    assert kept_of(dense, pixels, threshold=1.5) == list(range(PLACES))


def test_one_channel_and_one_pixel_count_by_their_share(dense: PreTrainedModel) -> None:
    pixels = still()
    pixels[0, 5, 1, 0, 0] += 3 * PATCH * PATCH * 0.125
    token = [2 * PLACES]
    assert kept_of(dense, pixels, threshold=0.124) == [*range(PLACES), *token]
    assert kept_of(dense, pixels, threshold=0.126) == list(range(PLACES))


def test_a_change_of_exactly_the_threshold_is_a_repeat(dense: PreTrainedModel) -> None:
    pixels = torch.zeros(1, FRAMES, 3, SIDE, SIDE)
    pixels[:, 8:] = 0.25
    assert kept_of(dense, pixels, threshold=0.25) == list(range(PLACES))
    assert len(kept_of(dense, pixels, threshold=0.2499)) == 2 * PLACES


def test_without_a_repeat_nothing_goes_and_logits_are_the_dense_ones(
    dense: PreTrainedModel,
) -> None:
    pixels = clips_that_stand_still(2, moves=(1, 1))
    with torch.no_grad():
        output = prune(dense, RunLength())(pixels, return_trace=True)
        assert torch.equal(output.logits, dense(pixels).logits)
    assert output.trace.origin[0].tolist() == [list(range(PLACES * TIMES))] * 2


def test_slow_drift_below_the_threshold_is_never_seen(dense: PreTrainedModel) -> None:
    """Neighbours in time are compared, not heads of runs: so it is in the release."""
    drift = torch.arange(FRAMES)[:, None, None, None] * 0.03
    assert kept_of(dense, still() + drift, threshold=0.1) == list(range(PLACES))
    assert len(kept_of(dense, still() + drift, threshold=0.08)) == PLACES * TIMES


def test_pixels_that_are_no_numbers_stay(dense: PreTrainedModel) -> None:
    pixels = still()
    pixels[0, 5][patch(0, 1)] = float("nan")
    assert kept_of(dense, pixels) == [*range(PLACES), 2 * PLACES + 1]
    assert 2 * PLACES + 1 in kept_of(dense, pixels, r=13)


# A budget.


def test_of_equal_changes_the_earlier_token_goes(dense: PreTrainedModel) -> None:
    assert kept_of(dense, still(), r=3) == [*range(PLACES), *range(PLACES + 3 * TIMES, 128)]


def test_a_budget_takes_the_least_different_wherever_in_the_clip(dense: PreTrainedModel) -> None:
    pixels = clips_that_stand_still(1, moves=(1,))
    pixels[0, 10:] = pixels[0, 9]
    gone = set(range(128)) - set(kept_of(dense, pixels, r=4))
    assert gone == set(range(6 * PLACES, 8 * PLACES))


def test_the_largest_budget_leaves_the_first_temporal_position(dense: PreTrainedModel) -> None:
    pixels = clips_that_stand_still(1, moves=(0.5,))
    assert kept_of(dense, pixels, r=14) == list(range(PLACES))


@pytest.mark.parametrize("r", [15, 100])
def test_a_budget_that_reaches_into_the_first_temporal_position_is_refused(r: int) -> None:
    with pytest.raises(ValueError, match=f"r={r} drops {r * 8} tokens.* choose r of at most 14"):
        prune(tiny_videomae(), RunLength(r=r))


# What becomes of the dropped.


def naive_logits(
    model: PreTrainedModel, clip: Tensor, *, fold: bool, proportional: bool, **form: Any
) -> Tensor:
    """One clip in float64: its survivors through transformers' layers, weighed by hand."""
    kept, heads = by_loops(clip, **form)
    embedded = model.videomae.embeddings(clip[None], None)[0]
    owned = [[n for n, head in enumerate(heads) if head == survivor] for survivor in kept]
    if not fold:
        owned = [[survivor] for survivor in kept]
    tokens = torch.stack([sum(embedded[n] for n in group) / len(group) for group in owned])
    sizes = torch.tensor([float(len(group)) for group in owned], dtype=torch.float64)
    for layer in model.videomae.encoder.layer:
        bias = sizes.log() if proportional else torch.zeros_like(sizes)
        tokens = tokens + attention_by_hand(layer.attention, layer.layernorm_before(tokens), bias)
        tokens = layer.output(layer.intermediate(layer.layernorm_after(tokens)), tokens)
    pooled = sum(size * token for size, token in zip(sizes, tokens, strict=True)) / sizes.sum()
    return model.classifier(model.fc_norm(pooled))


def attention_by_hand(module: Any, tokens: Tensor, bias: Tensor) -> Tensor:
    inner, mixed = module.attention, []
    query, key, value = (part(tokens) for part in (inner.query, inner.key, inner.value))
    width = query.shape[-1] // inner.num_attention_heads
    for head in range(inner.num_attention_heads):
        q, k, v = (part[:, head * width : (head + 1) * width] for part in (query, key, value))
        weights = (q @ k.T / width**0.5 + bias).exp()
        mixed.append(weights / weights.sum(-1, keepdim=True) @ v)
    return module.output.dense(torch.cat(mixed, -1))


@pytest.mark.parametrize("form", [{"threshold": 0.1}, {"r": 6}], ids=str)
@pytest.mark.parametrize(("fold", "proportional"), [(0, 0), (1, 0), (1, 1)])
@torch.no_grad()
def test_logits_are_those_of_a_naive_forward(
    form: dict[str, Any], fold: bool, proportional: bool
) -> None:
    model = tiny_videomae(num_hidden_layers=3).double()
    pixels = clips_that_stand_still(2, moves=(0.1, 0.4)).double()
    reducer = RunLength(**form, fold=bool(fold), proportional_attention=bool(proportional))
    options = {"fold": fold, "proportional": proportional, **form}
    found = prune(model, reducer)(pixels).logits
    for clip in range(2):
        wanted = naive_logits(model, pixels[clip], **options)
        # Sizes, and what is computed from them, are in float32.
        torch.testing.assert_close(found[clip], wanted, rtol=1e-5, atol=1e-6)


def spread(logits: Tensor, dense: Tensor) -> float:
    return float((logits - dense).abs().max())


@torch.no_grad()
def test_exact_repeats_folded_and_weighed_are_the_dense_model() -> None:
    """Where repeated tokens are equal, position included, a token that stands for n of them, with
    n times the attention and n times the weight in the mean, is all of them."""
    model = tiny_videomae(num_hidden_layers=3)
    model.videomae.embeddings.position_embeddings = torch.zeros(1, 128, 24)
    frames = clips_that_stand_still(3, moves=(0.1, 0.3, 0.6))[:, ::2]
    pixels = frames.repeat_interleave(2, dim=1)
    dense = model(pixels).logits
    weighed = RunLength(threshold=0, fold=True, proportional_attention=True)
    output = prune(model, weighed)(pixels, return_trace=True)
    assert (output.trace.origin[0] >= 0).sum(-1).max() < 120
    torch.testing.assert_close(output.logits, dense, rtol=1e-4, atol=1e-5)
    for lesser in (RunLength(threshold=0), RunLength(threshold=0, fold=True)):
        assert spread(prune(model, lesser)(pixels).logits, dense) > 1e-2


@torch.no_grad()
def test_a_still_clip_folds_every_place_into_its_first_token(dense: PreTrainedModel) -> None:
    trace = prune(dense, RunLength(fold=True))(still(), return_trace=True).trace
    assert trace.owner[0].tolist() == [list(range(PLACES)) * TIMES]


# Padding.


@pytest.mark.parametrize(
    "reducer",
    [RunLength(), RunLength(fold=True), RunLength(fold=True, proportional_attention=True)],
    ids=describe,
)
@torch.no_grad()
def test_a_clip_alone_gives_what_it_gives_in_a_padded_batch(
    dense: PreTrainedModel, reducer: RunLength
) -> None:
    pixels = torch.cat([clips_that_stand_still(3, moves=(0.05, 0.2, 1.0)), still()])
    pruned = prune(dense, reducer)
    together = pruned(pixels, return_trace=True)
    order = [3, 1, 0, 2]
    shuffled = pruned(pixels[order], return_trace=True)
    torch.testing.assert_close(shuffled.logits, together.logits[order], rtol=1e-4, atol=1e-5)
    for clip in range(4):
        alone = pruned(pixels[clip, None], return_trace=True)
        torch.testing.assert_close(together.logits[clip], alone.logits[0], rtol=1e-4, atol=1e-5)
        ours, theirs = together.trace.origin[0][clip], alone.trace.origin[0][0]
        assert ours[ours >= 0].tolist() == theirs.tolist()
        assert (ours[len(theirs) :] == -1).all()
        assert torch.equal(shuffled.trace.origin[0][order.index(clip)], ours)
    assert (together.trace.origin[0][2] >= 0).all()


@torch.no_grad()
def test_padding_contributes_nothing_whatever_it_holds(dense: PreTrainedModel) -> None:
    """A still clip beside one that keeps all; what its padding embeds is made enormous."""
    pixels = torch.cat([still(), clips_that_stand_still(1, moves=(1,))])
    before = prune(dense, RunLength())(pixels).logits
    changed = pixels.clone()
    changed[0, 1:15] += 1000
    shouting = prune(dense, Forced())(changed).logits
    quiet = prune(dense, Forced())(pixels).logits
    torch.testing.assert_close(quiet, before, rtol=1e-5, atol=1e-6)
    # The first tube reaches to frame 1, which is not padding: leave that one as it was.
    changed[0, 1] = pixels[0, 1]
    shouting = prune(dense, Forced())(changed).logits
    assert spread(dense(changed).logits[0], dense(pixels).logits[0]) > 1e-2
    torch.testing.assert_close(shouting, quiet, rtol=1e-5, atol=1e-6)


class Forced:
    """Run-length that believes clip 0 still and clip 1 moving, whatever they show."""

    needs = frozenset({"pixels"})

    def plan(self, depth: int, grid: TokenGrid) -> tuple[Stage, ...]:
        return RunLength().plan(depth, grid)

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        pixels = torch.zeros_like(signals.pixels)
        pixels[1] = torch.arange(pixels.shape[1])[:, None, None]
        return RunLength()(tokens, Signals(pixels=pixels), layout, stage)


@torch.no_grad()
def test_padded_positions_are_unique_in_range_and_marked() -> None:
    layout, stage, signals = parts(clips_that_stand_still(3, moves=(0.05, 0.3, 0.9)))
    reduction = RunLength()(torch.zeros(3, 128, 1), signals, layout, stage)
    keep, valid = reduction.keep, reduction.valid
    assert valid is not None
    assert keep.shape == valid.shape
    assert int(valid.sum(-1).max()) == keep.shape[1]
    for clip in range(3):
        assert len(set(keep[clip].tolist())) == keep.shape[1]
        assert set(keep[clip].tolist()) <= set(range(128))
        assert valid[clip].tolist() == sorted(valid[clip].tolist(), reverse=True)


@torch.no_grad()
def test_clips_that_keep_as_many_need_no_padding() -> None:
    layout, stage, signals = parts(torch.cat([still(0), still(1)]))
    reduction = RunLength()(torch.zeros(2, 128, 1), signals, layout, stage)
    assert reduction.valid is None
    assert reduction.keep.shape == (2, PLACES)


def parts(pixels: Tensor) -> tuple[Layout, Stage, Signals]:
    backbone = adapt(tiny_videomae())
    (stage,) = RunLength().plan(backbone.depth, backbone.grid)
    origin = torch.arange(128).expand(len(pixels), -1)
    return (
        Layout(grid=backbone.grid, origin=origin),
        stage,
        Signals(pixels=backbone.patches(pixels)),
    )


# Dtypes, shapes alone, compilation.


@pytest.mark.parametrize("form", [{"threshold": 0.3}, {"r": 6}], ids=str)
@torch.no_grad()
def test_half_precision_compares_its_pixels_in_full(form: dict[str, Any]) -> None:
    model = tiny_videomae().bfloat16()
    pixels = clips_that_stand_still(2, moves=(0.2, 0.5)).bfloat16()
    output = prune(model, RunLength(**form, fold=True))(pixels, return_trace=True)
    assert output.logits.dtype == torch.bfloat16
    assert output.logits.isfinite().all()
    for clip in range(2):
        wanted, _ = by_loops(pixels[clip].float(), **form)
        assert output.trace.origin[0][clip, : len(wanted)].tolist() == wanted


def test_on_shapes_alone_a_threshold_drops_nothing(dense: PreTrainedModel) -> None:
    found = costs(dense, RunLength())
    assert found.tokens == (128,)
    assert found.gmacs_per_view == pytest.approx(found.gmacs_dense)
    budget = costs(dense, RunLength(r=8))
    assert budget.tokens == (64,)
    assert budget.gmacs_per_view < 0.7 * budget.gmacs_dense


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
@torch.no_grad()
def test_a_budget_compiles_as_one_graph(backend: str, fold: bool) -> None:
    pixels = clips_that_stand_still(2, moves=(0.2, 0.5))
    pruned = prune(tiny_videomae(num_hidden_layers=2), RunLength(r=6, fold=fold))
    wanted = pruned(pixels, return_trace=True)
    torch._dynamo.reset()
    found = torch.compile(pruned, fullgraph=True, backend=backend)(pixels, return_trace=True)
    torch._dynamo.reset()
    assert torch.equal(found.trace.origin[0], wanted.trace.origin[0])
    torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_a_threshold_compiles_in_parts_and_not_as_one_graph() -> None:
    pixels = clips_that_stand_still(2, moves=(0.2, 0.5))
    pruned = prune(tiny_videomae(num_hidden_layers=2), RunLength(fold=True))
    torch._dynamo.reset()
    found = torch.compile(pruned, backend="eager")(pixels)
    torch.testing.assert_close(found.logits, pruned(pixels).logits, rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.TorchDynamoException):
        torch.compile(pruned, backend="eager", fullgraph=True)(pixels)
    torch._dynamo.reset()


@torch.no_grad()
def test_a_budget_exports_with_any_batch() -> None:
    pruned = prune(tiny_videomae(num_hidden_layers=2), RunLength(r=6, fold=True))
    shapes = {"pixel_values": {0: torch.export.Dim("batch", min=1, max=64)}}
    example = clips_that_stand_still(2, moves=(0.2, 0.5))
    exported = torch.export.export(pruned, (example,), dynamic_shapes=shapes, strict=True).module()
    pixels = clips_that_stand_still(3, moves=(0.1, 0.4, 0.8))
    torch.testing.assert_close(exported(pixels).logits, pruned(pixels).logits)


# Settings.


def test_alone_it_is_the_paper_s_rule() -> None:
    assert parse("run-length") == RunLength() == RunLength(threshold=0.1)
    assert describe(RunLength()) == "run-length:threshold=0.1"


@pytest.mark.parametrize(
    ("reducer", "text"),
    [
        (RunLength(r=64), "run-length:r=64"),
        (RunLength(threshold=0), "run-length:threshold=0.0"),
        (RunLength(threshold=1e-7), "run-length:threshold=1e-07"),
        (RunLength(threshold=0.25, fold=True), "run-length:threshold=0.25,fold=true"),
        (
            RunLength(r=8, fold=True, proportional_attention=True),
            "run-length:r=8,fold=true,proportional_attention=true",
        ),
    ],
)
def test_text_reads_as_the_call(reducer: RunLength, text: str) -> None:
    assert describe(reducer) == text
    assert parse(text) == reducer


def test_it_acts_once_before_the_first_block() -> None:
    (stage,) = RunLength(r=64).plan(12, VIT)
    assert (stage.block, stage.place) == (0, Place.BEFORE_BLOCK)
    assert str(stage) == "before block 0: 1568 -> 1056 tokens (512 dropped)"
    (stage,) = RunLength().plan(12, VIT)
    assert str(stage).startswith("before block 0: 1568 -> at most 1568 tokens")


@pytest.mark.parametrize(
    ("reducer", "grid"),
    [(RunLength(r=0), VIT), (RunLength(), TokenGrid(frames=1, rows=3, columns=3))],
)
def test_where_nothing_can_go_there_is_no_stage(reducer: RunLength, grid: TokenGrid) -> None:
    assert reducer.plan(12, grid) == ()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"threshold": 0.1, "r": 8}, "threshold=0.1 and r=8 both say how many tokens go"),
        ({"threshold": -0.1}, "threshold=-0.1 must be a finite number of at least 0"),
        ({"threshold": float("nan")}, "threshold=nan must be a finite number"),
        ({"threshold": float("inf")}, "threshold=inf must be a finite number"),
        ({"threshold": "much"}, "threshold='much' must be a finite number"),
        ({"threshold": True}, "threshold=True must be a finite number"),
        ({"r": -1}, "r=-1 must be a whole number of at least 0"),
        ({"r": 1.5}, "r=1.5 must be a whole number"),
        ({"r": True}, "r=True must be a whole number"),
        ({"fold": "yes"}, "fold='yes' must be true or false"),
        ({"r": 8, "proportional_attention": True}, "needs fold=True"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        RunLength(**options)
