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
from vidprune.backbones.refusals import CheckpointError, check_fits, check_plain
from vidprune.backbones.registry import ENCODERS, known_class
from vidprune.backbones.resizing import resized
from vidprune.backbones.videomae_checkpoints import with_original_epsilon

State = Mapping[str, Tensor]

# What `vidprune export` writes.
_EXPORTED = (".onnx", ".pt2")
_WRAPPERS = ("module", "model", "state_dict")
_PREFIXES = ("module.", "model.")


class Naming(NamedTuple):
    """How files of a family name tensors: both maps to transformers' names and back, the
    beginnings of what belongs to the head, and the endings of what is computed and not loaded."""

    to_ours: Callable[[State], dict[str, Tensor]]
    to_theirs: Callable[[State], dict[str, Tensor]]
    head: tuple[str, ...]
    computed: tuple[str, ...] = ()


_INDEX = ("relative_position_index",)
_VIDEOMAE = Naming(
    videomae_checkpoints.to_hugging_face,
    videomae_checkpoints.to_original,
    ("fc_norm.", "head."),
)
_TORCHVISION = Naming(
    videoswin_checkpoints.to_ours,
    videoswin_checkpoints.to_torchvision,
    ("head.",),
    _INDEX,
)
_MMACTION = Naming(
    videoswin_checkpoints.to_ours,
    videoswin_checkpoints.to_mmaction,
    ("cls_head.",),
    _INDEX,
)


def read_original(path: Path) -> dict[str, Tensor]:
    """The state dict of a `.pth` or `.safetensors` file: under `module`, `model`, `state_dict`, or
    bare; a `module.` or `model.` before every name is taken off.

    Nothing in the file is executed. Raises CheckpointError where it holds no tensors by name, or
    such as are sparse or on the meta device.
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
    check_plain(str(path), state)
    return dict(state)


def original_config(
    path: Path, arch: str | None, config: PreTrainedConfig | None
) -> PreTrainedConfig:
    """The configuration that goes with an original file: a copy of `config`, or that of `arch`.

    Raises ValueError unless exactly one of the two is given.
    """
    if path.suffix in _EXPORTED:
        raise ValueError(
            f"{path} is exported, and no checkpoint; predict, evaluate and embed take it as "
            "--model, and in Python vidprune.load_exported does"
        )
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
    ours = _naming(state, config.model_type, str(path)).to_ours(state)
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
    naming = _naming(state, model.config.model_type, source)
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


def _naming(state: State, family: str, source: str) -> Naming:
    """How a file names tensors that is to be of a family: whether it is, `to_ours` finds out.

    Raises CheckpointError where it is plainly of another, or files of that family are not read.
    """
    found = _family_of(state)
    if found not in (None, family):
        raise CheckpointError(
            f"{source} is an original checkpoint of the family {found!r}, but arch or config "
            f"is of the family {family!r}; give one of its own"
        )
    if family == "videomae":
        return _VIDEOMAE
    if family == "videoswin":
        return _videoswin(state)
    raise CheckpointError(
        f"{source} is to be an original checkpoint of the family {family!r}, but those are read of "
        "the families 'videomae' and 'videoswin' alone; give a Hugging Face folder or id"
    )


def _family_of(state: State) -> str | None:
    """None where a file has the blocks of neither."""
    if videoswin_checkpoints.is_videoswin(state):
        return "videoswin"
    return "videomae" if "blocks.0.attn.qkv.weight" in state else None


def _videoswin(state: State) -> Naming:
    if videoswin_checkpoints.is_torchvision(state):
        return _TORCHVISION
    # mmaction2's since 1.0 is named after its stage.
    norm = videoswin_checkpoints.last_norm(state)
    return _MMACTION._replace(to_theirs=partial(videoswin_checkpoints.to_mmaction, norm=norm))


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
