"""Original files of other models than VideoMAE's classifiers; those are in test_checkpoints.py."""

import json
from pathlib import Path

import pytest
import torch
from transformers import VideoMAEModel

from tiny_checkpoints import CONFIGS, answer, clip_for, tiny
from tiny_videomae import clips, original_layout, tiny_config, tiny_videomae
from vidprune.backbones.checkpoints import load
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


def test_the_family_of_file_and_architecture_must_be_one(tmp_path: Path) -> None:
    torch.save(original_layout(tiny_videomae()), tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match=r"of the family 'videomae', but.*'videoswin'"):
        load(tmp_path / "vit.pth", arch="swin3d_t")
    torch.save(to_torchvision(tiny("videoswin").state_dict()), tmp_path / "swin.pth")
    with pytest.raises(CheckpointError, match=r"of the family 'videoswin', but.*'videomae'"):
        load(tmp_path / "swin.pth", arch="vit_small_patch16_224")


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
