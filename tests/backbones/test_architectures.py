"""Architectures by name: the published shapes, and weights that are always the same."""

import copy

import pytest
import torch

from tiny_checkpoints import CONFIGS, answer, clip_for
from vidprune.backbones.architectures import (
    ARCHITECTURES,
    architecture,
    next_smaller,
    with_random_weights,
)
from vidprune.backbones.checkpoints import configuration, load
from vidprune.backbones.families import model_class
from vidprune.backbones.registry import FAMILIES, shape_of


def test_the_videomaes_are_the_published_ones() -> None:
    sizes = {
        name: (c.hidden_size, c.num_hidden_layers, c.num_attention_heads, c.intermediate_size)
        for name, c in ((name, architecture(name)) for name in ARCHITECTURES)
        if c.model_type == "videomae"
    }
    assert sizes == {
        "vit_small_patch16_224": (384, 12, 6, 1536),
        "vit_base_patch16_224": (768, 12, 12, 3072),
        "vit_large_patch16_224": (1024, 24, 16, 4096),
        "vit_huge_patch16_224": (1280, 32, 16, 5120),
        "vit_giant_patch14_224": (1408, 40, 16, 6144),
    }
    assert architecture("vit_giant_patch14_224").patch_size == 14


def test_every_family_has_an_architecture_with_its_own_clips_and_classes() -> None:
    configs = {name: architecture(name) for name in ARCHITECTURES}
    shapes = {name: shape_of(config).clip_shape for name, config in configs.items()}
    clips = {
        name: (frames, size, configs[name].num_labels)
        for name, (frames, _, size, _) in shapes.items()
    }
    assert {config.model_type for config in configs.values()} == set(FAMILIES)
    assert {name: clip for name, clip in clips.items() if not name.startswith("vit_")} == {
        "vivit_b_16x2": (32, 224, 400),
        "vjepa2_vitl_fpc16_256": (16, 256, 174),
        "timesformer_base_8x224": (8, 224, 400),
        "videoprism_base": (16, 288, 400),
        "swin3d_t": (32, 224, 400),
        "swin3d_s": (32, 224, 400),
        "swin3d_b": (32, 224, 400),
        "swin3d_b_ssv2": (32, 224, 174),
    }


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # Millions, as the papers round them.
        ("vit_small_patch16_224", pytest.approx(22, rel=0.01)),
        ("vit_base_patch16_224", pytest.approx(87, rel=0.01)),
        ("vit_large_patch16_224", pytest.approx(305, rel=0.01)),
        ("vit_huge_patch16_224", pytest.approx(633, rel=0.01)),
        ("vit_giant_patch14_224", pytest.approx(1000, rel=0.02)),
        ("timesformer_base_8x224", pytest.approx(121.4, rel=0.01)),
        # To the last one, as torchvision counts them.
        ("swin3d_t", 28.158070),
        ("swin3d_s", 49.816678),
        ("swin3d_b", 88.048984),
    ],
)
def test_models_are_as_large_as_the_published_ones(name: str, parameters: float) -> None:
    config = architecture(name)
    with torch.device("meta"):
        model = model_class(config.model_type, head=True)(config)
    count = sum(weight.numel() for weight in model.parameters()) / 1e6
    assert round(count, 6) == parameters


def test_another_number_of_classes_can_be_asked_for() -> None:
    assert architecture("vivit_b_16x2", num_labels=3).num_labels == 3
    assert architecture("vit_small_patch16_224", num_labels=3).num_labels == 3


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"arch='vit_tiny' is not known; .*vivit_b_16x2.*swin3d_t"):
        architecture("vit_tiny")


@pytest.mark.parametrize(
    ("name", "smaller"),
    [
        ("vit_small_patch16_224", None),
        ("vit_base_patch16_224", "vit_small_patch16_224"),
        ("vit_giant_patch14_224", "vit_huge_patch16_224"),
        ("swin3d_t", None),
        ("swin3d_b", "swin3d_s"),
        ("vivit_b_16x2", None),
        ("some/checkpoint", None),
    ],
)
def test_the_next_smaller_is_of_the_same_family(name: str, smaller: str | None) -> None:
    assert next_smaller(name) == smaller


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("head", [True, False])
def test_random_weights_are_the_same_in_every_process(family: str, head: bool) -> None:
    config = CONFIGS[family]()
    before = config.to_dict()
    torch.manual_seed(1)
    first = with_random_weights(config, head=head)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = with_random_weights(copy.deepcopy(config), head=head)
    assert torch.equal(state, torch.get_rng_state())
    assert type(first) is model_class(family, head=head)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert config.to_dict() == before
    assert answer(first.eval(), clip_for(first)).isfinite().all()


IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
NORMALISATION = {
    "videomae": IMAGENET,
    "vivit": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    "vjepa2": IMAGENET,
    "timesformer": ([0.45, 0.45, 0.45], [0.225, 0.225, 0.225]),
    "videoprism_vision_model": ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
    "videoswin": IMAGENET,
}


@pytest.mark.parametrize("family", CONFIGS)
def test_the_familys_normalisation_is_recorded(family: str) -> None:
    config = with_random_weights(CONFIGS[family]()).config
    assert (config.image_mean, config.image_std) == NORMALISATION[family]
    own = with_random_weights(CONFIGS[family](image_mean=[0.1] * 3, image_std=[0.2] * 3)).config
    assert (own.image_mean, own.image_std) == ([0.1] * 3, [0.2] * 3)


def test_an_architecture_takes_a_shape_of_its_own_and_other_clips() -> None:
    model = load("vivit_b_16x2", config=CONFIGS["vivit"](), frames=4, size=48)
    assert answer(model, clip_for(model)).shape == (1, 5)
    bare = load("swin3d_t", config=CONFIGS["videoswin"](), head=False, frames=3, size=50)
    assert answer(bare, clip_for(bare)).ndim == 3
    assert configuration("vjepa2_vitl_fpc16_256", frames=8, size=128).crop_size == 128
