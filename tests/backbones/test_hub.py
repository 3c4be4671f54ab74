"""Hugging Face folders: every family comes back bit for bit, and what does not fit is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import VideoMAEForPreTraining, VideoMAEModel

from tiny_checkpoints import CONFIGS, answer, clip_for, settled, tiny
from tiny_videomae import clips, original_layout, tiny_config, tiny_videomae
from vidprune.backbones.checkpoints import configuration, load
from vidprune.backbones.families import model_class
from vidprune.backbones.refusals import CheckpointError
from vidprune.backbones.registry import FAMILIES, promises_head
from vidprune.pruned import prune


def assert_same(model: Any, other: Any) -> None:
    assert type(model) is type(other)
    assert model.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(a, other.state_dict()[name]) for name, a in model.state_dict().items())
    pixels = clip_for(other)
    assert torch.equal(answer(settled(model), pixels), answer(other, pixels))


def test_every_family_is_tried() -> None:
    assert CONFIGS.keys() == FAMILIES.keys()


@pytest.mark.parametrize("name", ["nothere.pth", "owner/nothere.safetensors", "nothere.PT"])
def test_the_hub_is_not_asked_for_what_is_the_name_of_a_file(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def asked(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("vidprune.backbones.hub.cached_file", asked)
    for reads in (load, configuration):
        with pytest.raises(FileNotFoundError, match=f"{name} does not exist"):
            reads(name)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("head", [True, False])
def test_a_folder_gives_the_model_that_was_saved(tmp_path: Path, family: str, head: bool) -> None:
    model = tiny(family, head=head)
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert not loaded.training
    assert_same(loaded, model)
    loaded.save_pretrained(tmp_path / "again")
    assert_same(load(tmp_path / "again"), model)


@pytest.mark.parametrize("attention_type", ["divided_space_time", "joint_space_time", "space_only"])
def test_every_kind_of_timesformer_comes_back(tmp_path: Path, attention_type: str) -> None:
    model = tiny("timesformer", attention_type=attention_type)
    model.save_pretrained(tmp_path)
    assert_same(load(tmp_path), model)
    larger = load(tmp_path, frames=4, size=64)
    assert larger.config.num_frames == 4
    assert bool(answer(larger, clip_for(larger)).isfinite().all())


def test_a_head_that_is_insisted_on_must_be_there(tmp_path: Path) -> None:
    model = tiny_videomae(num_labels=0)
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="has no classifier's head, which head=True insists"):
        load(tmp_path, head=True)


@pytest.mark.parametrize("family", CONFIGS)
def test_the_head_can_be_left_out(tmp_path: Path, family: str) -> None:
    model = tiny(family)
    model.save_pretrained(tmp_path)
    encoder = settled(load(tmp_path, head=False))
    assert type(encoder) is model_class(family, head=False)
    pixels = clip_for(model)
    assert torch.equal(answer(encoder, pixels), answer(model.base_model, pixels))
    encoder.save_pretrained(tmp_path / "bare")
    again = settled(load(tmp_path / "bare"))
    assert torch.equal(answer(again, pixels), answer(encoder, pixels))


@pytest.mark.parametrize("family", CONFIGS)
def test_a_head_that_is_not_there_is_not_made_up(tmp_path: Path, family: str) -> None:
    tiny(family, head=False).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"are missing:.*classifier"):
        load(tmp_path, head=True)


@pytest.mark.parametrize("family", CONFIGS)
def test_the_configuration_alone_is_that_of_the_model(tmp_path: Path, family: str) -> None:
    tiny(family).save_pretrained(tmp_path)
    config = configuration(tmp_path)
    assert config.model_type == family
    assert config.num_labels == 5


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("head", [True, False])
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, family: str, head: bool) -> None:
    tiny(family).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    prefix = model_class(family, head=True).base_model_prefix
    lost = next(name for name in state if name.startswith(prefix) and name.endswith(".bias"))
    del state[lost]
    state[f"{prefix}.stranger"] = torch.zeros(3)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 tensors are missing.*1 .*not expected") as error:
        load(tmp_path, head=head)
    assert lost.removeprefix(f"{prefix}.") in str(error.value)
    assert "stranger" in str(error.value)


def test_an_encoder_is_had_from_a_pretraining_folder(tmp_path: Path) -> None:
    shape = {"decoder_hidden_size": 12, "decoder_num_hidden_layers": 1}
    heads = {"decoder_num_attention_heads": 1, "decoder_intermediate_size": 12}
    whole = VideoMAEForPreTraining(tiny_config(**shape, **heads)).eval()
    whole.save_pretrained(tmp_path)
    assert_same(load(tmp_path, head=False), whole.videomae)


def test_labels_have_no_place_without_a_head(tmp_path: Path) -> None:
    tiny("vivit").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"labels holds 5 names.*has no head"):
        load(tmp_path, head=False, labels=list("abcde"))


# VideoMAE V2's own layout.

V2 = {
    "img_size": 64,
    "patch_size": 16,
    "in_chans": 3,
    "num_classes": 0,
    "embed_dim": 24,
    "depth": 6,
    "num_heads": 3,
    "mlp_ratio": 2,
    "qkv_bias": True,
    "layer_norm_eps": 1e-6,
    "init_values": 0.0,
    "use_learnable_pos_emb": False,
    "tubelet_size": 2,
    "use_mean_pooling": True,
    "num_frames": 16,
    "cos_attn": False,
}


def v2_folder(
    folder: Path,
    *,
    change: Callable[[dict[str, Tensor]], object] = lambda state: None,
    **changes: Any,
) -> Path:
    """The tiny VideoMAE as OpenGVLab's repositories have theirs, beside code that must not run."""
    record = {
        "model_type": "VideoMAEv2_Base",
        "architectures": ["VideoMAEv2_Base"],
        "auto_map": {
            "AutoModel": "modeling_videomaev2.VideoMAEv2",
            "AutoConfig": "modeling_config.VideoMAEv2Config",
        },
        "model_config": V2 | changes,
    }
    (folder / "config.json").write_text(json.dumps(record))
    for name in ("modeling_videomaev2", "modeling_config"):
        (folder / f"{name}.py").write_text("raise SystemExit('this code was run')")
    state = original_layout(tiny_videomae())
    state = {f"model.{name}": t for name, t in state.items() if not name.startswith("head.")}
    change(state)
    save_file(state, folder / "model.safetensors")
    return folder


@torch.no_grad()
def test_videomae_v2_gives_normed_features_without_running_its_code(tmp_path: Path) -> None:
    model = load(v2_folder(tmp_path))
    wanted = tiny_videomae()
    wanted.fc_norm.eps = 1e-6
    tokens = wanted.videomae(clips(2)).last_hidden_state
    assert model.config.num_labels == 0
    assert torch.equal(model(clips(2)).logits, wanted.fc_norm(tokens.mean(1)))
    model.save_pretrained(tmp_path / "again")
    again = load(tmp_path / "again")
    assert again.config.num_labels == 0
    assert torch.equal(again(clips(2)).logits, model(clips(2)).logits)


@torch.no_grad()
def test_videomae_v2_without_its_norm_is_an_encoder(tmp_path: Path) -> None:
    encoder = load(v2_folder(tmp_path), head=False)
    assert type(encoder) is VideoMAEModel
    wanted = tiny_videomae().videomae(clips(1)).last_hidden_state
    assert torch.equal(encoder(clips(1)).last_hidden_state, wanted)


@torch.no_grad()
@pytest.mark.parametrize("reducer", [None, "sta:r=1"])
def test_videomae_v2_s_norm_counts_as_the_head_s(tmp_path: Path, reducer: str | None) -> None:
    """The features of both differ by it and by nothing else."""
    folder = v2_folder(tmp_path)
    whole, bare = (prune(load(folder, head=head), reducer) for head in (None, False))
    normed, plain = (model(clips(2)) for model in (whole, bare))
    assert torch.equal(normed.last_hidden_state, plain.last_hidden_state)
    assert torch.equal(normed.pooler_output, whole.fc_norm(plain.pooler_output))
    assert not torch.allclose(normed.pooler_output, plain.pooler_output, atol=0.1)


# Of heads of 8 channels, as JSON may write it.
@pytest.mark.parametrize("scale", [None, 0, 8**-0.5, 0.353553])
def test_the_scale_that_videomae_v2_has_anyway_may_be_written_down(
    tmp_path: Path, scale: float | None
) -> None:
    changed = answer(load(v2_folder(tmp_path, qk_scale=scale)), clips(1))
    assert torch.equal(changed, answer(load(v2_folder(tmp_path)), clips(1)))


def test_videomae_v2_takes_other_clips(tmp_path: Path) -> None:
    model = load(v2_folder(tmp_path), frames=8, size=96)
    assert answer(model, clips(1, frames=8, size=96)).shape == (1, 24)
    assert configuration(tmp_path, frames=8).num_frames == 8


def test_whether_there_is_a_head_is_known_without_the_weights(tmp_path: Path) -> None:
    """VideoMAE V2's layout names a class of its own, and no classes."""
    assert not promises_head(configuration(v2_folder(tmp_path)))
    assert promises_head(configuration("demo"))


def test_the_ratio_of_vit_g_is_rounded(tmp_path: Path) -> None:
    folder = v2_folder(tmp_path, embed_dim=1408, num_heads=16, mlp_ratio=4.3636, patch_size=14)
    assert configuration(folder, size=28).intermediate_size == 6144


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cos_attn": True}, "cos_attn=True, a variant of VideoMAE V2"),
        ({"init_values": 0.1}, "init_values=0.1"),
        ({"qk_scale": 0.5}, "qk_scale=0.5, a variant of VideoMAE V2"),
        ({"qk_scale": "large"}, "qk_scale='large', a variant of VideoMAE V2"),
        ({"change": lambda s: s.pop("model.fc_norm.bias")}, "missing: fc_norm.bias"),
        ({"change": lambda s: s.pop("model.blocks.1.attn.q_bias")}, "blocks.1.attn.q_bias"),
        (
            {"change": lambda s: s.update({"model.blocks.0.gamma_1": torch.zeros(24)})},
            "not expected: blocks.0.gamma_1",
        ),
    ],
)
def test_videomae_v2_that_does_not_fit_is_refused(
    tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        load(v2_folder(tmp_path, **options))


def test_videomae_v2_without_an_entry_or_weights_is_refused(tmp_path: Path) -> None:
    folder = v2_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has a config\.json, but no weights"):
        load(folder)
    record = {"model_type": "VideoMAEv2_Base", "model_config": {"img_size": 64}}
    (folder / "config.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="its model_config lacks patch_size"):
        load(folder)
