"""Layers in 8 bits: torchao's, in the blocks and nowhere else, against rounding by hand."""

import copy
import pickle
import sys
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

import vidprune
from comparator import assert_same_selection
from matrix import FAMILIES
from tiny_models import tiny
from tiny_videomae import clips, tiny_videomae
from vidprune import cli
from vidprune.backbones import quantized as module
from vidprune.backbones.onednn import OneDNNLinear, use_onednn
from vidprune.backbones.quantized import block_layers, check_device, quantize_blocks, quantized_as
from vidprune.backbones.registry import adapt
from vidprune.benchmarking.account import account
from vidprune.cli.classifiers import assembly_of
from vidprune.cli.options import QUANTIZE
from vidprune.commands import benchmark as benchmark_module
from vidprune.commands.benchmark import Plan, subjects

needs_torchao = pytest.mark.skipif(
    not module.has_torchao(), reason="needs torchao: vidprune[quantize]"
)
NEWER = "needs a GPU of compute capability 8.9 or more"
# In VideoSwin's first level, whose usual width in tests is 12.
CHANGES = {"videoswin": {"embed_dim": 16, "num_heads": (2, 4, 4)}}


def plain(family: str) -> Any:
    return tiny(family, FAMILIES[family].grids.usual, **CHANGES.get(family, {}))


def in_int8(model: Any) -> Any:
    made = copy.deepcopy(model)
    quantize_blocks(made, "int8")
    return made


def layers_in_8_bits(model: Any) -> list[nn.Linear]:
    layers = [each for each in model.modules() if isinstance(each, nn.Linear)]
    return [each for each in layers if type(each.weight).__name__ == "Int8Tensor"]


def clips_for(model: Any) -> Tensor:
    return torch.randn(3, *adapt(model).clip_shape, generator=torch.Generator().manual_seed(0))


def steps(values: Tensor) -> Tensor:
    """Of the 256 steps over twice the largest number of each row, (..., 1) float64."""
    return values.double().abs().amax(-1, keepdim=True) / 127.5


def most(values: Tensor, weight: Tensor) -> Tensor:
    """How far a product of rounded values (..., C) and weights (D, C) is from that of the others.

    x' w' - x w = (x' - x) w + x (w' - w) + (x' - x) (w' - w), where each number moves by half a
    step at most: the positive end too, which lies there, half a step beyond the last of 127.
    """
    of_values, of_weight = steps(values) / 2, steps(weight)[:, 0] / 2
    sums = values.double().abs().sum(-1, keepdim=True), weight.double().abs().sum(-1)
    both = values.shape[-1] * of_values * of_weight
    return of_values * sums[1] + sums[0] * of_weight + both


# --- models -------------------------------------------------------------------------------------


@needs_torchao
@pytest.mark.parametrize("family", sorted(FAMILIES))
@torch.no_grad()
def test_blocks_are_in_8_bits_and_nothing_else(family):
    model = plain(family)
    inside = set(map(id, block_layers(model)))
    made = copy.deepcopy(model)
    before = {name: type(each) for name, each in model.named_modules()}
    quantize_blocks(made, "int8")
    assert len(inside) >= 4 * adapt(model).depth
    for (name, ours), theirs in zip(model.named_modules(), made.modules(), strict=True):
        assert type(theirs) is before[name]
        if isinstance(ours, nn.Linear):
            found = type(theirs.weight).__name__
            assert found == ("Int8Tensor" if id(ours) in inside else "Parameter"), name


@needs_torchao
@pytest.mark.parametrize("family", sorted(FAMILIES))
@torch.no_grad()
def test_every_product_is_off_by_no_more_than_rounding_is(family):
    """And logits by what some 30 layers come to, each of which moves its output by a hundredth:
    sqrt(2) * largest over usual number (3) / 127.5 / sqrt(12)."""
    model = plain(family)
    made, pixels, off = in_int8(model), clips_for(model), []
    for layer, quantized in zip(block_layers(model), layers_in_8_bits(made), strict=True):

        def look(_, given, output, layer=layer):
            bias = 0 if layer.bias is None else layer.bias.double()
            exact = linear(given[0].double(), layer.weight.double()) + bias
            distance = (output.double() - exact).abs()
            assert (distance <= 1.001 * most(given[0], layer.weight) + 1e-6).all()
            off.append(distance.max())

        quantized.register_forward_hook(look)
    dense, found = model(pixels).logits, made(pixels).logits
    assert len(off) >= len(block_layers(model))
    assert min(off) > 1e-4, "nothing was rounded"
    assert 0 < (found - dense).norm() < 0.2 * dense.norm()


@needs_torchao
@torch.no_grad()
def test_what_stays_is_what_its_own_tokens_and_keys_say():
    entered = []

    class Watched(vidprune.STA):
        def choose(self, tokens, signals, layout, stage):
            kept = super().choose(tokens, signals, layout, stage)
            entered.append((kept, tokens, signals.keys, stage))
            return kept

    made = in_int8(tiny_videomae())
    vidprune.prune(made, Watched(r=5))(clips(2))
    assert len(entered) == 3
    for kept, tokens, keys, stage in entered:
        rule = {"groups": stage.groups, "drop": stage.drop, "backward": stage.index % 2 == 1}
        assert_same_selection(kept, tokens, keys, **rule)


@needs_torchao
@pytest.mark.parametrize("reducer", [None, "sta:r=5"])
@torch.no_grad()
def test_a_clip_s_answer_does_not_depend_on_its_neighbours(reducer):
    pruned = vidprune.prune(in_int8(tiny_videomae()), reducer)
    pixels = clips(4)
    order = torch.tensor([2, 3, 1, 0])
    assert torch.equal(pruned(pixels[order]).logits, pruned(pixels).logits[order])
    others = torch.cat([pixels[:1], 100 * pixels[1:]])
    assert torch.equal(pruned(others).logits[0], pruned(pixels).logits[0])


@needs_torchao
@torch.no_grad()
def test_nothing_dropped_is_the_model_itself_whenever_it_was_pruned():
    made, pixels = tiny_videomae(), clips(2)
    pruned_before = vidprune.prune(made, "sta:r=5")
    quantize_blocks(made, "int8")
    wanted = made(pixels).logits
    assert torch.equal(vidprune.prune(made, "sta:r=0")(pixels).logits, wanted)
    after = vidprune.prune(made, "sta:r=5")(pixels).logits
    assert torch.equal(pruned_before(pixels).logits, after)


@needs_torchao
@torch.no_grad()
def test_layers_in_8_bits_are_torchao_s_whatever_onednn_takes():
    ours, both = in_int8(tiny_videomae()), tiny_videomae()
    use_onednn(both)
    quantize_blocks(both, "int8")
    assert {type(each) for each in layers_in_8_bits(both)} == {OneDNNLinear}
    (layer, other) = (each.videomae.encoder.layer[0].output.dense for each in (ours, both))
    values = torch.randn(3, layer.in_features)
    assert torch.equal(layer(values), other(values))


@needs_torchao
@torch.no_grad()
def test_it_can_be_copied_and_sent_and_not_saved(tmp_path):
    made, pixels = in_int8(tiny_videomae()), clips(2)
    wanted = made(pixels).logits
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert torch.equal(again(pixels).logits, wanted)
        assert quantized_as(again) == "int8"
    for each in (made, vidprune.prune(made, "sta:r=5")):
        with pytest.raises(ValueError, match="has layers in 8 bits, which are not saved; save the"):
            each.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


@needs_torchao
@torch.no_grad()
def test_an_account_books_its_products_as_linear():
    spent = account(vidprune.prune(in_int8(tiny_videomae()), None), clips(2))
    assert spent["linear"] > 0


@needs_torchao
def test_what_holds_for_the_whole_process_stays_as_it_was():
    import torch._inductor.config as compiler

    before = torch.get_float32_matmul_precision(), compiler.save_config_portable()
    in_int8(tiny_videomae())
    assert (torch.get_float32_matmul_precision(), compiler.save_config_portable()) == before


@needs_torchao
@torch.no_grad()
def test_float8_is_rounded_by_token_and_row(monkeypatch):
    """On a CPU, which multiplies it too, if slowly; of GPUs it says nothing."""
    monkeypatch.setattr(module, "_check_capability", lambda device: None)
    monkeypatch.setattr("torchao.quantization.quant_api._check_hardware_support", lambda by: None)
    model = tiny_videomae(hidden_size=48).to(torch.bfloat16)
    pixels = clips(2).to(torch.bfloat16)
    dense = model(pixels).logits
    quantize_blocks(model, "float8")
    assert quantized_as(model) == "float8"
    assert {type(each.weight).__name__ for each in model.videomae.encoder.modules()
            if isinstance(each, nn.Linear)} == {"Float8Tensor"}  # fmt: skip
    found = model(pixels).logits
    # Three bits of mantissa, to bfloat16's seven.
    assert 0 < (found - dense).float().norm() < 0.2 * dense.float().norm()
    assert torch.equal(model(torch.cat([pixels[:1], 50 * pixels[1:]])).logits[0], found[0])


# --- asked for ----------------------------------------------------------------------------------


@needs_torchao
def test_load_takes_it_when_asked_and_says_so():
    assert quantized_as(vidprune.load("demo")) is None
    assert quantized_as(vidprune.load("demo", quantize="int8")) == "int8"
    half = vidprune.load("demo", quantize="int8", dtype=torch.bfloat16)
    assert (quantized_as(half), half.dtype) == ("int8", torch.bfloat16)


@needs_torchao
def test_other_people_s_weights_are_named_as_they_are():
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    model = tiny_videomae()
    quantize_(model.videomae.encoder, Int8WeightOnlyConfig(set_inductor_config=False))
    assert quantized_as(model) == "Int8Tensor"


@needs_torchao
def test_a_device_that_does_not_multiply_it_is_refused():
    made = in_int8(tiny_videomae())
    check_device(made, torch.device("cpu"))
    check_device(tiny_videomae(), torch.device("mps"))
    with pytest.raises(ValueError, match="quantize='int8' is for cpu and cuda, not mps"):
        check_device(made, torch.device("mps"))


@needs_torchao
def test_layers_of_odd_sides_are_refused_and_left_as_they_are():
    model = tiny_videomae(intermediate_size=50)
    with pytest.raises(ValueError, match="multiples of 8, and the model has one of 50 by 24"):
        quantize_blocks(model, "int8")
    assert quantized_as(model) is None


@needs_torchao
def test_older_processors_get_7_bits(monkeypatch):
    monkeypatch.setattr("torchao.utils._cpu_is_vnni_supported", lambda: False)
    made = in_int8(tiny_videomae())
    assert block_weights(made).abs().max() <= 64


def block_weights(model: Any) -> Tensor:
    return model.videomae.encoder.layer[0].output.dense.weight.qdata.int()


def test_another_name_is_refused():
    with pytest.raises(ValueError, match="quantize='int4' is not known; choose one of int8, float"):
        vidprune.load("demo", quantize="int4")


def test_without_torchao_it_is_refused(monkeypatch):
    def nowhere(name):
        raise PackageNotFoundError(name)

    for version in (nowhere, lambda name: "0.17.1", lambda name: "unknown"):
        monkeypatch.setattr(module, "version", version)
        with pytest.raises(ValueError, match=r"torchao 0.18 or later; pip install 'vidprune\[quan"):
            vidprune.load("demo", quantize="int8")


@needs_torchao
def test_float8_without_such_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"{NEWER} .*, and there is none here; choose int8"):
        vidprune.load("demo", quantize="float8", dtype=torch.bfloat16)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an A100")
    with pytest.raises(ValueError, match=f"{NEWER} .*, and an A100 has 8.0; choose int8"):
        vidprune.load("demo", quantize="float8", dtype=torch.bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with pytest.raises(ValueError, match="is for models in bfloat16, and this one is in float32"):
        vidprune.load("demo", quantize="float8")


def test_commands_know_the_same_names():
    assert QUANTIZE == module.QUANTIZATIONS


@pytest.mark.parametrize("verb", ["predict", "embed", "evaluate", "agreement"])
def test_commands_that_load_a_model_ask_for_it(verb):
    given = {
        "predict": ["clip.mp4"],
        "embed": ["clip.mp4", "--output", "vectors"],
        "evaluate": ["--data", "test.csv", "--output", "run"],
        "agreement": ["clip.mp4", "--reducer", "sta:r=16"],
    }[verb]
    asked = [verb, *given, "--model", "demo"]
    assert assembly_of(cli.parser().parse_args([*asked, "--quantize", "int8"])).quantize == "int8"
    assert assembly_of(cli.parser().parse_args(asked)).quantize is None


@needs_torchao
def test_a_benchmark_has_dense_and_pruned_models_in_8_bits():
    plan = Plan(models=("demo",), reducers=("sta:r=16",), alternatives=False, quantize="int8")
    made = benchmark_module._models(plan, subjects(plan, "demo"), "fp32", torch.device("cpu"))
    assert [quantized_as(each) for each in made.values()] == ["int8", "int8"]


@torch.no_grad()
def test_nothing_of_torchao_is_needed_where_nobody_asks(monkeypatch):
    for name in ("torchao", "torchao.quantization", "torchao.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    pruned = vidprune.prune(vidprune.load("demo"), "sta:r=16")
    assert quantized_as(pruned) is None
    check_device(pruned, torch.device("cpu"))


@needs_torchao
def test_a_command_takes_it(tmp_path, capsys):
    from vidprune.demo.clips import write_clips

    write_clips(tmp_path, per_class=1)
    clip = str(next(tmp_path.glob("growing/*.mp4")))
    given = ["predict", clip, "--model", "demo", "--reducer", "sta:r=16", "--workers", "0"]
    assert cli.main([*given, "--quantize", "int8"]) == 0
    assert "growing" in capsys.readouterr().out
