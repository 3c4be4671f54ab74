"""Original checkpoint files, as the authors' code saves them: VideoMAE, its V2, and VideoSwin."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from vidprune.backbones import videomae_checkpoints, videoswin_checkpoints
from vidprune.backbones.architectures import ARCHITECTURES, architecture, with_random_weights
from vidprune.backbones.refusals import CheckpointError, check_fits
from vidprune.backbones.registry import ENCODERS, known_class
from vidprune.backbones.resizing import resized
from vidprune.backbones.videomae_checkpoints import with_original_epsilon

State = Mapping[str, Tensor]

_WRAPPERS = ("module", "model", "state_dict")
_PREFIXES = ("module.", "model.")


class Naming(NamedTuple):
    """How files of a family name tensors: both maps to transformers' names and back, the
    beginnings of what belongs to the head, and the endings of what is computed and not loaded."""

    family: str
    to_ours: Callable[[State], dict[str, Tensor]]
    to_theirs: Callable[[State], dict[str, Tensor]]
    head: tuple[str, ...]
    computed: tuple[str, ...] = ()


_INDEX = ("relative_position_index",)
_VIDEOMAE = Naming(
    "videomae",
    videomae_checkpoints.to_hugging_face,
    videomae_checkpoints.to_original,
    ("fc_norm.", "head."),
)
_TORCHVISION = Naming(
    "videoswin",
    videoswin_checkpoints.to_ours,
    videoswin_checkpoints.to_torchvision,
    ("head.",),
    _INDEX,
)
_MMACTION = Naming(
    "videoswin",
    videoswin_checkpoints.to_ours,
    videoswin_checkpoints.to_mmaction,
    ("cls_head.",),
    _INDEX,
)
# As mmaction2 names them since 1.0.
_MMACTION_1 = _MMACTION._replace(to_theirs=partial(videoswin_checkpoints.to_mmaction, norm="norm3"))


def read_original(path: Path) -> dict[str, Tensor]:
    """The state dict of a `.pth` or `.safetensors` file: under `module`, `model`, `state_dict`, or
    bare; a `module.` or `model.` before every name is taken off.

    Nothing in the file is executed. Raises CheckpointError where it holds no tensors by name.
    """
    state = _read(path)
    for wrapper in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not state or not _all_tensors(state):
        raise CheckpointError(
            f"{path} holds no state dict (tensors by name, bare or under "
            f"{', '.join(map(repr, _WRAPPERS))}); give an original checkpoint"
        )
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)


def original_config(
    path: Path, arch: str | None, config: PreTrainedConfig | None
) -> PreTrainedConfig:
    """The configuration that goes with an original file: a copy of `config`, or that of `arch`.

    Raises ValueError unless exactly one of the two is given.
    """
    if (arch is None) == (config is None):
        raise ValueError(
            f"{path} is an original checkpoint, which does not say its size; give either arch "
            f"({', '.join(ARCHITECTURES)}) or config (such as a VideoMAEConfig)"
        )
    config = architecture(str(arch)) if config is None else copy.deepcopy(config)
    return with_original_epsilon(config) if config.model_type == "videomae" else config


def from_original(
    path: Path,
    config: PreTrainedConfig,
    *,
    head: bool = True,
    frames: int | None = None,
    size: int | None = None,
) -> PreTrainedModel:
    """The model of an original file; classes are counted from its head.

    `head=False` leaves the head out. Raises CheckpointError where the file does not fit `config`.
    """
    state = read_original(path)
    naming = _naming(state)
    ours = naming.to_ours(state)
    if naming.family != config.model_type:
        raise CheckpointError(
            f"{path} is an original checkpoint of the family {naming.family!r}, but arch or config "
            f"is of the family {config.model_type!r}; give one of its own"
        )
    config = resized(config, frames=frames, size=size)
    if "classifier.weight" in ours:
        config.num_labels = ours["classifier.weight"].shape[0]
    model = with_random_weights(config, head=head)
    fill(model, state, str(path))
    return model


def fill(model: PreTrainedModel, state: State, source: str) -> None:
    """Give a model the weights of an original state dict; to an encoder without the head's.

    Raises CheckpointError that names, as the file does, what does not fit.
    """
    naming = _naming(state)
    bare = known_class(model) in ENCODERS
    prefix = f"{model.base_model_prefix}." if bare else ""
    shapes = {prefix + name: tensor.to("meta") for name, tensor in model.state_dict().items()}
    left_out = naming.head if bare else ()
    given = {
        name: tensor
        for name, tensor in state.items()
        if not name.startswith(left_out) and not name.endswith(naming.computed)
    }
    check_fits(source, given, naming.to_theirs(shapes))
    ours = naming.to_ours(given)
    model.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in ours.items()})


def _naming(state: State) -> Naming:
    if not videoswin_checkpoints.is_videoswin(state):
        return _VIDEOMAE
    if "backbone.patch_embed.proj.weight" not in state:
        return _TORCHVISION
    return _MMACTION_1 if "backbone.norm3.weight" in state else _MMACTION


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
