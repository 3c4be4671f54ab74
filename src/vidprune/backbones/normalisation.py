"""How pixels are normalised: as a checkpoint's processor does it, or else as its family does.

Configurations record it as `image_mean` and `image_std` of pixels in [0, 1].
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig
from transformers.utils import cached_file

Normalisation = dict[str, list[float]]

_FILES = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# What a family was published with. ViViT was trained on pixels in [-1, 1], VideoPrism on [0, 1].
_PUBLISHED = {
    "videomae": _IMAGENET,
    "vivit": ((0.5,) * 3, (0.5,) * 3),
    "vjepa2": _IMAGENET,
    "timesformer": ((0.45,) * 3, (0.225,) * 3),
    "videoprism_vision_model": ((0.0,) * 3, (1.0,) * 3),
    "videoswin": _IMAGENET,
}


def published(model_type: str) -> Normalisation:
    """`image_mean` and `image_std` of a family."""
    mean, std = _PUBLISHED[model_type]
    return {"image_mean": list(mean), "image_std": list(std)}


def complete(config: PreTrainedConfig) -> None:
    """Record the family's normalisation where the configuration has none of its own."""
    for name, value in published(config.model_type).items():
        if not getattr(config, name, None):
            setattr(config, name, value)


def of_checkpoint(source: str, revision: str | None) -> Normalisation:
    """What the processor beside a hub id's or folder's weights does; empty where there is none."""
    for name in _FILES:
        found = cached_file(
            source,
            name,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found is not None:
            record: dict[str, Any] = json.loads(Path(found).read_text(encoding="utf-8"))
            # Processors of several things keep a record for each.
            inner = record.get("video_processor") or record.get("image_processor")
            return of_processor(inner if isinstance(inner, dict) else record)
    return {}


def of_processor(record: Mapping[str, Any]) -> Normalisation:
    """What a processor does to pixels in [0, 1], from the fields of its JSON file.

    Bytes are rescaled, then shifted by 1 (ViViT's `offset`), then normalised: of pixels in [0, 1],
    all of it is one mean and one standard deviation. Empty where it normalises by numbers that the
    record does not have.
    """
    is_vivit = str(record.get("image_processor_type", "")).lower().startswith("vivit")
    is_vivit |= str(record.get("video_processor_type", "")).lower().startswith("vivit")
    mean, std = _mean_and_std(record)
    if mean is None or std is None:
        return {}
    factor = record.get("rescale_factor", 1 / 127.5 if is_vivit else 1 / 255)
    rescaled = record.get("do_rescale", True)
    # Rounded, since files write 1/255 with fewer digits than it has.
    scale = round(255 * factor, 9) if rescaled else 255.0
    offset = 1.0 if rescaled and record.get("offset", is_vivit) else 0.0
    return {
        "image_mean": [(offset + value) / scale for value in mean],
        "image_std": [value / scale for value in std],
    }


def _mean_and_std(record: Mapping[str, Any]) -> tuple[list[float] | None, list[float] | None]:
    if not record.get("do_normalize", True):
        return [0.0] * 3, [1.0] * 3
    return _three(record.get("image_mean")), _three(record.get("image_std"))


def _three(value: float | Sequence[float] | None) -> list[float] | None:
    return [value] * 3 if isinstance(value, int | float) else list(value) if value else None
