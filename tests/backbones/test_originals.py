"""Original files of other models than VideoMAE's classifiers; those are in test_checkpoints.py."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedConfig, VideoMAEModel

from tiny_checkpoints import CONFIGS, answer, clip_for, tiny
from tiny_videomae import clips, original_layout, tiny_config, tiny_videomae
from vidprune.backbones.checkpoints import configuration, load
from vidprune.backbones.refusals import CheckpointError
from vidprune.backbones.videoswin_checkpoints import to_mmaction, to_torchvision


@pytest.mark.parametrize("layout", ["torchvision", "mmaction"])
@pytest.mark.parametrize("head", [True, False])
def test_videoswin_comes_from_either_layout(tmp_path: Path, layout: str, head: bool) -> None:
    model = tiny("videoswin")
    window = model.config.window_size
    if layout == "torchvision":
        torch.save(to_torchvision(model.state_dict(), window=window), tmp_path / "swin.pth")
    else:
        state = to_mmaction(model.state_dict(), window=window)
        torch.save({"meta": {"epoch": 3}, "state_dict": state}, tmp_path / "swin.pth")
    config = CONFIGS["videoswin"](num_labels=400)
    loaded = load(tmp_path / "swin.pth", config=config, head=head)
    pixels = clip_for(model)
    wanted = answer(model if head else model.base_model, pixels)
    assert torch.equal(answer(loaded, pixels), wanted)


def test_a_tensor_that_videoswin_lost_is_named_as_in_the_file(tmp_path: Path) -> None:
    model = tiny("videoswin")
    state = to_torchvision(model.state_dict())
    del state["features.2.0.norm1.bias"]
    torch.save(state, tmp_path / "swin.pth")
    with pytest.raises(
        CheckpointError, match=r"1 tensors are missing: features\.2\.0\.norm1\.bias"
    ):
        load(tmp_path / "swin.pth", config=CONFIGS["videoswin"]())


TABLE = "blocks.0.attn.relative_position_bias_table"
# By layout: how to get there from our names, and what a damaged file lost.
LOST = [
    (to_torchvision, "features.0.0.attn.relative_position_bias_table"),
    (to_torchvision, "patch_embed.proj.weight"),
    (to_torchvision, "norm.weight"),
    (to_mmaction, f"backbone.layers.0.{TABLE}"),
    (to_mmaction, "backbone.patch_embed.proj.weight"),
    (to_mmaction, "backbone.norm.bias"),
    (partial(to_mmaction, norm="norm1"), f"backbone.layers.0.{TABLE}"),
    (partial(to_mmaction, norm="norm1"), "backbone.norm1.weight"),
    (partial(to_mmaction, norm="norm1"), "backbone.norm1.bias"),
]


@pytest.mark.parametrize(("layout", "lost"), LOST)
def test_whatever_one_tensor_videoswin_lost_it_is_named(
    tmp_path: Path, layout: Any, lost: str
) -> None:
    state = layout(tiny("videoswin").state_dict())
    del state[lost]
    torch.save(state, tmp_path / "swin.pth")
    with pytest.raises(CheckpointError, match=f"1 tensors are missing: {re.escape(lost)}; check"):
        load(tmp_path / "swin.pth", config=CONFIGS["videoswin"]())


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_videoswin_of_mmaction_since_1_0_may_have_any_number_of_levels(
    tmp_path: Path, levels: int
) -> None:
    shape = {"depths": (1,) * levels, "num_heads": (2,) * levels}
    model = tiny("videoswin", **shape)
    state = to_mmaction(model.state_dict(), norm=f"norm{levels - 1}", window=(2, 4, 4))
    torch.save({"state_dict": state}, tmp_path / "swin.pth")
    loaded = load(tmp_path / "swin.pth", config=model.config)
    assert torch.equal(answer(loaded, clip_for(model)), answer(model, clip_for(model)))


IMAGES = torch.zeros(12, 3, 4, 4)
NO_VIDEOSWIN: list[tuple[dict[str, Tensor], str]] = [
    (
        to_torchvision(tiny("videoswin").state_dict()) | {"patch_embed.proj.weight": IMAGES},
        "for images",
    ),
    ({"features.0.0.weight": IMAGES, f"features.1.{TABLE[7:]}": torch.zeros(1)}, "for images"),
    ({"patch_embed.proj.weight": IMAGES, f"layers.0.{TABLE}": torch.zeros(1)}, "for images"),
    ({f"layers.0.{TABLE}": torch.zeros(1)}, "Swin backbone alone"),
    (dict(tiny("videoswin").state_dict()), "names of vidprune's own VideoSwin"),
    ({"conv1.weight": torch.zeros(1)}, "not a VideoSwin classifier: neither.*such as conv1.weight"),
]


@pytest.mark.parametrize(("state", "said"), NO_VIDEOSWIN, ids=lambda value: str(value)[2:30])
def test_what_is_to_be_a_videoswin_and_is_none_is_told_so(
    tmp_path: Path, state: dict[str, Tensor], said: str
) -> None:
    torch.save(state, tmp_path / "swin.pth")
    for asked in ({"arch": "swin3d_t"}, {"config": CONFIGS["videoswin"]()}):
        with pytest.raises(CheckpointError, match=said) as error:
            load(tmp_path / "swin.pth", **asked)
        assert "VideoMAE" not in str(error.value)


def test_original_files_of_other_families_are_not_read(tmp_path: Path) -> None:
    torch.save({"embeddings.cls_token": torch.zeros(1)}, tmp_path / "vivit.pth")
    with pytest.raises(CheckpointError, match=r"'vivit', but those are read of the families 'vid"):
        load(tmp_path / "vivit.pth", arch="vivit_b_16x2")


def test_the_family_of_file_and_architecture_must_be_one(tmp_path: Path) -> None:
    torch.save(original_layout(tiny_videomae()), tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match=r"of the family 'videomae', but.*'videoswin'"):
        load(tmp_path / "vit.pth", arch="swin3d_t")
    torch.save(to_torchvision(tiny("videoswin").state_dict()), tmp_path / "swin.pth")
    with pytest.raises(CheckpointError, match=r"of the family 'videoswin', but.*'videomae'"):
        load(tmp_path / "swin.pth", arch="vit_small_patch16_224")


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64], ids=str)
@pytest.mark.parametrize("family", ["videomae", "videoswin"])
def test_weights_that_are_no_floats_are_named(
    tmp_path: Path, family: str, dtype: torch.dtype
) -> None:
    name = {"videomae": "blocks.0.attn.qkv.weight", "videoswin": "features.0.0.attn.qkv.weight"}
    state, config = original(family)
    state[name[family]] = state[name[family]].to(dtype)
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(
        CheckpointError, match=rf"1 tensors .*not of floating.*: {name[family]} {dtype}; give"
    ):
        load(tmp_path / "model.pth", config=config)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_floats_of_other_precision_are_taken(tmp_path: Path, dtype: torch.dtype) -> None:
    state, config = original("videoswin")
    torch.save({name: tensor.to(dtype) for name, tensor in state.items()}, tmp_path / "model.pth")
    loaded = load(tmp_path / "model.pth", config=config)
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", ["sparse", "meta"])
@pytest.mark.parametrize("family", ["videomae", "videoswin"])
def test_tensors_without_plain_values_are_named(tmp_path: Path, family: str, kind: str) -> None:
    name = {"videomae": "blocks.0.attn.qkv.weight", "videoswin": "head.weight"}[family]
    state, config = original(family)
    plain = state[name]
    state[name] = plain.to_sparse() if kind == "sparse" else plain.to("meta")
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=rf"1 tensors without plain.*: {name} \(.*{kind}"):
        load(tmp_path / "model.pth", config=config)


def original(family: str) -> tuple[dict[str, Tensor], PreTrainedConfig]:
    """A state dict of the authors' and the configuration that goes with it."""
    if family == "videomae":
        return dict(original_layout(tiny_videomae())), tiny_config()
    return to_torchvision(tiny("videoswin").state_dict()), CONFIGS["videoswin"]()


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
@torch.no_grad()
def test_an_encoder_is_had_from_a_videomae_with_or_without_a_head(
    tmp_path: Path, prefix: str
) -> None:
    state = original_layout(tiny_videomae())
    bare = {name: tensor for name, tensor in state.items() if "head." not in name}
    for kept in (state, bare):
        torch.save({prefix + name: tensor for name, tensor in kept.items()}, tmp_path / "vit.pth")
        encoder = load(tmp_path / "vit.pth", config=tiny_config(), head=False)
        assert type(encoder) is VideoMAEModel
        wanted = tiny_videomae().videomae(clips(1)).last_hidden_state
        assert torch.equal(encoder(clips(1)).last_hidden_state, wanted)


def test_a_videomae_v2_of_patch_14_fits(tmp_path: Path) -> None:
    shape = {"patch_size": 14, "image_size": 56, "intermediate_size": 105}
    torch.save({"module": original_layout(tiny_videomae(**shape))}, tmp_path / "giant.pth")
    loaded, wanted = (
        load(tmp_path / "giant.pth", config=tiny_config(**shape)),
        tiny_videomae(**shape),
    )
    wanted.fc_norm.eps = 1e-6
    assert torch.equal(answer(loaded, clips(1, size=56)), answer(wanted, clips(1, size=56)))


def test_the_config_of_a_file_decides_by_its_model_type(tmp_path: Path) -> None:
    model = tiny("videoswin")
    torch.save(to_torchvision(model.state_dict()), tmp_path / "swin.pth")
    model.config.save_pretrained(tmp_path)
    loaded = load(tmp_path / "swin.pth", config=tmp_path / "config.json")
    assert torch.equal(answer(loaded, clip_for(model)), answer(model, clip_for(model)))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match=r"of the family 'bert'; the families that can be"):
        load(tmp_path / "swin.pth", config=tmp_path / "config.json")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": ["videoswin"]}))
    with pytest.raises(CheckpointError, match=r"of the family \['videoswin'\]; the families"):
        load(tmp_path / "swin.pth", config=tmp_path / "config.json")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\x80"])
@pytest.mark.parametrize("take", [load, configuration])
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, take: Any, content: str) -> None:
    torch.save(original_layout(tiny_videomae()), tmp_path / "vit.pth")
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"config=.*config\.json' is not the JSON object of a"):
        take(tmp_path / "vit.pth", config=tmp_path / "config.json")
    for none in (tmp_path, tmp_path / "no.json"):
        with pytest.raises(FileNotFoundError, match=r"config=.* is no file; give a model's"):
            take(tmp_path / "vit.pth", config=str(none))
