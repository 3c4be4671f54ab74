"""Small models of every family, as checkpoints hold them: every weight is drawn."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    TimesformerConfig,
    VideoPrismVisionConfig,
    VivitConfig,
    VJEPA2Config,
)

from tiny_videomae import tiny_config
from vidprune.backbones.families import model_class
from vidprune.backbones.registry import shape_of
from vidprune.backbones.videoswin_model import VideoSwinConfig

SHAPE = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 48, "num_labels": 5}
CONFIGS: dict[str, Callable[..., PreTrainedConfig]] = {
    "videomae": tiny_config,
    "vivit": lambda **changes: VivitConfig(
        **SHAPE
        | {"num_hidden_layers": 2, "image_size": 32, "num_frames": 8, "tubelet_size": [2, 16, 16]}
        | changes
    ),
    "vjepa2": lambda **changes: VJEPA2Config(
        **{name: value for name, value in SHAPE.items() if name != "intermediate_size"}
        | {"num_hidden_layers": 2, "crop_size": 32, "frames_per_clip": 8, "num_pooler_layers": 1}
        | {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
        | {"pred_num_mask_tokens": 2}
        | changes
    ),
    "timesformer": lambda **changes: TimesformerConfig(
        **SHAPE | {"num_hidden_layers": 2, "image_size": 32, "num_frames": 8} | changes
    ),
    "videoprism_vision_model": lambda **changes: VideoPrismVisionConfig(
        **SHAPE
        | {"num_spatial_layers": 1, "num_temporal_layers": 1, "image_size": 32, "num_frames": 8}
        | {"tubelet_size": (1, 16, 16)}
        | changes
    ),
    "videoswin": lambda **changes: VideoSwinConfig(
        **{"embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2), "window_size": (2, 4, 4)}
        | {"image_size": 32, "num_frames": 8, "num_labels": 5}
        | changes
    ),
}


def tiny(family: str, *, head: bool = True, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A model of a family with drawn weights, in evaluation mode."""
    model = model_class(family, head=head)(CONFIGS[family](**changes)).eval()
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            centre = 1.0 if isinstance(module, nn.LayerNorm) and name == "weight" else 0.0
            weight.data.copy_(torch.randn(weight.shape, generator=generator) * 0.2 + centre)
    return model


def clip_for(model: PreTrainedModel, *, seed: int = 0) -> Tensor:
    """Pixels (1, T, 3, H, W) of the size that the model is configured for."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, *shape_of(model.config).clip_shape, generator=generator)


def settled(model: PreTrainedModel) -> PreTrainedModel:
    """The model with its weights in memory of their own: read from a file they lie at any address,
    and the products of a single row end on other bits there."""
    for weight in model.parameters():
        weight.data = weight.data.clone()
    return model


@torch.no_grad()
def answer(model: PreTrainedModel, pixels: Tensor) -> Tensor:
    """Logits, or the last tokens of an encoder."""
    options = {"skip_predictor": True} if type(model).__name__ == "VJEPA2Model" else {}
    output = model(pixels, **options)
    return output.logits if "logits" in output else output.last_hidden_state
