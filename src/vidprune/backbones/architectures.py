"""Architectures by name, and models of them with random weights."""

import copy
from collections.abc import Callable
from functools import partial

import torch
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    TimesformerConfig,
    VideoPrismVisionConfig,
    VivitConfig,
    VJEPA2Config,
)

from vidprune.backbones import videomae_checkpoints, videoswin_checkpoints
from vidprune.backbones.families import model_class
from vidprune.backbones.normalisation import complete
from vidprune.backbones.videomae_checkpoints import ORIGINAL_EPSILON


def _vivit() -> VivitConfig:
    # google/vivit-b-16x2-kinetics400: transformers' defaults.
    return VivitConfig(num_labels=400)


def _vjepa2() -> VJEPA2Config:
    # facebook/vjepa2-vitl-fpc16-256-ssv2: transformers' defaults but for frames and classes.
    return VJEPA2Config(frames_per_clip=16, crop_size=256, num_pooler_layers=3, num_labels=174)


def _timesformer() -> TimesformerConfig:
    # facebook/timesformer-base-finetuned-k400: transformers' defaults.
    return TimesformerConfig(num_frames=8, attention_type="divided_space_time", num_labels=400)


def _videoprism() -> VideoPrismVisionConfig:
    # google/videoprism-base-f16r288, an encoder: transformers' defaults; classes of Kinetics-400.
    return VideoPrismVisionConfig(num_labels=400)


# Each with its own number of classes.
ARCHITECTURES: dict[str, Callable[[], PreTrainedConfig]] = {
    **{
        name: partial(videomae_checkpoints.architecture, name)
        for name in videomae_checkpoints.SIZES
    },
    "vivit_b_16x2": _vivit,
    "vjepa2_vitl_fpc16_256": _vjepa2,
    "timesformer_base_8x224": _timesformer,
    "videoprism_base": _videoprism,
    **{
        name: partial(videoswin_checkpoints.architecture, name)
        for name in videoswin_checkpoints.SIZES
    },
}

# The next smaller one that takes the same clips.
_SMALLER = {
    "vit_base_patch16_224": "vit_small_patch16_224",
    "vit_large_patch16_224": "vit_base_patch16_224",
    "vit_huge_patch16_224": "vit_large_patch16_224",
    "vit_giant_patch14_224": "vit_huge_patch16_224",
    "swin3d_s": "swin3d_t",
    "swin3d_b": "swin3d_s",
    "swin3d_b_ssv2": "swin3d_s",
}


def architecture(name: str, *, num_labels: int | None = None) -> PreTrainedConfig:
    """The configuration of one of `ARCHITECTURES`, with its own number of classes or another.

    Raises ValueError for another name.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"arch={name!r} is not known; choose one of {', '.join(ARCHITECTURES)}")
    config = ARCHITECTURES[name]()
    if num_labels is not None:
        config.num_labels = num_labels
    return config


def next_smaller(name: str) -> str | None:
    """The next smaller architecture of the family; None for the smallest and for checkpoints."""
    return _SMALLER.get(name)


def with_random_weights(config: PreTrainedConfig, *, head: bool = True) -> PreTrainedModel:
    """A model with weights that are the same in every process and every run.

    `head` says whether it is a classifier or the bare encoder. Its config is a copy that also
    records the family's normalisation. The caller's random numbers are left alone.
    """
    config = copy.deepcopy(config)
    complete(config)
    if config.model_type == "videomae":
        config.fc_norm_eps = ORIGINAL_EPSILON
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model_class(config.model_type, head=head)(config)
