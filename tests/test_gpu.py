"""The same on an accelerator: `make test-gpu`, which fails where there is none.

VIDPRUNE_TEST_DEVICE names another device than cuda.
"""

import copy
import os
from dataclasses import replace
from itertools import product

import pytest
import torch

import vidprune
from comparator import assert_same_selection
from matrix import CLASSIFIERS
from reducers import precision_cases, triton_ward_cases
from reducers.triton_cases import CASES, LARGE_CASES, RULES, check
from tiny_job import write_checkpoint, write_list
from tiny_models import tiny
from tiny_videomae import clips, tiny_videomae
from vidprune.backbones.embedding import project_by_products
from vidprune.backbones.quantized import check_device, quantize_blocks
from vidprune.backbones.registry import adapt
from vidprune.benchmarking.compiled import forward_in
from vidprune.inference import Classifier, clip_key
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.reading import Request, read_requests
from vidprune.reducers.sta import select
from vidprune.reducers.sta_backend import select_by_triton
from vidprune.reducers.ward_backend import select_by_triton as ward_by_triton
from vidprune.video import Protocol, check_decoder, read_views

pytestmark = pytest.mark.gpu
DEVICE = os.environ.get("VIDPRUNE_TEST_DEVICE", "cuda")
on_cuda = pytest.mark.skipif(DEVICE.partition(":")[0] != "cuda", reason="kernels are for CUDA")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nothing_dropped_is_the_original_bit_for_bit(dtype):
    model = tiny_videomae().to(DEVICE, dtype)
    pixels = clips(3).to(DEVICE, dtype)
    with torch.inference_mode():
        found = vidprune.prune(model, vidprune.STA(r=0))(pixels).logits
        assert torch.equal(found, model(pixels).logits)


@pytest.mark.parametrize(
    ("groups", "drop", "backward"), [(8, 64, False), (4, 30, True), (1, 7, False)]
)
def test_a_selection_is_that_of_float64_on_the_cpu(groups, drop, backward):
    generator = torch.Generator().manual_seed(groups)
    tokens, keys = (torch.randn(2, 784, width, generator=generator) for width in (32, 16))
    options = {"groups": groups, "drop": drop, "backward": backward}
    found = select(tokens.to(DEVICE), keys.to(DEVICE), **options).cpu()
    assert_same_selection(found, tokens, keys, **options)


@on_cuda
@pytest.mark.parametrize("score", ["both", "temporal", "semantic"])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_kernels_keep_what_the_specification_keeps(name, backward, score):
    check(CASES[name], DEVICE, backward=backward, score=score)


@on_cuda
@pytest.mark.parametrize("name", LARGE_CASES)
def test_kernels_take_large_groups(name):
    check(LARGE_CASES[name], DEVICE, backward=True, score="both")


@on_cuda
@pytest.mark.parametrize("rule", RULES)
def test_kernels_keep_to_the_rules(rule):
    RULES[rule](DEVICE)


@pytest.mark.parametrize("spec", precision_cases.SPECS)
def test_tokens_are_chosen_in_full_precision_whatever_the_process_multiplies_in(spec):
    """TF32, which one line at the top of a program turns on."""
    wanted = precision_cases.reduction(spec, DEVICE)
    with precision_cases.multiplying_in("high"):
        assert precision_cases.is_same(precision_cases.reduction(spec, DEVICE), wanted)


@on_cuda
@pytest.mark.parametrize("name", triton_ward_cases.CASES)
def test_kernels_merge_as_the_specification_does(name):
    triton_ward_cases.check(triton_ward_cases.CASES[name], DEVICE)


@on_cuda
def test_tokens_are_projected_by_the_same_signs():
    from vidprune.reducers import triton_ward, ward

    tokens = torch.eye(1024)[None]
    for dtype in DTYPES:
        found = triton_ward.sketch(tokens.to(DEVICE, dtype)).cpu()
        torch.testing.assert_close(found, ward.sketch(tokens), rtol=0, atol=1e-6)


@on_cuda
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("name", "by_kernels"), [("sta", select_by_triton), ("ward", ward_by_triton)]
)
def test_kernels_select_unless_told_otherwise(name, by_kernels, dtype, monkeypatch):
    taken = []

    def seen(*arguments):
        taken.append(arguments)
        return by_kernels(*arguments)

    monkeypatch.setattr(f"vidprune.reducers.{name}.select_by_triton", seen)
    pixels = clips(2).to(DEVICE, dtype)
    for backend, times in (("torch", 0), ("auto", 3), ("triton", 6)):
        pruned = vidprune.prune(tiny_videomae().to(DEVICE, dtype), f"{name}:r=5,backend={backend}")
        with torch.inference_mode():
            assert pruned(pixels).logits.isfinite().all()
        assert len(taken) == times


@on_cuda
def test_kernels_keep_what_torch_keeps_stage_by_stage():
    """Of one forward, with what entered each stage."""
    entered = []

    class Watched(vidprune.STA):
        def choose(self, tokens, signals, layout, stage):
            kept = super().choose(tokens, signals, layout, stage)
            entered.append((kept.cpu(), tokens.float().cpu(), signals.keys.float().cpu(), stage))
            return kept

    pruned = vidprune.prune(tiny_videomae().to(DEVICE, torch.bfloat16), Watched(r=5))
    with torch.inference_mode():
        pruned(clips(2).to(DEVICE, torch.bfloat16))
    assert len(entered) == 3
    for kept, tokens, keys, stage in entered:
        rule = {"groups": stage.groups, "drop": stage.drop, "backward": stage.index % 2 == 1}
        assert_same_selection(kept, tokens, keys, **rule)


@on_cuda
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("int8", torch.float32), ("int8", torch.bfloat16), ("float8", torch.bfloat16)],
    ids=str,
)
def test_layers_in_8_bits_say_nearly_what_others_say(kind, dtype):
    pytest.importorskip("torchao")
    if kind == "float8" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("needs a GPU that multiplies float8")
    model, pixels = tiny_videomae(hidden_size=48), clips(4).to(DEVICE, dtype)
    made = copy.deepcopy(model).to(dtype)
    quantize_blocks(made, kind)
    check_device(made, torch.device(DEVICE))
    with torch.inference_mode():
        wanted = model.to(DEVICE, dtype)(pixels).logits.float()
        found = made.to(DEVICE)(pixels).logits.float()
        assert 0 < (found - wanted).norm() < 0.2 * wanted.norm()
        others = torch.cat([pixels[:1], 50 * pixels[1:]])
        assert torch.equal(made(others).logits[0].float(), found[0])
        assert vidprune.prune(made, "sta:r=5")(pixels).logits.isfinite().all()


@on_cuda
def test_kernels_run_on_a_device_that_is_not_the_current_one():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    with torch.cuda.device(0):
        check(CASES["odd and prime"], "cuda:1", backward=False, score="both")
        triton_ward_cases.check(triton_ward_cases.CASES["odd and prime"], "cuda:1")


@on_cuda
@pytest.mark.parametrize("name", ["sta", "ward"])
def test_kernels_are_captured_in_a_cuda_graph(name):
    torch._dynamo.reset()
    pruned = vidprune.prune(tiny_videomae().to(DEVICE), f"{name}:r=5,backend=triton")
    compiled = torch.compile(pruned, fullgraph=True, mode="reduce-overhead")
    with torch.inference_mode():
        for seed in range(4):
            pixels = clips(2, seed=seed).to(DEVICE)
            wanted = pruned(pixels).logits
            assert torch.allclose(compiled(pixels).logits, wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_pruned_forward_is_that_of_the_cpu(dtype):
    model = tiny_videomae()
    on_cpu = vidprune.prune(model, "random:r=5")(clips(2), return_trace=True)
    pruned = vidprune.prune(tiny_videomae().to(DEVICE, dtype), "random:r=5")
    keys = vidprune.model.pixel_keys(clips(2))
    with torch.inference_mode():
        found = pruned(clips(2).to(DEVICE, dtype), clip_keys=keys, return_trace=True)
    assert all(map(torch.equal, on_cpu.trace.kept, (kept.cpu() for kept in found.trace.kept)))
    loose = 1e-4 if dtype is torch.float32 else 0.1
    assert torch.allclose(found.logits.float().cpu(), on_cpu.logits, atol=loose, rtol=loose)


@pytest.mark.parametrize("reducer", ["sta:r=5", "random:r=5", "ward:r=5"])
def test_it_compiles_as_one_graph(reducer):
    torch._dynamo.reset()
    pruned = vidprune.prune(tiny_videomae().to(DEVICE), reducer)
    pixels = clips(2).to(DEVICE)
    with torch.inference_mode():
        compiled = torch.compile(pruned, fullgraph=True)(pixels).logits
        assert torch.allclose(compiled, pruned(pixels).logits, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("reducer", ["sta:r=5", "ward:r=8"])
def test_a_clip_does_not_depend_on_its_neighbours(reducer):
    protocol = Protocol(sampling="segment", segments=1, crops=1, frames=16, size=64)
    pruned = vidprune.prune(tiny_videomae(), reducer)
    classifier = Classifier(pruned, protocol, batch_size=4, device=torch.device(DEVICE))
    pixels = (clips(4) * 40 + 128).clamp(0, 255).to(torch.uint8)
    keys = torch.arange(4)
    alone = torch.cat([classifier(pixels[i : i + 1], keys[i : i + 1]) for i in range(4)])
    assert torch.equal(classifier(pixels, keys), alone)


@on_cuda
@pytest.mark.slow
@pytest.mark.parametrize("reducer", ["none", "sta:r=3", "random:r=3", "tome:r=3", "ward:r=6"])
@pytest.mark.parametrize("mode", ["cuda-graph", "blocks-replayed"])
def test_a_replayed_forward_says_what_an_eager_one_says(mode, reducer):
    """Of clips that it was not recorded with."""
    torch._dynamo.reset()
    model = vidprune.prune(tiny_videomae().to(DEVICE), reducer)
    keys = torch.arange(2, device=DEVICE)
    eager, replayed = forward_in(model, "eager", keys), forward_in(model, mode, keys)
    with torch.inference_mode():
        for seed in range(4):
            pixels = clips(2, seed=seed).to(DEVICE)
            found, wanted = replayed(pixels).clone(), eager(pixels)
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


@on_cuda
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reducer", ["none", "sta:r=3", "random:r=3", "tome:r=3", "ward:r=6"])
def test_a_classifier_that_replays_answers_as_one_that_does_not(reducer, dtype, compiled):
    """Other clips, and other draws, than those of the recording; and no answer is overwritten."""
    torch._dynamo.reset()
    protocol = Protocol(sampling="segment", segments=1, crops=1, frames=16, size=64)
    pruned = vidprune.prune(tiny_videomae().to(DEVICE, dtype), reducer)
    as_it_stands, replaying = (
        Classifier(
            pruned,
            protocol,
            batch_size=2,
            device=torch.device(DEVICE),
            compiled=compiled,
            replayed=replayed,
        )
        for replayed in (False, True)
    )
    batches = [
        (list((clips(2, seed=seed) * 40 + 128).clamp(0, 255).to(torch.uint8)), [seed, 7 + seed])
        for seed in range(4)
    ]
    wanted = [as_it_stands.start(*batch).cpu() for batch in batches]
    found = [replaying.start(*batch) for batch in batches]
    assert all(torch.equal(each.cpu(), answer) for each, answer in zip(found, wanted, strict=True))


@on_cuda
def test_what_waits_for_the_gpu_is_not_replayed():
    protocol = Protocol(sampling="segment", segments=1, crops=1, frames=16, size=64)
    pruned = vidprune.prune(tiny_videomae(), "run-length:threshold=1.0")
    replaying = Classifier(
        pruned, protocol, batch_size=2, device=torch.device(DEVICE), replayed=True
    )
    pixels = (clips(2) * 40 + 128).clamp(0, 255).to(torch.uint8)
    with pytest.raises(RuntimeError, match="cannot be recorded where something waits"):
        replaying.start(list(pixels), [0, 1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_batches_that_overlap_say_what_each_says_alone(dtype, tmp_path):
    """Copied from pinned memory, and begun before the last is waited for."""
    write_checkpoint(tmp_path / "model")
    write_list(tmp_path, videos=3)
    loaded = vidprune.load(tmp_path / "model", dtype=dtype)
    made = Classifier(
        vidprune.prune(loaded, vidprune.STA(r=4)),
        protocol_for(loaded, ViewOptions()),
        batch_size=2,
        device=torch.device(DEVICE),
    )
    names = [f"{number:02d}.mp4" for number in range(3)]
    asked = [Request(name, tmp_path / name, (0, 1, 2, 3)) for name in names]
    found = list(made.classify(asked, workers=1))
    assert [(each.name, each.view) for each in found] == list(product(names, range(4)))
    for name in names:
        pixels = read_views(tmp_path / name, made.protocol).pixels
        for view in range(4):
            alone = made(pixels[view : view + 1], torch.tensor([clip_key(name, view)]))[0]
            (same,) = (each for each in found if (each.name, each.view) == (name, view))
            assert torch.equal(same.logits, alone)


@on_cuda
@pytest.mark.filterwarnings("error::vidprune.video.ReadByPyAV")
@pytest.mark.parametrize("workers", [0, 2])
def test_videos_that_the_gpu_decodes_lie_there_and_look_alike(workers, tmp_path):
    """Its decoder and its colours may be some levels off, and threads must not mix up videos; nor
    must launches be lost that are recorded meanwhile."""
    try:
        check_decoder("torchcodec", torch.device(DEVICE))
    except ValueError as error:
        pytest.skip(str(error))
    write_checkpoint(tmp_path / "model")
    write_list(tmp_path, videos=6)
    loaded = vidprune.load(tmp_path / "model")
    protocol, device = protocol_for(loaded, ViewOptions()), torch.device(DEVICE)
    asked = [
        Request(f"{number:02d}.mp4", tmp_path / f"{number:02d}.mp4", ()) for number in range(6)
    ]
    found = list(read_requests(asked, protocol, workers, decoder="torchcodec", device=device))
    for request, pixels in found:
        assert pixels.device.type == "cuda"
        off = (pixels.cpu().int() - read_views(request.path, protocol).pixels.int()).abs()
        assert off.float().mean() < 2
        assert off.max() < 16
    made = Classifier(
        vidprune.prune(loaded, vidprune.STA(r=4)),
        protocol,
        batch_size=5,
        device=device,
        replayed=True,
        decoder="torchcodec",
    )
    asked = [replace(each, views=(0, 1, 2, 3)) for each in asked]
    answers = iter(made.classify(asked, workers=workers))
    for request, pixels in found:
        for view in range(4):
            alone = made(pixels[view : view + 1], torch.tensor([clip_key(request.name, view)]))[0]
            assert torch.equal(next(answers).logits, alone)
    assert next(answers, None) is None


@on_cuda
@pytest.mark.parametrize(
    "reducer",
    ["none", "random:r=4", "tome:r=4"]
    + [
        f"{name},backend={backend}"
        for name in ("sta:r=4", "ward:r=6")
        for backend in ("auto", "torch")
    ],
)
def test_a_batch_is_begun_without_waiting_for_the_gpu(reducer):
    """Torch raises where anything does, in what turns decoded clips into logits."""
    protocol = Protocol(sampling="segment", segments=1, crops=1, frames=16, size=64)
    pruned = vidprune.prune(tiny_videomae(), reducer)
    classifier = Classifier(pruned, protocol, batch_size=4, device=torch.device(DEVICE))
    pixels = (clips(4) * 40 + 128).clamp(0, 255).to(torch.uint8)
    # What is worked out once and remembered may wait.
    wanted = classifier.start(list(pixels), range(4)).cpu()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = classifier.start(list(pixels), range(4))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), wanted)


@pytest.mark.parametrize("name", CLASSIFIERS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_embeddings_are_those_of_the_cpu(name, dtype):
    """Patches are projected by products there."""
    model = tiny(name.family, name.grids.usual)
    pixels = torch.randn(2, *adapt(model).clip_shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = adapt(model).embed(pixels)
        project_by_products(model)
        there = copy.deepcopy(model).to(DEVICE, dtype)
        vidprune.prune(there, None)
        found = adapt(there).embed(pixels.to(DEVICE, dtype)).float().cpu()
    loose = 2e-3 if dtype is torch.float32 else 0.03
    torch.testing.assert_close(found, wanted, rtol=loose, atol=loose)
