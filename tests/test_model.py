"""The forward loop: where pruning acts, what it leaves alone, and the company it keeps."""

import copy
import itertools
import logging
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel, Trainer, TrainingArguments, pipeline
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from tiny_videomae import clips, tiny_videomae
from vidprune.exporting import sta_by_loops
from vidprune.layout import Layout, TokenGrid
from vidprune.model import pixel_keys
from vidprune.pruned import Pruned, prune, unprune
from vidprune.reducers.base import Need, Reducer, Reduction, Signals
from vidprune.reducers.baselines import Random
from vidprune.reducers.schedule import Place, Stage
from vidprune.reducers.spec import describe
from vidprune.reducers.sta import STA

REDUCERS = [
    STA(r=3),
    STA(r=3, order="BFB", similarity="value", score="temporal"),
    STA(r=4, first_group="grid", seed=2),
    Random(r=3),
]


@pytest.fixture
def dense() -> PreTrainedModel:
    return tiny_videomae()


@dataclass(frozen=True, kw_only=True)
class Largest:
    """Keeps the half whose channels sum to most, by position; the test's own reducer.

    (One blind to the tokens could not tell its places apart: the MLP treats each token alone.)
    """

    blocks: tuple[int, ...]
    place: Place
    needs: ClassVar[frozenset[Need]] = frozenset()

    def plan(self, depth: int, grid: TokenGrid) -> tuple[Stage, ...]:
        stages, entering = [], grid.tokens
        for index, block in enumerate(self.blocks):
            drop = entering // 2
            stages.append(
                Stage(
                    index=index,
                    block=block,
                    groups=1,
                    entering=entering,
                    drop=drop,
                    place=self.place,
                )
            )
            entering -= drop
        return tuple(stages)

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        return Reduction(largest(tokens))


def largest(tokens: Tensor) -> Tensor:
    half = tokens.shape[1] // 2
    return tokens.sum(-1).topk(half, dim=1).indices.sort(dim=1).values


# Where pruning acts: a forward written from transformers' own layers, one call at a time.


def gathered(tokens: Tensor, kept: list[list[int]]) -> Tensor:
    return torch.stack([clip[places] for clip, places in zip(tokens, kept, strict=True)])


def head_mean_keys(layer: Any, call: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """What ``call`` gives, and the keys that its attention computed, averaged over heads."""
    attention, seen = layer.attention.attention, []
    handle = attention.key.register_forward_hook(lambda _m, _i, out: seen.append(out))
    result = call()
    handle.remove()
    return result, seen[0].unflatten(-1, (attention.num_attention_heads, -1)).mean(2)


def naive_sta(
    model: PreTrainedModel, pixels: Tensor, *, r: int, blocks: tuple[int, ...]
) -> tuple[Tensor, list[list[list[int]]]]:
    """STA after the MLP of ``blocks``: groups of 1, 2, 4 frames, the second visited backwards."""
    tokens, stages = model.videomae.embeddings(pixels, None), []
    for index, layer in enumerate(model.videomae.encoder.layer):
        tokens, keys = head_mean_keys(layer, lambda layer=layer, tokens=tokens: layer(tokens))
        if index in blocks:
            options = {"groups": 8 >> len(stages), "drop": r, "backward": len(stages) == 1}
            pairs = zip(tokens.numpy(), keys.numpy(), strict=True)
            stages.append([sta_by_loops.select(t, k, **options) for t, k in pairs])
            tokens = gathered(tokens, stages[-1])
    return model.classifier(model.fc_norm(tokens.mean(1))), stages


@pytest.mark.parametrize(("depth", "blocks"), [(6, (0, 2, 4)), (8, (0, 2, 5)), (4, (0, 1, 2))])
@torch.no_grad()
def test_sta_acts_on_block_outputs_as_a_naive_forward_does(
    depth: int, blocks: tuple[int, ...]
) -> None:
    model = tiny_videomae(num_hidden_layers=depth).double()
    pixels = clips(2).double()
    logits, stages = naive_sta(model, pixels, r=5, blocks=blocks)
    output = prune(model, STA(r=5))(pixels, return_trace=True)
    assert [kept.tolist() for kept in output.trace.kept] == stages
    torch.testing.assert_close(output.logits, logits, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("place", Place)
@torch.no_grad()
def test_a_reducer_acts_at_its_place_in_the_block(dense: PreTrainedModel, place: Place) -> None:
    tokens, stages = dense.videomae.embeddings(clips(2), None), []
    for index, layer in enumerate(dense.videomae.encoder.layer):
        if index in (1, 3) and place is Place.BEFORE_BLOCK:
            stages.append(largest(tokens).tolist())
            tokens = gathered(tokens, stages[-1])
        tokens = layer.attention(layer.layernorm_before(tokens)) + tokens
        if index in (1, 3) and place is Place.AFTER_ATTENTION:
            stages.append(largest(tokens).tolist())
            tokens = gathered(tokens, stages[-1])
        tokens = layer.output(layer.intermediate(layer.layernorm_after(tokens)), tokens)
        if index in (1, 3) and place is Place.AFTER_BLOCK:
            stages.append(largest(tokens).tolist())
            tokens = gathered(tokens, stages[-1])
    logits = dense.classifier(dense.fc_norm(tokens.mean(1)))
    output = prune(dense, Largest(blocks=(1, 3), place=place))(clips(2), return_trace=True)
    assert [kept.tolist() for kept in output.trace.kept] == stages
    torch.testing.assert_close(output.logits, logits, rtol=1e-5, atol=1e-6)


def test_the_places_differ(dense: PreTrainedModel) -> None:
    logits = [prune(dense, Largest(blocks=(1,), place=place))(clips(1)).logits for place in Place]
    for one, other in itertools.combinations(logits, 2):
        assert not torch.allclose(one, other, atol=1e-4)


# The trace.


@pytest.mark.parametrize("reducer", REDUCERS, ids=describe)
@torch.no_grad()
def test_the_trace_follows_each_token_to_its_place(dense: PreTrainedModel, reducer: Any) -> None:
    pruned = prune(dense, reducer)
    trace = pruned(clips(2), return_trace=True).trace
    assert len(trace.kept) == len(trace.origin) == len(pruned.stages) == 3
    before = torch.arange(128).expand(2, -1)
    for stage, kept, origin in zip(pruned.stages, trace.kept, trace.origin, strict=True):
        assert kept.dtype == origin.dtype == torch.int64
        assert kept.shape == (2, stage.kept)
        assert int(kept.max()) < stage.entering
        assert all(len(set(clip)) == stage.kept for clip in kept.tolist())
        assert torch.equal(origin, before.gather(1, kept))
        before = origin


@torch.no_grad()
def test_a_stage_that_drops_nothing_leaves_no_trace(dense: PreTrainedModel) -> None:
    trace = prune(dense, STA(schedule=(0, 4, 0)))(clips(1), return_trace=True).trace
    assert [kept.shape for kept in trace.kept] == [(1, 96)]


@torch.no_grad()
def test_the_trace_comes_only_when_asked_for(dense: PreTrainedModel) -> None:
    output = prune(dense, STA(r=3))(clips(1))
    assert output.trace is None
    assert list(output.keys()) == ["logits"]
    empty = prune(dense, None)(clips(1), return_trace=True).trace
    assert (empty.kept, empty.origin) == ((), ())


# One clip's tokens are its own affair.


@pytest.mark.parametrize("reducer", REDUCERS, ids=describe)
@torch.no_grad()
def test_neighbours_change_neither_tokens_nor_logits(dense: PreTrainedModel, reducer: Any) -> None:
    pruned, pixels, order = prune(dense, reducer), clips(4, seed=3), [2, 0, 3, 1]
    together = pruned(pixels, return_trace=True)
    shuffled = pruned(pixels[order], return_trace=True)
    for ours, theirs in zip(together.trace.kept, shuffled.trace.kept, strict=True):
        assert torch.equal(ours[order], theirs)
    torch.testing.assert_close(together.logits[order], shuffled.logits, rtol=1e-5, atol=1e-6)
    for clip in range(4):
        alone = pruned(pixels[clip, None], return_trace=True)
        for ours, theirs in zip(together.trace.kept, alone.trace.kept, strict=True):
            assert torch.equal(ours[clip], theirs[0])
    again = pruned(pixels, return_trace=True)
    assert torch.equal(again.logits, together.logits)


@given(seed=st.integers(0, 10**6), batch=st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_a_clip_s_key_depends_on_its_pixels_alone(seed: int, batch: int) -> None:
    pixels = clips(batch, seed=seed, frames=2, size=8)
    keys = pixel_keys(pixels)
    assert len(set(keys.tolist())) == batch
    assert torch.equal(pixel_keys(pixels.flip(0)), keys.flip(0))
    assert torch.equal(pixel_keys(pixels[:1]), keys[:1])
    assert torch.equal(pixel_keys(pixels.transpose(1, 2).contiguous().transpose(1, 2)), keys)


@torch.no_grad()
def test_clip_keys_take_the_place_of_pixels(dense: PreTrainedModel) -> None:
    pruned, keys = prune(dense, Random(r=3)), torch.tensor([4, 4])
    kept = pruned(clips(2), clip_keys=keys, return_trace=True).trace.kept
    assert all(torch.equal(stage[0], stage[1]) for stage in kept)
    kept = pruned(clips(2), return_trace=True).trace.kept
    assert not any(torch.equal(stage[0], stage[1]) for stage in kept)


# The original is shared and untouched.


@torch.no_grad()
def test_pruning_shares_weights_and_leaves_the_original_alone(dense: PreTrainedModel) -> None:
    before, state = dense(clips(2)).logits, copy.deepcopy(dense.state_dict())
    pruned = prune(dense, STA(r=3))
    pruned(clips(2))
    assert torch.equal(dense(clips(2)).logits, before)
    assert not isinstance(dense, Pruned)
    assert pruned.state_dict().keys() == state.keys()
    for name, weight in pruned.state_dict().items():
        assert weight.data_ptr() == dense.state_dict()[name].data_ptr()
        assert torch.equal(weight, state[name])
    assert unprune(pruned) is dense
    assert unprune(dense) is dense


def test_a_pruned_model_is_of_the_original_s_class(dense: PreTrainedModel) -> None:
    pruned = prune(dense, STA(r=3))
    assert isinstance(pruned, type(dense))
    assert type(pruned).__name__ == type(dense).__name__
    assert pruned.config is dense.config
    assert pruned.num_parameters() == dense.num_parameters()


@torch.no_grad()
def test_pruning_again_replaces_the_reducer(dense: PreTrainedModel) -> None:
    once, again = prune(dense, "sta:r=5"), prune(prune(dense, STA(r=3)), STA(r=5))
    assert unprune(again) is dense
    assert torch.equal(again(clips(1)).logits, once(clips(1)).logits)
    assert torch.equal(prune(once, "none")(clips(1)).logits, dense(clips(1)).logits)


@torch.no_grad()
def test_a_hook_on_one_does_not_run_in_the_other(dense: PreTrainedModel) -> None:
    pruned, ran = prune(dense, STA(r=3)), []
    pruned.register_forward_hook(lambda *_: ran.append("pruned"))
    dense(clips(1))
    assert ran == []
    dense.register_forward_pre_hook(lambda *_: ran.append("dense"))
    pruned(clips(1))
    assert ran == ["pruned"]


@torch.no_grad()
def test_a_forward_laid_over_the_original_does_not_undo_pruning(dense: PreTrainedModel) -> None:
    wanted = prune(dense, STA(r=3))(clips(1)).logits
    # As accelerate does where it dispatches a model over devices or wraps it for mixed precision.
    dense.forward = type(dense).forward.__get__(dense)
    assert torch.equal(prune(dense, STA(r=3))(clips(1)).logits, wanted)


@torch.no_grad()
def test_compiling_the_original_in_place_does_not_undo_pruning(dense: PreTrainedModel) -> None:
    wanted = prune(dense, STA(r=3))(clips(1)).logits
    dense.compile(backend="eager")
    pruned = prune(dense, STA(r=3))
    torch.testing.assert_close(pruned(clips(1)).logits, wanted)
    assert pruned(clips(1), return_trace=True).trace is not None


def test_training_mode_is_each_model_s_own_at_the_top(dense: PreTrainedModel) -> None:
    pruned = prune(dense, STA(r=3)).train()
    assert pruned.training
    assert copy.deepcopy(pruned).training


@pytest.mark.parametrize("reducer", [None, *REDUCERS], ids=describe)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@torch.no_grad()
def test_copies_and_pickles_prune_alike(
    dense: PreTrainedModel, reducer: Reducer | None, copied: Callable[[Any], Any]
) -> None:
    pruned = prune(dense, reducer)
    twin = copied(pruned)
    assert torch.equal(twin(clips(1)).logits, pruned(clips(1)).logits)
    assert twin.reducer == reducer
    assert twin.classifier.weight.data_ptr() != dense.classifier.weight.data_ptr()


@torch.no_grad()
def test_moving_to_a_dtype_keeps_pruning(dense: PreTrainedModel) -> None:
    pruned = prune(dense, STA(r=3)).to(torch.bfloat16)
    output = pruned(clips(1).bfloat16(), return_trace=True)
    assert output.logits.dtype == torch.bfloat16
    assert output.trace.kept[-1].shape == (1, 128 - 14 * 3)


@torch.no_grad()
def test_a_saved_pruned_model_loads_as_the_original(dense: PreTrainedModel, tmp_path: Path) -> None:
    prune(dense, STA(r=3)).save_pretrained(tmp_path)
    # Copied, as products of weights that lie askew in memory (a file's) round otherwise.
    again = copy.deepcopy(type(dense).from_pretrained(tmp_path))
    assert torch.equal(again(clips(1)).logits, dense(clips(1)).logits)


# As a Hugging Face classifier.


@torch.no_grad()
def test_labels_add_the_original_s_loss(dense: PreTrainedModel) -> None:
    labels = torch.tensor([1, 4])
    pruned, original = prune(dense, STA(r=0)), dense(clips(2), labels=labels)
    output = pruned(clips(2), labels=labels)
    assert torch.equal(output.loss, original.loss)
    assert prune(dense, STA(r=3))(clips(2), labels=labels).loss != original.loss
    averaged = pruned(clips(2), labels=labels, num_items_in_batch=4).loss
    assert torch.equal(averaged, dense(clips(2), labels=labels, num_items_in_batch=4).loss)


def test_gradients_reach_the_shared_weights(dense: PreTrainedModel) -> None:
    prune(dense, STA(r=3))(clips(1), labels=torch.tensor([2])).loss.backward()
    assert all(weight.grad is not None for weight in dense.parameters())


@torch.no_grad()
def test_a_tuple_comes_where_a_tuple_is_asked_for(dense: PreTrainedModel) -> None:
    pruned = prune(dense, STA(r=3))
    (logits,) = pruned(clips(1), return_dict=False)
    assert torch.equal(logits, pruned(clips(1)).logits)
    dense.config.return_dict = False
    assert torch.equal(pruned(clips(1))[0], logits)
    assert isinstance(pruned(clips(1)), tuple)


@pytest.mark.parametrize("name", ["output_hidden_states", "output_attentions"])
def test_outputs_of_blocks_are_refused(dense: PreTrainedModel, name: str) -> None:
    pruned = prune(dense, STA(r=3))
    with pytest.raises(ValueError, match=f"{name}=True is not offered by a pruned model"):
        pruned(clips(1), **{name: True})
    assert pruned(clips(1), **{name: False}).logits.shape == (1, 5)


def test_an_argument_that_means_nothing_here_is_refused(dense: PreTrainedModel) -> None:
    with pytest.raises((TypeError, ValueError), match="bool_masked_pos"):
        prune(dense, STA(r=3))(clips(1), bool_masked_pos=torch.zeros(1, 128, dtype=torch.bool))


@pytest.mark.parametrize("reducer", [STA, 16, {"r": 3}])
def test_what_is_no_reducer_is_refused(dense: PreTrainedModel, reducer: Any) -> None:
    with pytest.raises(TypeError, match=r"is no reducer; give one .* STA\(r=64\)"):
        prune(dense, reducer)


def test_a_model_over_several_devices_is_refused() -> None:
    model = tiny_videomae()
    model.hf_device_map = {"videomae": 0, "classifier": 1}
    with pytest.raises(TypeError, match="spread over several devices"):
        prune(model, STA(r=3))


def test_clips_of_another_shape_are_refused_in_a_sentence(dense: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match=r"takes \(batch, 16, 3, 64, 64\)"):
        prune(dense, STA(r=3))(clips(1, frames=8))


def test_the_class_of_a_pruned_model_loads_as_dense(dense: PreTrainedModel, tmp_path: Path) -> None:
    """From a checkpoint that records no reducer."""
    dense.save_pretrained(tmp_path)
    loaded = type(prune(dense, STA(r=3))).from_pretrained(tmp_path).eval()
    pixels = clips(2)
    with torch.no_grad():
        assert torch.equal(loaded(pixels).logits, prune(unprune(loaded), None)(pixels).logits)
    assert unprune(loaded) is loaded


def test_a_reducer_that_does_not_fit_is_refused_before_anything_runs(
    dense: PreTrainedModel,
) -> None:
    with pytest.raises(ValueError, match=r"cannot drop 16 tokens.*holds 16 tokens"):
        prune(dense, STA(r=16))
    with pytest.raises(ValueError, match="reducer 'best' is not known"):
        prune(dense, "best:r=3")


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A second of drifting stripes in H.264."""
    path = tmp_path / "stripes.mp4"
    columns = np.arange(96)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
        for number in range(24):
            row = 128 + 100 * np.sin((columns + 3 * number) / 7)
            image = np.broadcast_to(row[None, :, None], (80, 96, 3)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def transformers_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("transformers")
    before = logger.propagate
    logger.propagate = True
    yield caplog
    logger.propagate = before


def test_a_pipeline_takes_it_without_a_warning(
    dense: PreTrainedModel, video: Path, transformers_log: pytest.LogCaptureFixture
) -> None:
    sides = {"height": 64, "width": 64}
    processor = VideoMAEImageProcessorPil(size={"shortest_edge": 64}, crop_size=sides)
    pruned = prune(dense, STA(r=5))
    classify = pipeline("video-classification", model=pruned, image_processor=processor)
    seen: list[Tensor] = []
    handle = pruned.register_forward_pre_hook(
        lambda _m, _a, kwargs: seen.append(kwargs["pixel_values"]), with_kwargs=True
    )
    answers = {answer["label"]: answer["score"] for answer in classify(str(video), top_k=5)}
    handle.remove()
    assert "not supported" not in transformers_log.text
    with torch.no_grad():
        scores = pruned(pixel_values=seen[0]).logits.softmax(-1)[0]
        assert not torch.allclose(dense(seen[0]).logits.softmax(-1)[0], scores, atol=1e-5)
    for name, score in zip(dense.config.id2label.values(), scores.tolist(), strict=True):
        assert answers[name] == pytest.approx(score, abs=1e-6)


def test_trainer_predicts_with_it(dense: PreTrainedModel, tmp_path: Path) -> None:
    pixels = clips(5)
    data = [{"pixel_values": clip, "labels": n % 5} for n, clip in enumerate(pixels)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_eval_batch_size=2,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    pruned = prune(dense, STA(r=3))
    predicted = Trainer(model=pruned, args=arguments).predict(data)
    with torch.no_grad():
        wanted = pruned(pixels).logits
    np.testing.assert_allclose(predicted.predictions, wanted.numpy(), rtol=1e-4, atol=1e-5)
    assert predicted.label_ids.tolist() == [0, 1, 2, 3, 4]
    assert "test_loss" in predicted.metrics


# Compilation and export.


# The first two stand for all in every run; each takes seconds.
TRACED = [
    pytest.param(
        reducer, trace, id=f"{describe(reducer)}-{trace}", marks=[pytest.mark.slow][: n > 1]
    )
    for trace in (False, True)
    for n, reducer in enumerate([STA(r=3), Random(r=3), *REDUCERS[1:3]])
]


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def assert_same_output(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-4, atol=1e-5)
    if theirs.trace is not None:
        for kept, wanted in zip(ours.trace.kept, theirs.trace.kept, strict=True):
            assert torch.equal(kept, wanted)


@pytest.mark.parametrize(("reducer", "trace"), TRACED)
@pytest.mark.usefixtures("fresh_dynamo")
@torch.no_grad()
def test_it_compiles_as_one_graph(reducer: Any, trace: bool) -> None:
    pruned = prune(tiny_videomae(num_hidden_layers=3), reducer)
    compiled = torch.compile(pruned, fullgraph=True, backend="eager")
    for batch in (1, 3):
        pixels = clips(batch)
        ours = compiled(pixels, return_trace=trace)
        assert_same_output(ours, pruned(pixels, return_trace=trace))


@pytest.mark.slow
@pytest.mark.parametrize("reducer", [STA(r=3), Random(r=3)], ids=describe)
@pytest.mark.usefixtures("fresh_dynamo")
@torch.no_grad()
def test_it_compiles_to_machine_code(reducer: Any) -> None:
    pruned = prune(tiny_videomae(num_hidden_layers=3), reducer)
    compiled = torch.compile(pruned, fullgraph=True)
    assert_same_output(compiled(clips(2), return_trace=True), pruned(clips(2), return_trace=True))


@pytest.mark.parametrize(("reducer", "trace"), TRACED)
@pytest.mark.usefixtures("fresh_dynamo")
@torch.no_grad()
def test_it_exports_strictly_with_any_batch(reducer: Any, trace: bool) -> None:
    pruned = prune(tiny_videomae(num_hidden_layers=3), reducer)
    options = {"return_trace": True} if trace else {}
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = {"pixel_values": {0: batch}} | dict.fromkeys(options)
    exported = torch.export.export(
        pruned, (clips(2),), options, dynamic_shapes=shapes, strict=True
    ).module()
    for size in (1, 5):
        pixels = clips(size, seed=size)
        assert_same_output(exported(pixels, **options), pruned(pixels, **options))
