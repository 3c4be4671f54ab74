"""A model as people have it (hub id, folder, original file, name) -> a model to run."""

import copy
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoConfig,
    PreTrainedModel,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
)
from transformers.utils import cached_file

from vidprune.backbones.positions import (
    POSITION_RULES,
    PositionRule,
    interpolated_table,
    sincos_table,
)
from vidprune.backbones.videomae import grid_of, patch_sides
from vidprune.backbones.videomae_checkpoints import (
    ARCHITECTURES,
    ORIGINAL_EPSILON,
    CheckpointError,
    architecture,
    read_original,
    to_hugging_face,
    to_original,
    with_original_epsilon,
)
from vidprune.layout import TokenGrid

DEMO = "demo"
_DEMO_FOLDER = Path(__file__).parents[1] / "demo" / "model"
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_PROCESSOR_FILES = ("video_preprocessor_config.json", "preprocessor_config.json")


def load(
    source: str | Path,
    *,
    arch: str | None = None,
    config: VideoMAEConfig | str | Path | None = None,
    frames: int | None = None,
    size: int | None = None,
    positions: PositionRule = "interpolate",
    labels: Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
) -> PreTrainedModel:
    """A video classifier in evaluation mode.

    `source`: a Hugging Face id or folder; an original VideoMAE `.pth` or `.safetensors` file
    together with `arch` or `config`; the name of an architecture, which gives random weights;
    or `"demo"`, the model that ships with vidprune. `frames` and `size` (pixels) ask for
    another clip than the checkpoint was trained on; `positions` then says whether its table is
    interpolated over (time, row, column) or recomputed. `labels` names the classes.

    The model's `config` also records `image_mean` and `image_std` (of pixels in [0, 1]) and,
    where they matter, `fc_norm_eps` and `position_grid`, which `load` reads back.

    Raises ValueError or FileNotFoundError for a wrong argument, CheckpointError for a file whose
    content does not fit: another family, missing or unexpected tensors, wrong shapes, lost biases.
    """
    if positions not in POSITION_RULES:
        raise ValueError(f"positions={positions!r} is not known; choose one of {POSITION_RULES}")
    source, config = _named(source), _configured(config)
    path = Path(source)
    if path.is_file():
        model = _from_original(path, arch, config, frames, size)
    elif arch is not None or (config is not None and source not in ARCHITECTURES):
        raise _misplaced(source, path)
    elif source in ARCHITECTURES and not path.exists():
        model = _random(config or architecture(source), frames, size)
    else:
        model = _from_hugging_face(source, revision, frames, size)
    _restore_unsaved(model, positions)
    if labels is not None:
        name_classes(model, labels)
    return model.eval() if dtype is None else model.eval().to(dtype)


def configuration(
    source: str | Path,
    *,
    arch: str | None = None,
    config: VideoMAEConfig | str | Path | None = None,
    frames: int | None = None,
    size: int | None = None,
    revision: str | None = None,
) -> VideoMAEConfig:
    """The configuration of what `load` would load; arguments as there. No weights are read.

    Of an original checkpoint only `arch` or `config` counts, so classes are counted from that.
    """
    source = _named(source)
    config = _configured(config)
    path = Path(source)
    if path.is_file():
        config = _original_config(path, arch, config)
    elif arch is not None or (config is not None and source not in ARCHITECTURES):
        raise _misplaced(source, path)
    elif source in ARCHITECTURES and not path.exists():
        config = config or architecture(source)
    else:
        config = _hugging_face_config(source, revision)
    return resized(config, frames=frames, size=size)


def _named(source: str | Path) -> str:
    if not isinstance(source, str | Path) or not str(source):
        raise ValueError(f"source={source!r} must name a checkpoint: a file, a folder or an id")
    return str(_DEMO_FOLDER) if source == DEMO else str(source)


def _configured(config: VideoMAEConfig | str | Path | None) -> VideoMAEConfig | None:
    if isinstance(config, dict):
        raise ValueError("config is a dict; give a VideoMAEConfig or the path of its JSON file")
    if isinstance(config, str | Path):
        return VideoMAEConfig.from_json_file(config)
    return config


def _misplaced(source: str, path: Path) -> Exception:
    if path.is_dir():
        return ValueError(f"{source} is a folder with a config.json of its own; omit arch, config")
    return FileNotFoundError(f"{source} does not exist; give a .pth or .safetensors file")


def _random(config: VideoMAEConfig, frames: int | None, size: int | None) -> PreTrainedModel:
    config = copy.deepcopy(config)
    _resize(config, frames, size)
    _record(config, fc_norm_eps=ORIGINAL_EPSILON)
    # The same weights in every process and every run; the caller's generator is left alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VideoMAEForVideoClassification(config)


def _from_original(
    path: Path,
    arch: str | None,
    config: VideoMAEConfig | None,
    frames: int | None,
    size: int | None,
) -> PreTrainedModel:
    config = _original_config(path, arch, config)
    state = read_original(path)
    mapped = to_hugging_face(state)
    head = state.get("head.weight")
    if head is not None and head.shape[0] != config.num_labels:
        config.num_labels = head.shape[0]
    model = _random(config, frames, size)
    shapes = {name: tensor.to("meta") for name, tensor in model.state_dict().items()}
    _check_fits(path, state, to_original(shapes))
    model.load_state_dict(mapped)
    return model


def _original_config(path: Path, arch: str | None, config: VideoMAEConfig | None) -> VideoMAEConfig:
    if (arch is None) == (config is None):
        raise ValueError(
            f"{path} is an original checkpoint, which does not say its size; give either arch "
            f"({', '.join(ARCHITECTURES)}) or config (a VideoMAEConfig)"
        )
    return architecture(str(arch)) if config is None else with_original_epsilon(config)


def _from_hugging_face(
    source: str, revision: str | None, frames: int | None, size: int | None
) -> PreTrainedModel:
    config = _hugging_face_config(source, revision)
    for name, value in _normalisation_of(source, revision).items():
        setattr(config, name, value)
    _resize(config, frames, size)
    try:
        model, info = VideoMAEForVideoClassification.from_pretrained(
            source,
            revision=revision,
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{source} has a config.json, but no weights that can be read: "
            f"{str(error).partition(chr(10))[0]}"
        ) from error
    mismatched = [f"{name} {tuple(a)} for {tuple(b)}" for name, a, b in info["mismatched_keys"]]
    _refuse(source, info["missing_keys"], info["unexpected_keys"], mismatched)
    return model


def _hugging_face_config(source: str, revision: str | None) -> VideoMAEConfig:
    if Path(source).is_dir() and not Path(source, "config.json").is_file():
        raise FileNotFoundError(
            f"{source} is a folder with no config.json in it; give a checkpoint's folder, or an "
            "original checkpoint file with arch or config"
        )
    if not Path(source).is_dir() and not _HUB_ID.fullmatch(source):
        raise FileNotFoundError(
            f"{source} does not exist; give a checkpoint file, a folder with a config.json, a "
            f"Hugging Face id (owner/name), {DEMO}, or one of {', '.join(ARCHITECTURES)}"
        )
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{source} is no file, no folder with a config.json, no architecture "
            f"({', '.join(ARCHITECTURES)}), and cannot be had from the Hugging Face hub "
            f"({str(error).splitlines()[0]})"
        ) from error
    if config.model_type != "videomae":
        raise CheckpointError(
            f"{source!r} is a checkpoint of the family {config.model_type!r}; the families that "
            "can be loaded are: videomae"
        )
    return config


def _normalisation_of(source: str, revision: str | None) -> dict[str, list[float]]:
    """Mean and standard deviation as the checkpoint's processor records them; else none."""
    for name in _PROCESSOR_FILES:
        found = cached_file(
            source,
            name,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found is not None:
            record: dict[str, Any] = json.loads(Path(found).read_text())
            return {key: record[key] for key in ("image_mean", "image_std") if key in record}
    return {}


def resized(
    config: VideoMAEConfig, *, frames: int | None = None, size: int | None = None
) -> VideoMAEConfig:
    """A copy for other clips. Raises ValueError where patches do not fill them."""
    config = copy.deepcopy(config)
    _resize(config, frames, size)
    return config


def _resize(config: VideoMAEConfig, frames: int | None, size: int | None) -> None:
    """Ask for other clips. See Note [position grid].

    Note [position grid]: transformers does not store VideoMAE's position table but recomputes it
    for whatever size the config says, which at another size renumbers every patch. So the config
    of a resized model records the grid that its weights were trained on, and `load` stretches
    that grid's table.
    """
    trained = getattr(config, "position_grid", None) or _sides(grid_of(config))
    if frames is not None:
        config.num_frames = _checked("frames", frames, config.tubelet_size)
    if size is not None:
        config.image_size = _checked("size", size, patch_sides(config)[0])
    if _sides(grid_of(config)) != trained:
        _record(config, position_grid=trained)


def _sides(grid: TokenGrid) -> list[int]:
    return [grid.frames, grid.rows, grid.columns]


def _checked(name: str, value: int, step: int) -> int:
    if value < step or value % step:
        raise ValueError(
            f"{name}={value} must be a positive multiple of {step}, the model's "
            f"{'tubelet' if name == 'frames' else 'patch'} size"
        )
    return value


def _restore_unsaved(model: PreTrainedModel, positions: PositionRule) -> None:
    """Put back what transformers does not keep in a checkpoint but the config records."""
    config = model.config
    epsilon = getattr(config, "fc_norm_eps", None)
    if epsilon is not None and model.fc_norm is not None:
        model.fc_norm.eps = epsilon
    trained = getattr(config, "position_grid", None)
    if trained is not None and positions == "recompute":
        del config.position_grid
    elif trained is not None:
        source = TokenGrid(frames=trained[0], rows=trained[1], columns=trained[2])
        table = sincos_table(source.tokens, config.hidden_size)
        embeddings = model.videomae.embeddings
        embeddings.position_embeddings = interpolated_table(
            table, source=source, target=grid_of(config)
        )


def name_classes(model: PreTrainedModel, labels: Sequence[str]) -> None:
    """Give the model's classes names, in order. Raises ValueError where their number differs."""
    if isinstance(labels, str):
        raise ValueError(
            f"labels={labels!r} must list one name per class; label sets that ship with vidprune "
            "are in vidprune.labels.label_names(...)"
        )
    if len(labels) != model.config.num_labels:
        raise ValueError(
            f"labels holds {len(labels)} names, but the checkpoint's head has "
            f"{model.config.num_labels} classes; give one name per class, in order"
        )
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: index for index, label in enumerate(labels)}


def _record(config: VideoMAEConfig, **facts: object) -> None:
    for name, value in facts.items():
        setattr(config, name, value)


def _check_fits(path: Path, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    mismatched = [
        f"{name} {tuple(given[name].shape)} where the architecture has {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    missing, unexpected = wanted.keys() - given.keys(), given.keys() - wanted.keys()
    _refuse(str(path), missing, unexpected, mismatched)


def _refuse(
    source: str, missing: Collection[str], unexpected: Collection[str], mismatched: Collection[str]
) -> None:
    """Raise CheckpointError that names what does not fit. Loading on with a fresh query or value
    bias, as some releases of transformers do, would give wrong predictions with no sign of it."""
    problems = [
        f"{len(names)} tensors {what}: {_some(names)}"
        for what, names in (
            ("are missing", missing),
            ("are not expected", unexpected),
            ("have another shape", mismatched),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{source} does not fit the architecture asked for: {'; '.join(problems)}; check arch "
            "or config, or the file"
        )


def _some(names: Collection[str]) -> str:
    shown = sorted(names)[:4]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")
