"""A small model of every family, with a head and without, on a grid that the test chooses."""

from collections.abc import Callable
from functools import partial
from typing import Any

import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from tiny_videomae import drawn
from vidprune.backbones import videoswin_model
from vidprune.backbones.registry import FAMILIES, adapt
from vidprune.layout import TokenGrid

# 24 channels, 3 heads; tokens of 4 x 4 pixels, of 2 frames where a family has tubes.
WIDTHS = {
    "hidden_size": 24,
    "num_attention_heads": 3,
    "intermediate_size": 48,
    "num_labels": 5,
}
SIDE, TUBE = 4, 2


def videomae(grid: TokenGrid, blocks: int) -> dict[str, Any]:
    return WIDTHS | {
        "num_hidden_layers": blocks,
        "image_size": _pixels(grid),
        "patch_size": SIDE,
        "num_frames": TUBE * grid.frames,
        "tubelet_size": TUBE,
    }


def vivit(grid: TokenGrid, blocks: int) -> dict[str, Any]:
    return videomae(grid, blocks) | {"tubelet_size": (TUBE, SIDE, SIDE)}


def vjepa2(grid: TokenGrid, blocks: int) -> dict[str, Any]:
    """Square grids."""
    return {
        "hidden_size": 24,
        "num_attention_heads": 3,
        "num_hidden_layers": blocks,
        "mlp_ratio": 2.0,
        "num_labels": 5,
        "crop_size": _square(grid),
        "patch_size": SIDE,
        "frames_per_clip": TUBE * grid.frames,
        "tubelet_size": TUBE,
        "num_pooler_layers": 2,
        "pred_hidden_size": 12,
        "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 1,
    }


def timesformer(grid: TokenGrid, blocks: int, *, attention_type: str) -> dict[str, Any]:
    """Square grids: the layers of transformers divide one side by another."""
    return WIDTHS | {
        "num_hidden_layers": blocks,
        "image_size": _square(grid),
        "patch_size": SIDE,
        "num_frames": grid.frames,
        "attention_type": attention_type,
    }


def videoprism(grid: TokenGrid, blocks: int) -> dict[str, Any]:
    """Half of the blocks in space, and as many or one less in time."""
    return WIDTHS | {
        "num_spatial_layers": (blocks + 1) // 2,
        "num_temporal_layers": blocks // 2,
        "image_size": _pixels(grid),
        "num_frames": grid.frames,
        "tubelet_size": (1, SIDE, SIDE),
    }


def videoswin(grid: TokenGrid, blocks: int) -> dict[str, Any]:
    """Levels of 1, 2 and 1 blocks; in the second, where tokens are gone, windows are shifted once.
    `grid` is that of the first level."""
    depths = (1, 2, 1)
    assert sum(depths) == blocks, "fewer levels would leave out what a pyramid does between them"
    return {
        "num_frames": TUBE * grid.frames,
        "image_size": _pixels(grid),
        "patch_size": (TUBE, SIDE, SIDE),
        "embed_dim": 12,
        "depths": depths,
        "num_heads": (2, 3, 3),
        "window_size": (2, 3, 3),
        "num_labels": 5,
    }


def _pixels(grid: TokenGrid) -> tuple[int, int]:
    return SIDE * grid.rows, SIDE * grid.columns


def _square(grid: TokenGrid) -> int:
    assert grid.rows == grid.columns, "this family knows square clips only"
    return SIDE * grid.rows


# By the names that `matrix` gives them: the model type, and the options of a small model.
OPTIONS: dict[str, tuple[str, Callable[[TokenGrid, int], dict[str, Any]]]] = {
    "videomae": ("videomae", videomae),
    "vivit": ("vivit", vivit),
    "vjepa2": ("vjepa2", vjepa2),
    "timesformer-joint": ("timesformer", partial(timesformer, attention_type="joint_space_time")),
    "timesformer-space": ("timesformer", partial(timesformer, attention_type="space_only")),
    "timesformer-divided": (
        "timesformer",
        partial(timesformer, attention_type="divided_space_time"),
    ),
    "videoprism": ("videoprism_vision_model", videoprism),
    "videoswin": ("videoswin", videoswin),
}


def tiny(
    family: str, grid: TokenGrid, *, head: bool = True, blocks: int = 4, **changes: Any
) -> PreTrainedModel:
    """The small classifier of a family, or its bare encoder."""
    model_type, options = OPTIONS[family]
    names = FAMILIES[model_type]
    kind = _class(names.classifier if head else names.encoder)
    model: Any = drawn(kind(kind.config_class(**options(grid, blocks) | changes)).eval())
    # The counter of operations fails on functions of weights that could be trained.
    return model.requires_grad_(False)


def residuals(model: PreTrainedModel, *, since: int = 0) -> list[Tensor]:
    """The weights by which blocks add to tokens, from block `since` on: without them tokens are
    left as they are. (Norms stay.)"""
    backbone: Any = adapt(model)
    return [
        weight
        for block in range(since, backbone.depth)
        for module in backbone.layer(block).modules()
        if isinstance(module, nn.Linear)
        for weight in module.parameters()
    ]


def _class(name: str) -> Any:
    return getattr(videoswin_model if hasattr(videoswin_model, name) else transformers, name)
