"""The ways to run a model all say the same."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch._inductor.utils import run_and_get_code
from transformers import PreTrainedModel

import tiny_job
from tiny_checkpoints import CONFIGS, clip_for, tiny
from tiny_videomae import clips, tiny_videomae
from vidprune.backbones.registry import adapt
from vidprune.benchmarking import compiled
from vidprune.benchmarking.compiled import forward_in
from vidprune.pruned import prune

KEYS = torch.tensor([11, 12])


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with tiny_job.one_thread():
        yield


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    """One block's worth of compiling."""
    return tiny_videomae(num_hidden_layers=3, image_size=32)


PIXELS = clips(2, size=32)


def test_what_is_no_mode_is_refused(model: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match="mode='fast' is not known; choose one of eager, blocks"):
        forward_in(prune(model, None), "fast", KEYS)


@pytest.mark.parametrize("mode", ["cuda-graph", "blocks-replayed"])
def test_replaying_is_for_cuda(model: PreTrainedModel, mode: str) -> None:
    with pytest.raises(ValueError, match=f"mode='{mode}' is for CUDA, and the model is on cpu"):
        forward_in(prune(model, None), mode, KEYS)


@pytest.mark.parametrize("reducer", [None, "sta:r=1", "random:r=1"])
def test_eager_is_the_model_as_it_stands(model: PreTrainedModel, reducer: str | None) -> None:
    pruned = prune(model, reducer)
    with torch.inference_mode():
        found = forward_in(pruned, "eager", KEYS)(PIXELS)
        assert torch.equal(found, pruned(PIXELS, clip_keys=KEYS).logits)


@pytest.mark.parametrize("mode", ["eager", "blocks"])
@pytest.mark.parametrize("reducer", [None, "grid:r=1,stages=1"])
@pytest.mark.parametrize("family", CONFIGS)
def test_a_model_without_a_head_gives_its_features(
    family: str, reducer: str | None, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = prune(tiny(family, head=False), reducer)
    pixels = clip_for(pruned)
    if mode == "blocks":
        # What is compiled is tried below.
        monkeypatch.setattr(compiled, "adapt", lambda model, compiled: adapt(model))
    with torch.inference_mode():
        found = forward_in(pruned, mode, KEYS[:1])(pixels)
        assert torch.equal(found, pruned(pixels, clip_keys=KEYS[:1]).pooler_output)


def test_a_classifier_of_no_classes_gives_its_features() -> None:
    """As VideoMAE V2's on the hub is loaded."""
    pruned = prune(tiny_videomae(num_hidden_layers=3, image_size=32, num_labels=0), "sta:r=1")
    with torch.inference_mode():
        found = forward_in(pruned, "eager", KEYS)(PIXELS)
        assert torch.equal(found, pruned(PIXELS, clip_keys=KEYS).pooler_output)


def test_keys_are_read_when_it_runs(model: PreTrainedModel) -> None:
    """Whoever holds them may write other clips' keys into them."""
    pruned, keys = prune(model, "random:r=1"), KEYS.clone()
    forward = forward_in(pruned, "eager", keys)
    with torch.inference_mode():
        before = forward(PIXELS)
        keys += 1000
        assert torch.equal(forward(PIXELS), pruned(PIXELS, clip_keys=keys).logits)
        assert not torch.equal(forward(PIXELS), before)


def test_each_graph_has_code_of_its_own(model: PreTrainedModel) -> None:
    """Else the compiler counts all of them as one function that is compiled again and again."""
    forwards = [forward_in(prune(model, None), "graph", KEYS) for _ in range(2)]
    codes = [forward._torchdynamo_orig_callable.__code__ for forward in forwards]
    assert codes[0] is not codes[1]
    assert codes[0].co_code == codes[1].co_code


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["blocks", "graph", "graph-frozen"])
@pytest.mark.parametrize("reducer", [None, "sta:r=1", "random:r=1"])
def test_compiled_modes_say_the_same_and_read_the_keys(
    model: PreTrainedModel, mode: str, reducer: str | None
) -> None:
    pruned, keys = prune(model, reducer), KEYS.clone()
    forward = forward_in(pruned, mode, keys)
    with torch.inference_mode():
        for again in (False, True):
            wanted = pruned(PIXELS, clip_keys=keys).logits
            with torch._dynamo.config.patch(error_on_recompile=again):
                assert torch.allclose(forward(PIXELS), wanted, rtol=1e-4, atol=1e-5)
            keys += 1000


@pytest.mark.slow
def test_frozen_weights_are_laid_out_for_their_products(model: PreTrainedModel) -> None:
    """And are copies: what becomes of the model's own is not seen any more."""
    pruned = prune(copy.deepcopy(model).bfloat16(), "sta:r=1")
    forward, pixels = forward_in(pruned, "graph-frozen", KEYS), PIXELS.bfloat16()
    with torch.inference_mode():
        wanted, code = run_and_get_code(forward, pixels)
        assert sum(text.count("mkldnn._linear_pointwise") for text in code) >= 6 * 3
        pruned.classifier.bias += 1
        assert torch.equal(forward(pixels), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["blocks", "graph"])
def test_compiled_modes_give_an_encoder_s_features(model: PreTrainedModel, mode: str) -> None:
    pruned = prune(model.videomae, "sta:r=1")
    with torch.inference_mode():
        wanted = pruned(PIXELS, clip_keys=KEYS).pooler_output
        found = forward_in(pruned, mode, KEYS)(PIXELS)
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)
