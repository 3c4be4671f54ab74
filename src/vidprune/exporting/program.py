"""A model's forward written down as one program, with clips in and an answer out."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vidprune.backbones.registry import adapt, has_head
from vidprune.model import per_clip
from vidprune.pruned import Pruned, prune

PIXELS, KEYS = "pixel_values", "clip_keys"
LOGITS, VECTOR = "logits", "pooler_output"
# What a program is traced with; of one, torch would take the batch for a constant.
_TRACED_BATCH = 2


@dataclass(frozen=True, eq=False)
class Program:
    """A traced forward.

    `inputs`: "pixel_values" (B, T, 3, H, W), normalised, in the model's dtype, and of reducers that
    draw also "clip_keys" (B,) int64. `outputs`: "logits" (B, classes) float32, or of an encoder
    "pooler_output" (B, C) float32, and for each stage "origin_1" ... (B, K) int64: the survivors'
    places in the grid, flat and time-major.
    """

    exported: torch.export.ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Answering(nn.Module):
    """A model that answers with plain tensors."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        # Pruned with nothing, a dense model answers alike.
        self.model = model if isinstance(model, Pruned) else prune(model, None)
        self.answer = LOGITS if has_head(model) else VECTOR

    def forward(self, pixel_values: Tensor, clip_keys: Tensor | None = None) -> tuple[Tensor, ...]:
        """The answer, and the places of the survivors of each stage."""
        output = self.model(pixel_values, clip_keys=clip_keys, return_trace=True)
        found = per_clip(getattr(output, self.answer), pixel_values.shape[0])
        return (found, *output.trace.origin)


def inputs_of(model: PreTrainedModel) -> tuple[str, ...]:
    """What its program is given."""
    reducer = getattr(model, "reducer", None)
    draws = reducer is not None and KEYS in reducer.needs
    return (PIXELS, KEYS) if draws else (PIXELS,)


def example(model: PreTrainedModel, batch: int) -> tuple[Tensor, ...]:
    """So many clips of noise, as the model takes them."""
    noise = torch.Generator().manual_seed(0)
    pixels = torch.randn(batch, *adapt(model).clip_shape, generator=noise)
    keys = torch.arange(batch)
    given = {PIXELS: pixels.to(model.device, model.dtype), KEYS: keys.to(model.device)}
    return tuple(given[name] for name in inputs_of(model))


def trace(model: PreTrainedModel, *, batch: int | None = None) -> Program:
    """Write the forward of a model, dense or pruned, down for a batch of so many clips, or of any
    number (None).

    Raises ValueError for a reducer whose shapes depend on the clip.
    """
    answering, names = Answering(model).eval(), inputs_of(model)
    given = example(model, batch or _TRACED_BATCH)
    several = torch.export.Dim("batch", min=1)
    shapes: Any = None if batch else {name: {0: several} for name in names}
    with torch.no_grad():
        try:
            exported = torch.export.export(answering, given, dynamic_shapes=shapes)
            origins = len(answering(*given)) - 1
        except torch._dynamo.exc.UserError as error:
            raise _unknown_shapes(model) from error
        except torch.fx.experimental.symbolic_shapes.GuardOnDataDependentSymNode as error:
            raise _unknown_shapes(model) from error
    stages = tuple(f"origin_{number}" for number in range(1, origins + 1))
    return Program(exported, names, (answering.answer, *stages))


def _unknown_shapes(model: PreTrainedModel) -> ValueError:
    return ValueError(
        f"reducer={getattr(model, 'reducer', None)!r} keeps another number of tokens of every "
        "clip, which no program of fixed shapes can say; choose one that keeps a set number, such "
        "as sta:r=64"
    )
