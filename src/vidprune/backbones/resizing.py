"""Models for clips of other sizes and lengths than their checkpoints were trained on."""

import copy
from collections.abc import Callable, Iterator, Sequence
from math import lcm
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from vidprune.backbones.positions import PositionRule, interpolated_table
from vidprune.backbones.registry import shape_of
from vidprune.backbones.vit import pair
from vidprune.layout import TokenGrid


class Clip(NamedTuple):
    """Where a family's configuration says what clips it is for, and what has to divide them."""

    frames: str
    size: str
    tube: Callable[[Any], Sequence[int]]


_CLIPS = {
    "videomae": Clip("num_frames", "image_size", lambda c: (c.tubelet_size, *pair(c.patch_size))),
    "vivit": Clip("num_frames", "image_size", lambda c: c.tubelet_size),
    "vjepa2": Clip("frames_per_clip", "crop_size", lambda c: (c.tubelet_size, *pair(c.patch_size))),
    "timesformer": Clip("num_frames", "image_size", lambda c: (1, *pair(c.patch_size))),
    "videoprism_vision_model": Clip("num_frames", "image_size", lambda c: c.tubelet_size),
    # It fills up whatever its patches do not divide.
    "videoswin": Clip("num_frames", "image_size", lambda c: (1, 1, 1)),
}


class Table(NamedTuple):
    """A learned table of positions: in which module, under which name, how many rows of it belong
    to class tokens, and which part of the grid the others count."""

    module: str
    name: str
    prefix: int
    part: Callable[[TokenGrid], TokenGrid]


def _places(grid: TokenGrid) -> TokenGrid:
    return TokenGrid(frames=1, rows=grid.rows, columns=grid.columns)


def _times(grid: TokenGrid) -> TokenGrid:
    return TokenGrid(frames=grid.frames, rows=1, columns=1)


# VideoMAE computes its table, V-JEPA 2 rotates by places, VideoSwin's tables are of its window.
LEARNED = {
    "vivit": (Table("embeddings", "position_embeddings", 1, lambda grid: grid),),
    "timesformer": (
        Table("embeddings", "position_embeddings", 1, _places),
        Table("embeddings", "time_embeddings", 0, _times),
    ),
    "videoprism_vision_model": (
        Table("spatial_embeddings", "position_embeddings", 0, _places),
        Table("temporal_embeddings", "position_embeddings", 0, _times),
    ),
}


def resized(
    config: PreTrainedConfig, *, frames: int | None = None, size: int | None = None
) -> PreTrainedConfig:
    """A copy for other clips. Raises ValueError where patches do not fill them.

    Note [position grid]: transformers does not store VideoMAE's position table but recomputes it
    for whatever size the config says, which at another size renumbers every patch. So the config
    of a resized model records the grid that its weights were trained on, and `load` stretches
    that grid's table.
    """
    config = copy.deepcopy(config)
    before = _sides(config) if config.model_type == "videomae" else None
    clip = _CLIPS[config.model_type]
    length, height, width = clip.tube(config)
    if frames is not None:
        setattr(config, clip.frames, _checked("frames", frames, length))
    if size is not None:
        setattr(config, clip.size, _checked("size", size, lcm(height, width)))
    if before is not None:
        trained = getattr(config, "position_grid", None) or before
        if _sides(config) != trained:
            config.position_grid = trained
    return config


def _sides(config: PreTrainedConfig) -> list[int]:
    grid = shape_of(config).grid
    return [grid.frames, grid.rows, grid.columns]


def _checked(name: str, value: int, step: int) -> int:
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_whole or value < step or value % step:
        raise ValueError(
            f"{name}={value!r} must be a positive multiple of {step}, the model's "
            f"{'tubelet' if name == 'frames' else 'patch'} size"
        )
    return value


def is_learned(model_type: str) -> bool:
    """Whether a family's position tables are weights, which `stretch` has to change."""
    return model_type in LEARNED


def check_positions(model_type: str, positions: PositionRule) -> None:
    """Raise ValueError where a table is to be recomputed that was learned."""
    if positions == "recompute" and is_learned(model_type):
        raise ValueError(
            f"positions={positions!r} asks for a table that can be computed, but the family "
            f"{model_type!r} has learned its own; use 'interpolate'"
        )


def stretch(model: PreTrainedModel, *, frames: int | None = None, size: int | None = None) -> None:
    """Make a model with learned position tables one for other clips, in place.

    Each table is stretched over what it counts of (time, row, column); the rows of class tokens
    stay. Configuration and tables are saved as they then are. Raises ValueError where patches do
    not fill the clips.
    """
    config = resized(model.config, frames=frames, size=size)
    source, target = shape_of(model.config).grid, shape_of(config).grid
    if source == target:
        return
    # (A TimeSformer without time has no table of times.)
    tables = [
        table
        for table in LEARNED[config.model_type]
        if hasattr(getattr(model.base_model, table.module), table.name)
    ]
    for name in dict.fromkeys(table.module for table in tables):
        old = getattr(model.base_model, name)
        state = old.state_dict()
        for table in (table for table in tables if table.module == name):
            state[table.name] = _stretched(
                state[table.name], table.prefix, table.part(source), table.part(target)
            )
        # Made anew, since these modules keep sizes of their own in several places.
        new = type(old)(config).to(model.device, model.dtype)
        new.load_state_dict(state)
        setattr(model.base_model, name, new)
    for inner in _configs(model):
        for field in _CLIPS[config.model_type][:2]:
            setattr(inner, field, getattr(config, field))


def _stretched(table: Tensor, prefix: int, source: TokenGrid, target: TokenGrid) -> Tensor:
    """(1, prefix + source tokens, C) to (1, prefix + target tokens, C)."""
    if source == target:
        return table
    first, rest = table[:, :prefix], table[:, prefix:]
    # In float32, since interpolation is not there in every dtype on every device.
    longer = interpolated_table(rest.float(), source=source, target=target)
    return torch.cat((first, longer.to(table.dtype)), 1)


def _configs(model: PreTrainedModel) -> Iterator[PreTrainedConfig]:
    """Every configuration within a model: some families copy it for their parts."""
    for module in model.modules():
        if isinstance(getattr(module, "config", None), PreTrainedConfig):
            yield module.config
