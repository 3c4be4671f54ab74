"""Which adapter serves which model."""

from transformers import PreTrainedConfig, PreTrainedModel

from vidprune.backbones.base import Backbone, Shape
from vidprune.backbones.videomae import VideoMAEBackbone, VideoMAEShape

# By the class of the model, and by the `model_type` of its configuration.
BACKBONES: dict[str, type] = {"VideoMAEForVideoClassification": VideoMAEBackbone}
SHAPES: dict[str, type] = {"videomae": VideoMAEShape}


def adapt(model: PreTrainedModel, *, compiled: bool = False) -> Backbone:
    """The model seen as a backbone, `compiled` with the halves of its blocks compiled.

    Raises TypeError where no adapter knows its class.
    """
    name = next((kind.__name__ for kind in type(model).__mro__ if kind.__name__ in BACKBONES), None)
    if name is None:
        raise TypeError(
            f"model is a {type(model).__name__}, which no backbone adapter knows; known classes: "
            f"{', '.join(BACKBONES)}"
        )
    if not model.config.use_mean_pooling:
        raise TypeError(
            f"model is a {name} with use_mean_pooling=False: it classifies from its first token "
            "alone, which pruning may drop; use a checkpoint with mean pooling"
        )
    backbone: Backbone = BACKBONES[name](model.config, model, compiled)
    return backbone


def shape_of(config: PreTrainedConfig) -> Shape:
    """What a configuration tells of its models. Raises TypeError where no adapter knows it."""
    if config.model_type not in SHAPES:
        raise TypeError(
            f"config is of the family {config.model_type!r}, which no backbone adapter knows; "
            f"known families: {', '.join(SHAPES)}"
        )
    shape: Shape = SHAPES[config.model_type](config)
    return shape
