"""Which adapter serves which model."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch.nn import Identity
from transformers import PreTrainedConfig, PreTrainedModel

from vidprune.backbones.base import Backbone, Shape


@dataclass(frozen=True)
class Family:
    """A model family: the classes of its classifier and of its bare encoder, and the module that
    holds its adapter, with the names of the adapter's shape and backbone."""

    classifier: str
    encoder: str
    module: str
    shape: str
    backbone: str


def _family(classifier: str, encoder: str, module: str, name: str) -> Family:
    return Family(
        classifier, encoder, f"vidprune.backbones.{module}", f"{name}Shape", f"{name}Backbone"
    )


# By the `model_type` of their configurations.
FAMILIES = {
    "videomae": _family("VideoMAEForVideoClassification", "VideoMAEModel", "videomae", "VideoMAE"),
    "vivit": _family("VivitForVideoClassification", "VivitModel", "vivit", "ViViT"),
    "vjepa2": _family("VJEPA2ForVideoClassification", "VJEPA2Model", "vjepa2", "VJEPA2"),
    "timesformer": _family(
        "TimesformerForVideoClassification", "TimesformerModel", "timesformer", "TimeSformer"
    ),
    "videoprism_vision_model": _family(
        "VideoPrismForVideoClassification", "VideoPrismVisionModel", "videoprism", "VideoPrism"
    ),
    "videoswin": _family(
        "VideoSwinForVideoClassification", "VideoSwinModel", "videoswin", "VideoSwin"
    ),
}
BACKBONES = {family.classifier: family for family in FAMILIES.values()}
ENCODERS = {family.encoder: family for family in FAMILIES.values()}
_STEPS = "CONTRIBUTING.md says in four steps how a family is added"


def adapt(model: PreTrainedModel, *, compiled: bool = False) -> Backbone:
    """The model seen as a backbone, `compiled` with the halves of its blocks compiled.

    Raises TypeError where no adapter knows its class.
    """
    name = known_class(model)
    if name is None:
        raise TypeError(
            f"model is a {type(model).__name__}, which no backbone adapter knows; known classes: "
            f"{', '.join([*BACKBONES, *ENCODERS])}; {_STEPS}"
        )
    family = BACKBONES.get(name) or ENCODERS[name]
    if name == "VideoMAEForVideoClassification" and not model.config.use_mean_pooling:
        raise TypeError(
            f"model is a {name} with use_mean_pooling=False: it classifies from its first token "
            "alone, which pruning may drop; use a checkpoint with mean pooling"
        )
    backbone: Backbone = _of(family, family.backbone)(
        model.config, has_head(model), model, compiled
    )
    return backbone


def known_class(model: PreTrainedModel) -> str | None:
    """The class of the model that an adapter knows; None where there is none."""
    names = (kind.__name__ for kind in type(model).__mro__)
    return next((name for name in names if name in BACKBONES or name in ENCODERS), None)


def has_head(model: PreTrainedModel) -> bool:
    """Whether a model gives logits: some have a classifier's class, and nothing as classifier."""
    return known_class(model) in BACKBONES and not isinstance(
        getattr(model, "classifier", None), Identity
    )


def shape_of(config: PreTrainedConfig, *, head: bool = True) -> Shape:
    """What a configuration tells of its models, with a classifier's `head` or without.

    Raises TypeError where no adapter knows it.
    """
    if config.model_type not in FAMILIES:
        raise TypeError(
            f"config is of the family {config.model_type!r}, which no backbone adapter knows; "
            f"known families: {', '.join(FAMILIES)}; {_STEPS}"
        )
    family = FAMILIES[config.model_type]
    shape: Shape = _of(family, family.shape)(config, head)
    return shape


def _of(family: Family, name: str) -> Any:
    return getattr(import_module(family.module), name)
