"""The classes of the families that can be loaded: of their configurations and of their models."""

from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from vidprune.backbones import videoswin_model
from vidprune.backbones.refusals import CheckpointError
from vidprune.backbones.registry import FAMILIES, STEPS


def config_class(model_type: str) -> type[PreTrainedConfig]:
    """The configurations of a family."""
    found: type[PreTrainedConfig] = model_class(model_type, head=True).config_class
    return found


def model_class(model_type: str, *, head: bool) -> type[PreTrainedModel]:
    """The models of a family, with a classifier's head or without."""
    family = FAMILIES[model_type]
    found: type[PreTrainedModel] = _class(family.classifier if head else family.encoder)
    return found


def check_family(source: str, model_type: object) -> None:
    """Raise CheckpointError for a `model_type` that is none of ours."""
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise CheckpointError(
            f"{source!r} is a checkpoint of the family {model_type!r}; the families that can be "
            f"loaded are: {', '.join(FAMILIES)}; {STEPS}"
        )


def _class(name: str) -> Any:
    # VideoSwin's are our own, all others are transformers', which imports them when asked.
    return getattr(videoswin_model if hasattr(videoswin_model, name) else transformers, name)
