"""Which adapter serves which model."""

from collections.abc import Callable
from dataclasses import dataclass

from torch.nn import Identity
from transformers import PreTrainedConfig, PreTrainedModel

from vidprune.backbones.base import Backbone, Shape
from vidprune.backbones.timesformer import TimeSformerBackbone, TimeSformerShape
from vidprune.backbones.videomae import VideoMAEBackbone, VideoMAEShape
from vidprune.backbones.videoprism import VideoPrismBackbone, VideoPrismShape
from vidprune.backbones.videoswin import VideoSwinBackbone, VideoSwinShape
from vidprune.backbones.vivit import ViViTBackbone, ViViTShape
from vidprune.backbones.vjepa2 import VJEPA2Backbone, VJEPA2Shape


@dataclass(frozen=True)
class Family:
    """A model family: the names of its classifier and of its bare encoder, and its adapter."""

    classifier: str
    encoder: str
    shape: Callable[..., Shape]
    backbone: Callable[..., Backbone]


# By the `model_type` of their configurations.
FAMILIES = {
    "videomae": Family(
        "VideoMAEForVideoClassification", "VideoMAEModel", VideoMAEShape, VideoMAEBackbone
    ),
    "vivit": Family("VivitForVideoClassification", "VivitModel", ViViTShape, ViViTBackbone),
    "vjepa2": Family("VJEPA2ForVideoClassification", "VJEPA2Model", VJEPA2Shape, VJEPA2Backbone),
    "timesformer": Family(
        "TimesformerForVideoClassification",
        "TimesformerModel",
        TimeSformerShape,
        TimeSformerBackbone,
    ),
    "videoprism_vision_model": Family(
        "VideoPrismForVideoClassification",
        "VideoPrismVisionModel",
        VideoPrismShape,
        VideoPrismBackbone,
    ),
    "videoswin": Family(
        "VideoSwinForVideoClassification", "VideoSwinModel", VideoSwinShape, VideoSwinBackbone
    ),
}
BACKBONES = {family.classifier: family for family in FAMILIES.values()}
ENCODERS = {family.encoder: family for family in FAMILIES.values()}
STEPS = "CONTRIBUTING.md says in four steps how a family is added"


def adapt(model: PreTrainedModel, *, compiled: bool = False) -> Backbone:
    """The model seen as a backbone, `compiled` with the halves of its blocks compiled.

    Raises TypeError where no adapter knows its class.
    """
    name = known_class(model)
    if name is None:
        raise TypeError(
            f"model is a {type(model).__name__}, which no backbone adapter knows; known classes: "
            f"{', '.join([*BACKBONES, *ENCODERS])}; {STEPS}"
        )
    family = BACKBONES.get(name) or ENCODERS[name]
    if name == "VideoMAEForVideoClassification" and not model.config.use_mean_pooling:
        raise TypeError(
            f"model is a {name} with use_mean_pooling=False: it classifies from its first token "
            "alone, which pruning may drop; use a checkpoint with mean pooling"
        )
    return family.backbone(model.config, has_head(model), model, compiled)


def known_class(model: PreTrainedModel) -> str | None:
    """The class of the model that an adapter knows; None where there is none."""
    names = (kind.__name__ for kind in type(model).__mro__)
    return next((name for name in names if name in BACKBONES or name in ENCODERS), None)


def has_head(model: PreTrainedModel) -> bool:
    """Whether a model gives logits: some have a classifier's class, and nothing as classifier."""
    return known_class(model) in BACKBONES and not isinstance(
        getattr(model, "classifier", None), Identity
    )


def says_encoder(config: PreTrainedConfig) -> bool:
    """Whether a checkpoint says of itself that it has no head."""
    return config.architectures == [FAMILIES[config.model_type].encoder]


def promises_head(config: PreTrainedConfig) -> bool:
    """Whether the model that a configuration was saved with gives logits. One that does not say
    is a classifier; one of no classes has nothing to give them with (see `has_head`)."""
    return config.num_labels > 0 and not says_encoder(config)


def shape_of(config: PreTrainedConfig, *, head: bool | None = None) -> Shape:
    """What a configuration tells of its models, with a classifier's `head` or without; None: as
    it says itself (see `promises_head`).

    Raises TypeError where no adapter knows it.
    """
    if config.model_type not in FAMILIES:
        raise TypeError(
            f"config is of the family {config.model_type!r}, which no backbone adapter knows; "
            f"known families: {', '.join(FAMILIES)}; {STEPS}"
        )
    head = promises_head(config) if head is None else head
    return FAMILIES[config.model_type].shape(config, head)
