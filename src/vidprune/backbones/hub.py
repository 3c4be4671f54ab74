"""Hugging Face ids and folders, of every family: their configurations and their models."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from vidprune.backbones import normalisation
from vidprune.backbones.architectures import ARCHITECTURES, with_random_weights
from vidprune.backbones.families import check_family, config_class, model_class
from vidprune.backbones.originals import fill, read_original
from vidprune.backbones.refusals import CheckpointError, refuse
from vidprune.backbones.registry import has_head, says_encoder
from vidprune.backbones.resizing import is_learned, resized, stretch
from vidprune.backbones.videomae_v2_hub import WEIGHTS, is_videomae_v2, to_videomae

# What ends so was meant to be here: the hub has repositories.
_CHECKPOINT_FILES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".pyth")
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def hub_config(source: str, *, revision: str | None = None) -> PreTrainedConfig:
    """The configuration of a hub id or folder.

    Raises FileNotFoundError where there is none, CheckpointError where it is of another family.
    """
    return config_from(_record(source, revision), source)


def config_from(record: Mapping[str, Any], source: str) -> PreTrainedConfig:
    """The configuration that the content of a config.json is; its `model_type` decides.

    Raises CheckpointError where it is of another family.
    """
    if is_videomae_v2(record):
        return to_videomae(record, source)
    check_family(source, record.get("model_type"))
    return config_class(record["model_type"]).from_dict(dict(record))


def from_hub(
    source: str,
    *,
    revision: str | None = None,
    head: bool | None = None,
    frames: int | None = None,
    size: int | None = None,
) -> PreTrainedModel:
    """The model of a hub id or folder, for its own clips or others.

    `head`: whether to take the classifier or the bare encoder; None: what the checkpoint says it
    is. Raises FileNotFoundError where there is none, CheckpointError where it does not fit.
    """
    record = _record(source, revision)
    config = config_from(record, source)
    for name, value in normalisation.of_checkpoint(source, revision).items():
        setattr(config, name, value)
    normalisation.complete(config)
    wants_head = head is True
    if head is None:
        head = not says_encoder(config)
    if is_learned(config.model_type):
        model = _pretrained(source, revision, config, head)
        stretch(model, frames=frames, size=size)
    else:
        config = resized(config, frames=frames, size=size)
        reads = _videomae_v2 if is_videomae_v2(record) else _pretrained
        model = reads(source, revision, config, head)
    if wants_head and not has_head(model):
        raise CheckpointError(
            f"{source} has no classifier's head, which head=True insists on; leave head out for "
            "features, or give a fine-tuned checkpoint"
        )
    return model


def _record(source: str, revision: str | None) -> dict[str, Any]:
    """The content of its config.json."""
    if Path(source).is_dir() and not Path(source, "config.json").is_file():
        raise FileNotFoundError(
            f"{source} is a folder with no config.json in it; give a checkpoint's folder, or an "
            "original checkpoint file with arch or config"
        )
    is_file_name = source.lower().endswith(_CHECKPOINT_FILES)
    if not Path(source).is_dir() and (is_file_name or not _HUB_ID.fullmatch(source)):
        raise FileNotFoundError(
            f"{source} does not exist; give a checkpoint file, a folder with a config.json, a "
            f"Hugging Face id (owner/name), demo, or one of {', '.join(ARCHITECTURES)}"
        )
    try:
        record, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{source} is no file, no folder with a config.json, no architecture "
            f"({', '.join(ARCHITECTURES)}), and cannot be had from the Hugging Face hub "
            f"({str(error).splitlines()[0]})"
        ) from error
    return dict(record)


def _pretrained(
    source: str, revision: str | None, config: PreTrainedConfig, head: bool
) -> PreTrainedModel:
    kind = model_class(config.model_type, head=head)
    # Asked before loading, which writes the loaded class there.
    is_bare = says_encoder(config)
    try:
        model, info = kind.from_pretrained(
            source,
            revision=revision,
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (OSError, SafetensorError) as error:
        raise _without_weights(source, str(error)) from error
    missing, unexpected = set(info["missing_keys"]), set(info["unexpected_keys"])
    if not head and not is_bare:
        prefix = f"{kind.base_model_prefix}."
        unexpected = {name for name in unexpected if name.startswith(prefix)}
    if not head:
        missing -= _without_pooler(model, missing)
    mismatched = [f"{name} {tuple(a)} for {tuple(b)}" for name, a, b in info["mismatched_keys"]]
    refuse(source, missing, unexpected, mismatched)
    return model


def _without_pooler(model: PreTrainedModel, missing: set[str]) -> set[str]:
    """ViViT's classifiers have no pooler; taken out of its encoder, where it would be random."""
    pooler = {name for name in model.state_dict() if name.startswith("pooler.")}
    if not pooler or not pooler <= missing:
        return set()
    model.pooler = None
    return pooler


def _videomae_v2(
    source: str, revision: str | None, config: PreTrainedConfig, head: bool
) -> PreTrainedModel:
    try:
        path = cached_file(source, WEIGHTS, revision=revision)
    except OSError as error:
        raise _without_weights(source, str(error)) from error
    assert path is not None, "it raises where there is none"
    state = read_original(Path(path))
    model = with_random_weights(config, head=head)
    fill(model, state, source)
    return model


def _without_weights(source: str, reason: str) -> CheckpointError:
    first_line = reason.partition("\n")[0]
    return CheckpointError(
        f"{source} has a config.json, but no weights that can be read: {first_line}"
    )
