"""VideoMAE's original checkpoints: their architectures, their file layout, and the map to ours."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import VideoMAEConfig

# LayerNorm's epsilon everywhere in the original code; transformers' defaults are 1e-12 and, for
# the norm before the head, 1e-5.
ORIGINAL_EPSILON = 1e-6

# Width, blocks, heads; the MLP is four times as wide (Tong et al. 2022, Table 8).
ARCHITECTURES = {
    "vit_small_patch16_224": (384, 12, 6),
    "vit_base_patch16_224": (768, 12, 12),
    "vit_large_patch16_224": (1024, 24, 16),
    "vit_huge_patch16_224": (1280, 32, 16),
}

_PREFIXES = {
    "patch_embed.proj": "videomae.embeddings.patch_embeddings.projection",
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


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be loaded as asked; the message names what is wrong with it."""


def architecture(name: str, *, num_labels: int = 400) -> VideoMAEConfig:
    """The configuration of one of `ARCHITECTURES`. Raises ValueError for another name."""
    if name not in ARCHITECTURES:
        raise ValueError(f"arch={name!r} is not known; choose one of {', '.join(ARCHITECTURES)}")
    width, depth, heads = ARCHITECTURES[name]
    return VideoMAEConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        layer_norm_eps=ORIGINAL_EPSILON,
        num_labels=num_labels,
    )


def read_original(path: Path) -> dict[str, Tensor]:
    """The state dict of a `.pth` or `.safetensors` file: under `module`, `model`, or bare.

    Nothing in the file is executed. Raises CheckpointError where it holds no tensors by name.
    """
    state = _read(path)
    for wrapper in ("module", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not state or not _all_tensors(state):
        raise CheckpointError(
            f"{path} holds no state dict (tensors by name, bare or under 'module' or 'model'); "
            "give a VideoMAE checkpoint"
        )
    return dict(state)


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


def _read(path: Path) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A broken file makes an unpickler raise almost anything.
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint of tensors ({type(error).__name__}); it is "
            "broken or holds more than tensors, and nothing else is loaded; give a state dict"
        ) from error


def _all_tensors(state: Mapping[object, object]) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
