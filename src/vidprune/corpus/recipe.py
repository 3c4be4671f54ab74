"""What makes the model of a job, in whichever process it is asked."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from vidprune.backbones.positions import PositionRule
from vidprune.inference import Classifier, ViewModel
from vidprune.prepare import ViewOptions, load_model, protocol_for
from vidprune.pruned import prune

__all__ = ["Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
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
    head: bool | None = None
    batch_size: int = 8
    compiled: bool = False

    def make(self, device: torch.device | None = None) -> ViewModel:
        """The model, ready. Raises ValueError and FileNotFoundError as those functions do."""
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
            head=self.head,
        )
        kind = ViewModel if self.head is False else Classifier
        return kind(
            prune(model, self.reducer),
            protocol_for(model, self.options),
            batch_size=self.batch_size,
            device=device,
            compiled=self.compiled,
        )
