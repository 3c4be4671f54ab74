"""VideoSwin's checkpoints: their architectures, their layouts, and the maps to ours and back.

torchvision numbers stages and mergings in turn under `features`. The original code has
`backbone.layers` with the mergings inside, `backbone.norm` and `cls_head`; mmaction2 since 1.0 is
alike, but calls the last norm after its stage, `backbone.norm3`. All store the indices of relative
positions, which follow from the window and are computed here. Files of the last two hold the
tensors under `state_dict`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from vidprune.backbones.refusals import CheckpointError
from vidprune.backbones.videoswin_model import VideoSwinConfig
from vidprune.backbones.windows import Cut, Triple
from vidprune.layout import TokenGrid


class Size(NamedTuple):
    """What the published models differ in."""

    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: Triple
    labels: int


# Liu et al. 2022, Section 3.3; the window of Something-Something V2 is in Section 4.1.
SIZES = {
    "swin3d_t": Size(96, (2, 2, 6, 2), (3, 6, 12, 24), (8, 7, 7), 400),
    "swin3d_s": Size(96, (2, 2, 18, 2), (3, 6, 12, 24), (8, 7, 7), 400),
    "swin3d_b": Size(128, (2, 2, 18, 2), (4, 8, 16, 32), (8, 7, 7), 400),
    "swin3d_b_ssv2": Size(128, (2, 2, 18, 2), (4, 8, 16, 32), (16, 7, 7), 174),
}

_INDEX = "attn.relative_position_index"
_TABLE = "attn.relative_position_bias_table"

# What a block's tensors are called: ours, torchvision's, the original's.
_PARTS = [
    ("norm1", "norm1", "norm1"),
    ("attention.qkv", "attn.qkv", "attn.qkv"),
    ("attention.proj", "attn.proj", "attn.proj"),
    ("norm2", "norm2", "norm2"),
    ("mlp.fc1", "mlp.0", "mlp.fc1"),
    ("mlp.fc2", "mlp.3", "mlp.fc2"),
]
_MOST_STAGES = 8
# How names of blocks begin in the layouts that are read: torchvision's, the original's.
_BLOCKS = ("features.", "backbone.layers.")
# What patches are projected by, there, in a backbone alone, and in torchvision's Swin for images.
_PATCHES = ("patch_embed.proj.weight", "backbone.patch_embed.proj.weight", "features.0.0.weight")
_GIVE_OURS = "give the state dict of a VideoSwinForVideoClassification"


class _Layout(NamedTuple):
    """From our names to those of a layout: how names begin, and how those in a block end."""

    begins: dict[str, str]
    ends: dict[str, str]

    def backwards(self) -> "_Layout":
        return _Layout(*({theirs: ours for ours, theirs in part.items()} for part in self))

    def renamed(self, name: str) -> str | None:
        """None for a name that has no place."""
        for begin, new in self.begins.items():
            if name.startswith(begin):
                rest = name.removeprefix(begin)
                block, _, end = rest.partition(".")
                if not block.isdigit():
                    return new + rest
                return f"{new}{block}.{self.ends[end]}" if end in self.ends else None
        return None


def _layout(
    column: int,
    *,
    backbone: str = "",
    norm: str,
    head: str,
    blocks: Callable[[int], str],
    merging: Callable[[int], str],
) -> _Layout:
    begins = {
        "videoswin.patch_embed.": f"{backbone}patch_embed.",
        "videoswin.norm.": backbone + norm,
        "classifier.": head,
    }
    for stage in range(_MOST_STAGES):
        begins[f"videoswin.levels.{stage}.blocks."] = backbone + blocks(stage)
        begins[f"videoswin.levels.{stage}.downsample."] = backbone + merging(stage)
    ends = {"attention.relative_position_bias_table": _TABLE}
    for part in _PARTS:
        ends |= {f"{part[0]}.{kind}": f"{part[column]}.{kind}" for kind in ("weight", "bias")}
    return _Layout(begins, ends)


_TORCHVISION = _layout(
    1,
    norm="norm.",
    head="head.",
    blocks=lambda stage: f"features.{2 * stage}.",
    merging=lambda stage: f"features.{2 * stage + 1}.",
)


def _original(norm: str) -> _Layout:
    return _layout(
        2,
        backbone="backbone.",
        norm=f"{norm}.",
        head="cls_head.fc_cls.",
        blocks=lambda stage: f"layers.{stage}.blocks.",
        merging=lambda stage: f"layers.{stage}.downsample.",
    )


def architecture(name: str, *, num_labels: int | None = None) -> VideoSwinConfig:
    """The configuration of one of `SIZES`, with its own number of labels unless told otherwise.

    Raises ValueError for another name.
    """
    if name not in SIZES:
        raise ValueError(f"arch={name!r} is not known; choose one of {', '.join(SIZES)}")
    size = SIZES[name]
    return VideoSwinConfig(
        embed_dim=size.width,
        depths=size.depths,
        num_heads=size.heads,
        window_size=size.window,
        num_labels=size.labels if num_labels is None else num_labels,
    )


def is_videoswin(state: Mapping[str, Tensor]) -> bool:
    """Whether names and shapes are those of a VideoSwin in torchvision's, the original's or
    mmaction2's layout, with whatever it lacks.

    Swin for images has the same names; its patches have no time.
    """
    return any(_has_table(state, blocks) for blocks in _BLOCKS) and not _is_of_images(state)


def is_torchvision(state: Mapping[str, Tensor]) -> bool:
    """Whether the names of a VideoSwin are those of torchvision's layout."""
    return _has_table(state, "features.")


def last_norm(state: Mapping[str, Tensor]) -> str:
    """What the norm after the last stage is called in the original's or mmaction2's layout."""
    of_stages = (f"norm{stage}" for stage in range(_MOST_STAGES))
    begins = {name.rpartition(".")[0] for name in state}
    norms = [norm for norm in of_stages if f"backbone.{norm}" in begins]
    return norms[-1] if norms else "norm"


def _has_table(state: Mapping[str, Tensor], blocks: str) -> bool:
    """Whether a block has relative positions, of blocks whose names begin so."""
    return any(name.startswith(blocks) and name.endswith(_TABLE) for name in state)


def _is_of_images(state: Mapping[str, Tensor]) -> bool:
    return any(name in state and state[name].dim() == 4 for name in _PATCHES)


def to_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Any of the layouts to the names of `VideoSwinForVideoClassification`; indices are left out.

    Raises CheckpointError where the tensors are not those of a VideoSwin, or some have no place.
    """
    if not is_videoswin(state):
        raise CheckpointError(_what_it_is(state))
    kept = {name: tensor for name, tensor in state.items() if not name.endswith(_INDEX)}
    layout = _layout_of(kept).backwards()
    return _moved(kept, layout, "leave them out or give a plain VideoSwin classifier")


def _layout_of(state: Mapping[str, Tensor]) -> _Layout:
    return _TORCHVISION if is_torchvision(state) else _original(last_norm(state))


def to_torchvision(
    state: Mapping[str, Tensor], *, window: Triple | None = None
) -> dict[str, Tensor]:
    """Our names to torchvision's. With `window`, the indices that a strict load asks for as well.

    Raises CheckpointError for a name that is not ours.
    """
    moved = _moved(state, _TORCHVISION, _GIVE_OURS)
    return moved | _indices(moved, window)


def to_mmaction(
    state: Mapping[str, Tensor], *, norm: str = "norm", window: Triple | None = None
) -> dict[str, Tensor]:
    """Our names to the original code's; with `norm="norm3"` to those of mmaction2 since 1.0.

    Otherwise as `to_torchvision`.
    """
    moved = _moved(state, _original(norm), _GIVE_OURS)
    return moved | _indices(moved, window)


def _moved(state: Mapping[str, Tensor], layout: _Layout, way_out: str) -> dict[str, Tensor]:
    moved: dict[str, Tensor] = {}
    homeless: list[str] = []
    for name, tensor in state.items():
        new = layout.renamed(name)
        if new is None:
            homeless.append(name)
        else:
            moved[new] = tensor
    if homeless:
        raise CheckpointError(
            f"{len(homeless)} tensors of the checkpoint have no place in a VideoSwin: "
            f"{', '.join(homeless[:5])}; {way_out}"
        )
    return moved


def _indices(moved: Mapping[str, Tensor], window: Triple | None) -> dict[str, Tensor]:
    if window is None:
        return {}
    frames, rows, columns = window
    grid = TokenGrid(frames=frames, rows=rows, columns=columns)
    index = Cut(grid=grid, window=window, shift=(0, 0, 0)).offsets(torch.device("cpu"))
    # Copies: what is remembered must not be handed out to be written to.
    tables = [name for name in moved if name.endswith(_TABLE)]
    return {name.removesuffix(_TABLE) + _INDEX: index.clone() for name in tables}


def _what_it_is(state: Mapping[str, Tensor]) -> str:
    names = list(state)
    if any(name.startswith("videoswin.") for name in names):
        return (
            "the checkpoint has the names of vidprune's own VideoSwin; give the folder that holds "
            "it together with its config.json"
        )
    if _is_of_images(state):
        return "the checkpoint is a Swin for images: its patches have no time; give a VideoSwin's"
    if _has_table(state, "layers."):
        return (
            "the checkpoint is a Swin backbone alone (it has layers..., not backbone.layers...), "
            "which has no classifier; give a recogniser's checkpoint"
        )
    return (
        "the checkpoint is not a VideoSwin classifier: neither torchvision's "
        f"features.0.0.{_TABLE} nor mmaction2's backbone.layers.0.blocks.0.{_TABLE} is there, and "
        f"its names are such as {', '.join(names[:3])}"
    )
