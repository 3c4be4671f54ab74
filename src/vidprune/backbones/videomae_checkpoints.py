"""VideoMAE's original checkpoints: their architectures, their file layout, and the map to ours."""

import copy
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import VideoMAEConfig

from vidprune.backbones.refusals import CheckpointError as CheckpointError

# LayerNorm's epsilon everywhere in the original code; transformers' defaults are 1e-12 and, for
# the norm before the head, 1e-5.
ORIGINAL_EPSILON = 1e-6


class Size(NamedTuple):
    """What the published models differ in; `hidden` is the width of the MLP."""

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int = 16


# Tong et al. 2022, Table 8; ViT-g is VideoMAE V2's (Wang et al. 2023), whose file layout is
# the same.
SIZES = {
    "vit_small_patch16_224": Size(384, 12, 6, 4 * 384),
    "vit_base_patch16_224": Size(768, 12, 12, 4 * 768),
    "vit_large_patch16_224": Size(1024, 24, 16, 4 * 1024),
    "vit_huge_patch16_224": Size(1280, 32, 16, 4 * 1280),
    "vit_giant_patch14_224": Size(1408, 40, 16, 6144, patch=14),
}

_PREFIXES = {
    "patch_embed.proj": "videomae.embeddings.patch_embeddings.projection",
    "norm": "videomae.layernorm",
    "fc_norm": "fc_norm",
    "head": "classifier",
}
_IN_BLOCK = {
    "norm1.weight": "layernorm_before.weight",
    "norm1.bias": "layernorm_before.bias",
    "attn.q_bias": "attention.attention.query.bias",
    "attn.v_bias": "attention.attention.value.bias",
    "attn.proj.weight": "attention.output.dense.weight",
    "attn.proj.bias": "attention.output.dense.bias",
    "norm2.weight": "layernorm_after.weight",
    "norm2.bias": "layernorm_after.bias",
    "mlp.fc1.weight": "intermediate.dense.weight",
    "mlp.fc1.bias": "intermediate.dense.bias",
    "mlp.fc2.weight": "output.dense.weight",
    "mlp.fc2.bias": "output.dense.bias",
}
_LAYER = "videomae.encoder.layer."
_FUSED = ("query", "key", "value")


def with_original_epsilon(config: VideoMAEConfig) -> VideoMAEConfig:
    """A copy that norms as the original code does, where it leaves transformers' default."""
    config = copy.deepcopy(config)
    if config.layer_norm_eps == VideoMAEConfig().layer_norm_eps:
        config.layer_norm_eps = ORIGINAL_EPSILON
    return config


def architecture(name: str, *, num_labels: int = 400) -> VideoMAEConfig:
    """The configuration of one of `SIZES`. Raises ValueError for another name."""
    if name not in SIZES:
        raise ValueError(f"arch={name!r} is not known; choose one of {', '.join(SIZES)}")
    size = SIZES[name]
    return VideoMAEConfig(
        patch_size=size.patch,
        hidden_size=size.width,
        num_hidden_layers=size.depth,
        num_attention_heads=size.heads,
        intermediate_size=size.hidden,
        layer_norm_eps=ORIGINAL_EPSILON,
        num_labels=num_labels,
    )


def to_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Original names to transformers' names; the fused projection is split into its thirds.

    Raises CheckpointError where the tensors are not those of a fine-tuned VideoMAE.
    """
    if "blocks.0.attn.qkv.weight" not in state:
        raise CheckpointError(_what_it_is(state))
    mapped: dict[str, Tensor] = {}
    for name, tensor in state.items():
        mapped.update(_renamed(name, tensor))
    return mapped


def to_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_hugging_face`: a state dict that the original code loads."""
    heads = {theirs: original for original, theirs in _PREFIXES.items()}
    inner = {theirs: original for original, theirs in _IN_BLOCK.items()}
    original: dict[str, Tensor] = {}
    for name, tensor in state.items():
        layer, _, rest = name.removeprefix(_LAYER).partition(".")
        if not name.startswith(_LAYER):
            stem, _, kind = name.rpartition(".")
            original[f"{heads[stem]}.{kind}"] = tensor
        elif rest in inner:
            original[f"blocks.{layer}.{inner[rest]}"] = tensor
        elif rest == _fused_name("query"):
            parts = [state[f"{_LAYER}{layer}.{_fused_name(part)}"] for part in _FUSED]
            original[f"blocks.{layer}.attn.qkv.weight"] = torch.cat(parts)
    return original


def _fused_name(part: str) -> str:
    return f"attention.attention.{part}.weight"


def _renamed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    root, _, rest = name.partition(".")
    if root == "blocks":
        index, _, inner = rest.partition(".")
        layer = f"{_LAYER}{index}"
        if inner == "attn.qkv.weight" and tensor.shape[0] % 3 == 0:
            thirds = zip(_FUSED, tensor.chunk(3), strict=True)
            return {f"{layer}.{_fused_name(part)}": third for part, third in thirds}
        return {f"{layer}.{_IN_BLOCK[inner]}": tensor} if inner in _IN_BLOCK else {name: tensor}
    stem, _, kind = name.rpartition(".")
    return {f"{_PREFIXES[stem]}.{kind}" if stem in _PREFIXES else name: tensor}


def _what_it_is(state: Mapping[str, Tensor]) -> str:
    if "encoder.blocks.0.attn.qkv.weight" in state:
        return (
            "the checkpoint is VideoMAE's pre-training model (it has encoder.blocks...), which has "
            "no classifier; give a fine-tuned checkpoint"
        )
    names = list(state)
    if any(name.startswith("videomae.") for name in names):
        return (
            "the checkpoint has the names of transformers; give the folder that holds it together "
            "with its config.json"
        )
    return (
        f"the checkpoint is not a VideoMAE classifier: blocks.0.attn.qkv.weight is missing, and "
        f"its names are such as {', '.join(names[:3])}"
    )
