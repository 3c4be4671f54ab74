"""What a model and its reducer are put together from, in whichever process they are asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedModel

from vidprune.backbones.positions import PositionRule
from vidprune.backbones.quantized import Quantization
from vidprune.inference import Classifier, ViewModel
from vidprune.prepare import ViewOptions, load_model, protocol_for
from vidprune.pruned import prune
from vidprune.video import Protocol

__all__ = ["Assembly"]


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A checkpoint, its reducer and its views; the fields are those of `load_model`, `prune` and
    `ViewModel`. `head`: False for an encoder, whose answers are vectors."""

    source: str
    reducer: str = "none"
    options: ViewOptions = field(default_factory=ViewOptions)
    arch: str | None = None
    config: Path | None = None
    positions: PositionRule = "interpolate"
    labels: str | None = None
    dtype: str = "fp32"
    attn_implementation: str | None = None
    onednn: bool = False
    quantize: Quantization | None = None
    head: bool | None = None
    batch_size: int = 8
    compiled: bool = False

    def models(self, reducers: Sequence[str]) -> tuple[list[PreTrainedModel], Protocol]:
        """The model with each of these reducers, over the same weights, and the views it is given.

        Raises ValueError and FileNotFoundError as `load_model`, `prune` and `protocol_for` do.
        """
        model = load_model(
            self.source,
            options=self.options,
            arch=self.arch,
            config=self.config,
            positions=self.positions,
            labels=self.labels,
            dtype=self.dtype,
            attn_implementation=self.attn_implementation,
            onednn=self.onednn,
            quantize=self.quantize,
            head=self.head,
        )
        return [prune(model, each) for each in reducers], protocol_for(model, self.options)

    def make(self, device: torch.device | None = None) -> ViewModel:
        """The model with its own reducer, ready for videos; a `Classifier` if it has a head."""
        (model,), protocol = self.models([self.reducer])
        kind = ViewModel if self.head is False else Classifier
        return kind(
            model, protocol, batch_size=self.batch_size, device=device, compiled=self.compiled
        )
