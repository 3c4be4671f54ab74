"""What pruned models take and give."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import pad
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput

from vidprune.backbones.base import Backbone
from vidprune.filling import Filling, sources, spread
from vidprune.model import Encoded, Trace


@dataclass
class PrunedOutput(ImageClassifierOutput):
    """A Hugging Face classifier output; `trace` is there when it was asked for. With a budget by
    content `setting` (B,) int64 says which of the settings answered each clip; it is no item."""

    trace: Trace | None = None
    setting: Tensor | None = None


@dataclass
class PrunedFeatures(BaseModelOutputWithPooling):
    """What an encoder without a head gives.

    `last_hidden_state` (B, P + K, C): the model's own tokens, then the survivors; `pooler_output`
    (B, C): one vector per clip; `dense_features` (B, N, C), on request: a feature for every place
    of the grid, time-major, the model's own tokens left out; `trace`, on request. Where clips keep
    different numbers of tokens, `valid` (B, P + K) bool is False for padding; else it is None.
    (A TimeSformer without time has its hidden state frame by frame, as in transformers:
    (B T, 1 + K / T, C).)
    """

    dense_features: Tensor | None = None
    valid: Tensor | None = None
    trace: Trace | None = None


def valid_of(backbone: Backbone, encoded: Encoded) -> Tensor | None:
    """Which of the tokens are none of padding, the model's own included."""
    valid = encoded.layout.valid
    return None if valid is None else pad(valid, (backbone.prefix, 0), value=True)


def on_grid(backbone: Backbone, features: Tensor, encoded: Encoded, dense: Filling) -> Tensor:
    """A feature for every place of the grid, (B, N, C)."""
    if features.shape[0] != encoded.tokens.shape[0]:
        # Of a model whose frames do not see each other, frame by frame.
        batch, frames = encoded.tokens.shape[0], encoded.layout.grid.frames
        own = features.unflatten(0, (batch, frames))[:, :, 1:].flatten(1, 2)
    else:
        own = features[:, backbone.prefix :]
    if encoded.stages == 0:
        return own if encoded.layout.time_major else spread(own, encoded.layout.origin.argsort(1))
    return spread(own, sources(encoded.layout, encoded.owners, encoded.stages, dense))


def check_clips(pixel_values: object, clip_shape: tuple[int, ...]) -> None:
    """Raise TypeError for what is no tensor, ValueError where clips are not of that shape."""
    if not isinstance(pixel_values, Tensor):
        raise TypeError(
            f"pixel_values is a {type(pixel_values).__name__}; give clips as a tensor (batch, "
            f"{', '.join(map(str, clip_shape))}), such as a processor or vidprune.read_clip makes"
        )
    if tuple(pixel_values.shape[1:]) != clip_shape:
        raise ValueError(
            f"pixel_values has the shape {tuple(pixel_values.shape)}, but the model takes (batch, "
            f"{', '.join(map(str, clip_shape))}): batch, frames, channels, height, width; sample "
            "the clips so, or load the model with other frames= and size="
        )
