"""Loading: the authors' numbers from every layout of file, and refusals by name."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    PreTrainedModel,
    VideoMAEConfig,
    VideoMAEForPreTraining,
    ViTConfig,
    ViTForImageClassification,
)

from tiny_checkpoints import settled
from tiny_videomae import clips, original_layout, tiny_config, tiny_videomae
from vidprune.backbones.checkpoints import load
from vidprune.backbones.positions import interpolated_table
from vidprune.backbones.refusals import CheckpointError
from vidprune.layout import TokenGrid
from vidprune.pruned import prune
from vidprune.reducers.sta import STA

GOLDEN = ("videomae_nano_shared", "videomae_nano_depth8")
Find = Callable[[str], Path]


def golden_config(shape: dict[str, Any]) -> VideoMAEConfig:
    return VideoMAEConfig(
        image_size=shape["image_size"],
        patch_size=shape["patch_size"],
        tubelet_size=shape["tubelet"],
        num_frames=shape["frames"],
        hidden_size=shape["hidden"],
        num_hidden_layers=shape["depth"],
        num_attention_heads=shape["heads"],
        intermediate_size=shape["hidden"] * shape["mlp_ratio"],
        layer_norm_eps=shape["layer_norm_eps"],
    )


def golden_numbers(path: Path) -> tuple[VideoMAEConfig, dict[str, Tensor]]:
    with safe_open(path, "pt") as file:
        numbers = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return golden_config(json.loads(file.metadata()["config"])), numbers


@torch.no_grad()
def assert_meets_golden(model: PreTrainedModel, numbers: dict[str, Tensor]) -> None:
    pixels = numbers["clip"].transpose(1, 2)
    features: list[Tensor] = []
    model.fc_norm.register_forward_hook(lambda _m, _i, out: features.append(out))
    for r in sorted({int(name.split(".")[0][1:]) for name in numbers if name[0] == "r"}):
        output = prune(model, STA(r=r))(pixels, return_trace=True)
        wanted = [kept for name, kept in sorted(numbers.items()) if name.startswith(f"r{r}.kept")]
        for kept, theirs in zip(output.trace.kept, wanted, strict=True):
            assert torch.equal(kept, theirs)
        torch.testing.assert_close(features[-1], numbers[f"r{r}.features"], rtol=0, atol=1e-5)
        torch.testing.assert_close(output.logits, numbers[f"r{r}.logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("layout", ["module", "model", "state_dict", "bare", "safetensors"])
def test_every_layout_of_an_original_file_gives_the_authors_numbers(
    shared: Find, tmp_path: Path, name: str, layout: str
) -> None:
    config, numbers = golden_numbers(shared(f"golden/{name}.safetensors"))
    state = torch.load(shared(f"golden/{name}.pth"), weights_only=True)["module"]
    path = tmp_path / ("file.safetensors" if layout == "safetensors" else "file.pth")
    if layout == "safetensors":
        save_file(state, path)
    else:
        torch.save(state if layout == "bare" else {layout: state, "epoch": 3}, path)
    model = load(path, config=config)
    assert not model.training
    assert model.config.num_labels == 10
    assert_meets_golden(model, numbers)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_model_saved_by_transformers_gives_the_authors_numbers_again(
    shared: Find, tmp_path: Path, name: str
) -> None:
    config, numbers = golden_numbers(shared(f"golden/{name}.safetensors"))
    load(shared(f"golden/{name}.pth"), config=config).save_pretrained(tmp_path)
    assert_meets_golden(load(tmp_path), numbers)


# Original files of our own.


@pytest.fixture
def original(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    state = original_layout(tiny_videomae())
    path = tmp_path / "original.pth"
    torch.save(state, path)
    return path, state


def saved(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, path)
    return path


def test_every_weight_arrives_where_it_belongs(original: tuple[Path, dict[str, Tensor]]) -> None:
    wanted = tiny_videomae().state_dict()
    loaded = load(original[0], config=tiny_config(num_labels=400)).state_dict()
    assert loaded.keys() == wanted.keys()
    assert all(torch.equal(loaded[name], wanted[name]) for name in wanted)


def test_the_config_that_was_given_is_left_alone(original: tuple[Path, dict[str, Tensor]]) -> None:
    config = tiny_config(num_labels=400)
    before = config.to_dict()
    load(original[0], config=config, frames=8, size=32)
    assert config.to_dict() == before


def test_norms_take_the_original_epsilon(original: tuple[Path, dict[str, Tensor]]) -> None:
    shape = tiny_config().to_dict() | {"layer_norm_eps": VideoMAEConfig().layer_norm_eps}
    model = load(original[0], config=VideoMAEConfig(**shape))
    epsilons = {m.eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm)}
    assert epsilons == {1e-6}


@pytest.mark.parametrize(
    "lost",
    ["blocks.1.attn.q_bias", "blocks.0.attn.v_bias", "blocks.5.mlp.fc2.bias", "head.weight"],
)
def test_a_lost_tensor_is_refused_by_its_name_in_the_file(
    original: tuple[Path, dict[str, Tensor]], tmp_path: Path, lost: str
) -> None:
    state = {name: tensor for name, tensor in original[1].items() if name != lost}
    with pytest.raises(CheckpointError, match="1 tensors are missing") as error:
        load(saved(tmp_path / "lost.pth", state), config=tiny_config())
    assert lost in str(error.value)


@pytest.mark.parametrize("extra", ["blocks.0.attn.k_bias", "cls_token", "blocks.6.norm1.weight"])
def test_an_unexpected_tensor_is_refused_by_its_name_in_the_file(
    original: tuple[Path, dict[str, Tensor]], tmp_path: Path, extra: str
) -> None:
    state = original[1] | {extra: torch.zeros(24)}
    with pytest.raises(CheckpointError, match="1 tensors are not expected") as error:
        load(saved(tmp_path / "extra.pth", state), config=tiny_config())
    assert extra in str(error.value)


@pytest.mark.parametrize("name", ["blocks.2.mlp.fc1.weight", "patch_embed.proj.weight"])
def test_a_wrong_shape_is_refused_by_its_name_in_the_file(
    original: tuple[Path, dict[str, Tensor]], tmp_path: Path, name: str
) -> None:
    state = original[1] | {name: torch.zeros(7, 24)}
    with pytest.raises(CheckpointError, match=r"1 tensors have another shape.*\(7, 24\)") as error:
        load(saved(tmp_path / "shape.pth", state), config=tiny_config())
    assert name in str(error.value)


def test_another_architecture_is_refused_and_not_cut_to_fit(
    original: tuple[Path, dict[str, Tensor]],
) -> None:
    with pytest.raises(CheckpointError, match="does not fit the architecture asked for"):
        load(original[0], arch="vit_small_patch16_224")


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({"encoder.blocks.0.attn.qkv.weight": torch.zeros(3)}, "pre-training model"),
        ({"videomae.embeddings.x": torch.zeros(3)}, "names of transformers"),
        ({"conv1.weight": torch.zeros(3)}, "not a VideoMAE classifier.*conv1.weight"),
        ({"epoch": 3}, "holds no state dict"),
        ({}, "holds no state dict"),
        (torch.zeros(3), "holds no state dict"),
    ],
)
def test_a_file_of_something_else_is_refused_by_what_it_is(
    tmp_path: Path, state: Any, sentence: str
) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        load(saved(tmp_path / "other.pth", state), config=tiny_config())


class Touch:
    """Unpickled, it makes a file: what a malicious checkpoint would do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("plain", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, plain: bool) -> None:
    mark, path = tmp_path / "ran", tmp_path / "bad.pth"
    content = {"module": original_layout(tiny_videomae()) | {"x": Touch(mark)}}
    if plain:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load(path, config=tiny_config())
    assert not mark.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02."])
def test_a_broken_file_is_refused_by_its_name(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"broken{suffix} cannot be read"):
        load(path, config=tiny_config())


@pytest.mark.parametrize(
    "options", [{}, {"arch": "vit_small_patch16_224", "config": tiny_config()}]
)
def test_an_original_file_needs_one_word_on_its_size(
    original: tuple[Path, dict[str, Tensor]], options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="give either arch"):
        load(original[0], **options)


def test_an_unknown_architecture_lists_the_known(original: tuple[Path, dict[str, Tensor]]) -> None:
    with pytest.raises(ValueError, match="arch='vit_tiny' is not known; choose one of vit_small"):
        load(original[0], arch="vit_tiny")


@pytest.mark.parametrize("options", [{"arch": "vit_small_patch16_224"}, {"config": tiny_config()}])
def test_a_missing_file_is_said_to_be_missing(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth does not exist"):
        load(tmp_path / "nowhere.pth", **options)


def test_a_missing_path_is_not_taken_for_a_hub_id(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth does not exist"):
        load(tmp_path / "nowhere.pth")


# Architectures by name.


def test_an_architecture_alone_has_random_weights_the_same_in_every_process() -> None:
    torch.manual_seed(1)
    first = load("vit_small_patch16_224")
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = load("vit_small_patch16_224")
    assert torch.equal(before, torch.get_rng_state())
    assert (first.config.num_labels, first.fc_norm.eps) == (400, 1e-6)
    layers = [model.videomae.encoder.layer for model in (first, second)]
    assert torch.equal(*(layer[0].output.dense.weight for layer in layers))
    assert not torch.equal(layers[0][0].output.dense.weight, layers[0][1].output.dense.weight)


# Labels, dtype, clips of another size.


def test_labels_name_the_classes(original: tuple[Path, dict[str, Tensor]]) -> None:
    model = load(original[0], config=tiny_config(), labels=list("abcde"))
    assert model.config.id2label == dict(enumerate("abcde"))
    assert model.config.label2id["e"] == 4
    with pytest.raises(ValueError, match=r"labels holds 2 names.*5 classes"):
        load(original[0], config=tiny_config(), labels=["a", "b"])


def test_dtype_is_the_one_asked_for(original: tuple[Path, dict[str, Tensor]]) -> None:
    model = load(original[0], config=tiny_config(), dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize(("frames", "size"), [(8, 64), (32, 64), (16, 96), (8, 32), (6, 48)])
@torch.no_grad()
def test_other_clips_run_with_the_table_stretched(
    original: tuple[Path, dict[str, Tensor]], tmp_path: Path, frames: int, size: int
) -> None:
    model = load(original[0], config=tiny_config(), frames=frames, size=size)
    pixels = clips(1, frames=frames, size=size)
    dense = tiny_videomae()
    table = interpolated_table(
        dense.videomae.embeddings.position_embeddings,
        source=TokenGrid(frames=8, rows=4, columns=4),
        target=TokenGrid(frames=frames // 2, rows=size // 16, columns=size // 16),
    )
    given = model.videomae.embeddings.position_embeddings
    torch.testing.assert_close(given, table, rtol=0, atol=1e-6)
    assert prune(model, STA(r=1))(pixels).logits.shape == (1, 5)
    model.save_pretrained(tmp_path / "resized")
    again = settled(load(tmp_path / "resized"))
    assert torch.equal(again(pixels).logits, model(pixels).logits)


@torch.no_grad()
def test_a_resized_model_resized_back_is_the_first(
    original: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    load(original[0], config=tiny_config(), frames=8, size=96).save_pretrained(tmp_path / "there")
    back = load(tmp_path / "there", frames=16, size=64)
    first = load(original[0], config=tiny_config())
    torch.testing.assert_close(back(clips(1)).logits, first(clips(1)).logits)


@torch.no_grad()
def test_recomputed_positions_are_those_of_the_new_size_and_outlive_saving(
    original: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    model = load(original[0], config=tiny_config(), size=96, positions="recompute")
    theirs = tiny_videomae(image_size=96).videomae.embeddings.position_embeddings
    assert torch.equal(model.videomae.embeddings.position_embeddings, theirs)
    model.save_pretrained(tmp_path / "recomputed")
    pixels = clips(1, size=96)
    again = settled(load(tmp_path / "recomputed"))
    assert torch.equal(again(pixels).logits, model(pixels).logits)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"frames": 7}, "frames=7 must be a positive multiple of 2, the model's tubelet size"),
        ({"frames": 0}, "frames=0 must be a positive multiple of 2"),
        ({"size": 100}, "size=100 must be a positive multiple of 16, the model's patch size"),
        ({"positions": "learned"}, "positions='learned' is not known; choose one of"),
    ],
)
def test_clips_that_the_model_cannot_take_are_refused(
    original: tuple[Path, dict[str, Tensor]], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        load(original[0], config=tiny_config(), **options)


# Folders of transformers.


@torch.no_grad()
def test_a_transformers_folder_gives_its_own_logits(tmp_path: Path) -> None:
    model = tiny_videomae(layer_norm_eps=1e-12)
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert loaded.fc_norm.eps == 1e-5
    assert torch.equal(loaded(clips(2)).logits, model(clips(2)).logits)


def test_normalisation_is_read_from_the_processor(tmp_path: Path) -> None:
    tiny_videomae().save_pretrained(tmp_path)
    record = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3], "size": 4}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(record))
    config = load(tmp_path).config
    assert (config.image_mean, config.image_std) == ([0.1, 0.2, 0.3], [1, 2, 3])


def resaved(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """The tiny model's folder with its tensors changed."""
    model = tiny_videomae()
    model.save_pretrained(folder)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


QUERY_BIAS = "videomae.encoder.layer.1.attention.attention.query.bias"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: state.pop(QUERY_BIAS), f"1 tensors are missing: {QUERY_BIAS}"),
        (lambda state: state.update(cls_token=torch.zeros(3)), "not expected: cls_token"),
        (lambda state: state.update({QUERY_BIAS: torch.zeros(3)}), f"another shape: {QUERY_BIAS}"),
    ],
)
def test_a_folder_that_does_not_fit_its_config_is_refused_by_name(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], sentence: str
) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        load(resaved(tmp_path, change))


def test_a_pretraining_folder_is_refused(tmp_path: Path) -> None:
    shape = {"decoder_hidden_size": 12, "decoder_num_hidden_layers": 1}
    heads = {"decoder_num_attention_heads": 1, "decoder_intermediate_size": 12}
    VideoMAEForPreTraining(tiny_config(**shape, **heads)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"are missing: classifier.bias, classifier.weight"):
        load(tmp_path)


def test_another_family_is_named(tmp_path: Path) -> None:
    shape = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 1}
    shape |= {"intermediate_size": 12, "image_size": 32}
    ViTForImageClassification(ViTConfig(**shape)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"of the family 'vit'.*are: videomae, vivit, vjepa2"):
        load(tmp_path)


@pytest.mark.parametrize("options", [{"arch": "vit_small_patch16_224"}, {"config": tiny_config()}])
def test_a_folder_says_its_own_size(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is a folder"):
        load(tmp_path, **options)


def test_a_folder_without_a_config_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is a folder with no config\.json"):
        load(tmp_path)


def test_a_folder_without_weights_is_refused_in_a_sentence(tmp_path: Path) -> None:
    tiny_config().save_pretrained(tmp_path)
    with pytest.raises((CheckpointError, FileNotFoundError), match=str(tmp_path)):
        load(tmp_path)
