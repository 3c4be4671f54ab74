"""Small VideoMAEs for the tests: every weight is drawn, so that none is without effect."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

SHAPE = {
    "image_size": 64,
    "patch_size": 16,
    "num_frames": 16,
    "tubelet_size": 2,
    "hidden_size": 24,
    "num_hidden_layers": 6,
    "num_attention_heads": 3,
    "intermediate_size": 48,
    "num_labels": 5,
    "layer_norm_eps": 1e-6,
}


def tiny_config(**changes: Any) -> VideoMAEConfig:
    """16 frames of 64 x 64: a grid of 8 x 4 x 4 tokens; 6 blocks, 5 classes."""
    return VideoMAEConfig(**SHAPE | changes)


def drawn(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """The same model with every weight drawn; those that scale a norm lie around 1."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            centre = 1.0 if isinstance(module, nn.LayerNorm) and name == "weight" else 0.0
            weight.data.copy_(torch.randn(weight.shape, generator=generator) * 0.2 + centre)
    return model


def tiny_videomae(*, seed: int = 0, **changes: Any) -> VideoMAEForVideoClassification:
    return drawn(VideoMAEForVideoClassification(tiny_config(**changes)).eval(), seed=seed)


def clips(batch: int, *, seed: int = 0, frames: int = 16, size: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, 3, size, size, generator=generator)


def original_layout(model: VideoMAEForVideoClassification) -> dict[str, Tensor]:
    """The model's weights under the names of the original VideoMAE code."""
    ours = model.state_dict()
    state = {
        "patch_embed.proj.weight": ours["videomae.embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": ours["videomae.embeddings.patch_embeddings.projection.bias"],
    }
    for block in range(model.config.num_hidden_layers):
        state |= _block(ours, f"videomae.encoder.layer.{block}", f"blocks.{block}")
    for theirs, name in (("fc_norm", "fc_norm"), ("head", "classifier")):
        state |= {f"{theirs}.{kind}": ours[f"{name}.{kind}"] for kind in ("weight", "bias")}
    return state


def _block(ours: dict[str, Tensor], layer: str, block: str) -> dict[str, Tensor]:
    attention = f"{layer}.attention.attention"
    fused = [ours[f"{attention}.{part}.weight"] for part in ("query", "key", "value")]
    state = {
        f"{block}.attn.qkv.weight": torch.cat(fused),
        f"{block}.attn.q_bias": ours[f"{attention}.query.bias"],
        f"{block}.attn.v_bias": ours[f"{attention}.value.bias"],
    }
    renamed = {
        "norm1": "layernorm_before",
        "attn.proj": "attention.output.dense",
        "norm2": "layernorm_after",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    for theirs, name in renamed.items():
        for kind in ("weight", "bias"):
            state[f"{block}.{theirs}.{kind}"] = ours[f"{layer}.{name}.{kind}"]
    return state
