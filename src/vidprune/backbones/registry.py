"""Which adapter serves which model."""

from transformers import PreTrainedModel

from vidprune.backbones.base import Backbone
from vidprune.backbones.videomae import VideoMAEBackbone

BACKBONES: dict[str, type] = {"VideoMAEForVideoClassification": VideoMAEBackbone}


def adapt(model: PreTrainedModel) -> Backbone:
    """The model seen as a backbone. Raises TypeError where no adapter knows its class."""
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
    backbone: Backbone = BACKBONES[name](model)
    return backbone
