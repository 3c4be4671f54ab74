"""A model as people have it (hub id, folder, original file, name) -> a model to run."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from vidprune.backbones.architectures import ARCHITECTURES, architecture, with_random_weights
from vidprune.backbones.attention_in_parts import BY_ONEDNN, IN_PARTS, set_attention
from vidprune.backbones.embedding import keep_tables_near, project_by_products
from vidprune.backbones.hub import config_from, from_hub, hub_config
from vidprune.backbones.onednn import use_onednn
from vidprune.backbones.originals import from_original, original_config
from vidprune.backbones.positions import POSITION_RULES, PositionRule
from vidprune.backbones.quantized import Quantization, check_quantization, quantize_blocks
from vidprune.backbones.registry import FAMILIES, has_head
from vidprune.backbones.resizing import check_positions, resized
from vidprune.backbones.unsaved import restore_unsaved

__all__ = ["DEMO", "configuration", "load", "name_classes", "resized"]

DEMO = "demo"
_DEMO_FOLDER = Path(__file__).parents[1] / "demo" / "model"


def load(
    source: str | Path,
    *,
    arch: str | None = None,
    config: PreTrainedConfig | str | Path | None = None,
    frames: int | None = None,
    size: int | None = None,
    positions: PositionRule = "interpolate",
    labels: Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    head: bool | None = None,
    attn_implementation: str | None = None,
    onednn: bool = False,
    quantize: Quantization | None = None,
) -> PreTrainedModel:
    """A video classifier, or an encoder without a head, in evaluation mode.

    `source`: a Hugging Face id or folder of a known family; an original VideoMAE, VideoMAE V2 or
    VideoSwin file (`.pth` or `.safetensors`) together with `arch` or `config`; the name of an
    architecture, which gives random weights; or `"demo"`, the model that ships with vidprune.
    `config` is a configuration or the path of its JSON file. `frames` and `size` (pixels) ask for
    another clip than the checkpoint was trained on; position tables are stretched over (time, row,
    column), or, with `positions="recompute"` and where they can be computed, computed anew.
    `labels` names the classes. `head=False` gives the bare encoder, `head=True` insists on a head;
    None takes what the checkpoint says it is. (A VideoMAE norms its mean by `fc_norm`, which counts
    as the head's. VideoMAE V2 on the hub has that norm and no head: None gives its features normed,
    as its authors do, `head=False` the mean of the bare encoder's tokens.)
    `attn_implementation` is a name that transformers know; None takes sdpa where the family has it,
    and on CPUs that multiply bfloat16 a faster one for models in bfloat16 (`"vidprune"`). Blocks
    whose keys have weights, or whose tokens have places of their own, take sdpa or that one.
    `onednn` lets oneDNN take the products of float32 on a CPU, those of attention too where
    `attn_implementation` is None: on AMD's processors in three fifths of the time, with other last
    bits.
    `quantize` has torchao compute the linear layers of blocks in 8 bits, weights and what they are
    given: "int8", or on newer GPUs, of models in bfloat16, "float8". Such a model is for inference
    and is not saved; layers in 8 bits are torchao's, whatever `onednn` says of the others.

    `vidprune.load` also takes `reducer`, as `prune` does, such as "sta:r=64" or a recipe's file.
    Where none is given, a checkpoint that was saved pruned is pruned again; `reducer="none"`, or
    `unprune`, gives the dense model.

    The model's `config` also records `image_mean` and `image_std` (of pixels in [0, 1]) and,
    where they matter, `fc_norm_eps` and `position_grid`, which `load` reads back.

    Raises ValueError or FileNotFoundError for a wrong argument, CheckpointError for a file whose
    content does not fit: another family, missing or unexpected tensors, wrong shapes, lost biases.
    """
    if positions not in POSITION_RULES:
        raise ValueError(f"positions={positions!r} is not known; choose one of {POSITION_RULES}")
    if quantize is not None:
        # Before weights are read.
        check_quantization(quantize)
    source, config = _named(source), _configured(config)
    path, with_head = Path(source), head is not False
    if path.is_file():
        config = original_config(path, arch, config)
        model = from_original(path, config, head=with_head, frames=frames, size=size)
    elif arch is not None or (config is not None and source not in ARCHITECTURES):
        raise _misplaced(source, path)
    elif source in ARCHITECTURES and not path.exists():
        config = resized(config or architecture(source), frames=frames, size=size)
        model = with_random_weights(config, head=with_head)
    else:
        model = from_hub(source, revision=revision, head=head, frames=frames, size=size)
    check_positions(model.config.model_type, positions)
    restore_unsaved(model, positions)
    if labels is not None:
        name_classes(model, labels)
    keep_tables_near(model)
    project_by_products(model)
    if onednn:
        use_onednn(model)
    set_attention(model, attn_implementation, own=BY_ONEDNN if onednn else IN_PARTS)
    model = model.eval() if dtype is None else model.eval().to(dtype)
    if quantize is not None:
        quantize_blocks(model, quantize)
    return model


def configuration(
    source: str | Path,
    *,
    arch: str | None = None,
    config: PreTrainedConfig | str | Path | None = None,
    frames: int | None = None,
    size: int | None = None,
    revision: str | None = None,
) -> PreTrainedConfig:
    """The configuration of what `load` would load; arguments as there. No weights are read.

    Of an original checkpoint only `arch` or `config` counts, so classes are counted from that.
    """
    source = _named(source)
    config = _configured(config)
    path = Path(source)
    if path.is_file():
        config = original_config(path, arch, config)
    elif arch is not None or (config is not None and source not in ARCHITECTURES):
        raise _misplaced(source, path)
    elif source in ARCHITECTURES and not path.exists():
        config = config or architecture(source)
    else:
        config = hub_config(source, revision=revision)
    return resized(config, frames=frames, size=size)


def _named(source: str | Path) -> str:
    if not isinstance(source, str | Path) or not str(source):
        raise ValueError(f"source={source!r} must name a checkpoint: a file, a folder or an id")
    return str(_DEMO_FOLDER) if source == DEMO else str(source)


def _configured(config: PreTrainedConfig | str | Path | None) -> PreTrainedConfig | None:
    """A configuration of whatever model goes with it: of what it was saved with it says nothing."""
    config = copy.deepcopy(_found(config))
    if config is not None:
        config.architectures = None
    return config


def _found(config: PreTrainedConfig | str | Path | None) -> PreTrainedConfig | None:
    if isinstance(config, dict):
        raise ValueError(
            "config is a dict; give a configuration of transformers, such as a VideoMAEConfig, or "
            "the path of its JSON file"
        )
    if isinstance(config, str | Path):
        return config_from({"model_type": "videomae"} | _record_of(Path(config)), str(config))
    if config is not None and config.model_type not in FAMILIES:
        raise ValueError(
            f"config is of the family {config.model_type!r}, which cannot be loaded; give one of "
            f"{', '.join(FAMILIES)}"
        )
    return config


def _record_of(path: Path) -> dict[str, Any]:
    """What a configuration's file holds."""
    if not path.is_file():
        raise FileNotFoundError(f"config={str(path)!r} is no file; give a model's config.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"config={str(path)!r} is not the JSON object of a model's configuration, as a "
            "checkpoint's config.json holds it; give such a file"
        )
    return found


def _misplaced(source: str, path: Path) -> Exception:
    if path.is_dir():
        return ValueError(f"{source} is a folder with a config.json of its own; omit arch, config")
    return FileNotFoundError(f"{source} does not exist; give a .pth or .safetensors file")


def name_classes(model: PreTrainedModel, labels: Sequence[str]) -> None:
    """Give the model's classes names, in order. Raises ValueError where their number differs."""
    if isinstance(labels, str):
        raise ValueError(
            f"labels={labels!r} must list one name per class; label sets that ship with vidprune "
            "are in vidprune.labels.label_names(...)"
        )
    if not has_head(model):
        raise ValueError(
            f"labels holds {len(labels)} names, but the model, a {type(model).__name__}, "
            "has no head; leave labels out"
        )
    if len(labels) != model.config.num_labels:
        raise ValueError(
            f"labels holds {len(labels)} names, but the checkpoint's head has "
            f"{model.config.num_labels} classes; give one name per class, in order"
        )
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: index for index, label in enumerate(labels)}
