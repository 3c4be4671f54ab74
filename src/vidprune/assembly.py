"""What a model and its reducer are put together from, in whichever process they are asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedModel

from vidprune.backbones.checkpoints import configuration
from vidprune.backbones.positions import PositionRule
from vidprune.backbones.quantized import Quantization
from vidprune.exporting.record import is_exported, located, read_record
from vidprune.exporting.running import Exported, load_exported
from vidprune.inference import Classifier, ViewModel
from vidprune.prepare import ViewOptions, load_model, protocol_for
from vidprune.pruned import RECORDED, prune
from vidprune.reducers.by_content import ByContent
from vidprune.reducers.spec import NONE, parse
from vidprune.video import Decoder, Protocol

__all__ = ["Assembly"]

_USUAL_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A checkpoint, its reducer and its views; the fields are those of `load_model`, `prune` and
    `ViewModel`. `reducer`: None for what the checkpoint records, which may be none. `head`: False
    for an encoder, whose answers are vectors."""

    source: str
    reducer: str | None = None
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
    batch_size: int = _USUAL_BATCH
    compiled: bool = False
    replayed: bool = False
    decoder: Decoder = "pyav"

    def models(
        self, reducers: Sequence[str | None], device: torch.device | None = None
    ) -> tuple[list[PreTrainedModel | Exported], Protocol]:
        """The model with each of these reducers, over the same weights, and the views it is given.

        An exported model has its reducer, and is put on `device` (None: where it runs best); any
        other model is where it was loaded.

        Raises ValueError and FileNotFoundError as `load_model`, `load_exported`, `prune` and
        `protocol_for` do, and for options that an exported model does not take.
        """
        if is_exported(self.source):
            self._check_exported(reducers)
            exported = load_exported(self.source, device=device)
            return [exported], protocol_for(exported, self.options)
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
        given = [self._recorded() if each is None else each for each in reducers]
        return [prune(model, each) for each in given], protocol_for(model, self.options)

    def make(self, device: torch.device | None = None) -> ViewModel:
        """The model with its own reducer, ready for videos; a `Classifier` if it has a head."""
        (model,), protocol = self.models([self.reducer], device)
        return self.ready(model, protocol, device)

    def ready(
        self,
        model: PreTrainedModel | Exported,
        protocol: Protocol,
        device: torch.device | None = None,
    ) -> ViewModel:
        """One of its models with its views."""
        kind = ViewModel if self.head is False else Classifier
        batch = self.batch_size
        if isinstance(model, Exported):
            device, batch = model.device, model.record.batch or batch
        return kind(
            model,
            protocol,
            batch_size=batch,
            device=device,
            compiled=self.compiled,
            replayed=self.replayed,
            decoder=self.decoder,
        )

    @property
    def by_content(self) -> bool:
        """Whether the reducer, which may be the checkpoint's, chooses a setting for each clip."""
        if self.reducer is None and is_exported(self.source):
            return False
        return isinstance(parse(self.reducer or self._recorded()), ByContent)

    def _recorded(self) -> str:
        """The reducer that the checkpoint was saved with."""
        config = configuration(self.source, arch=self.arch, config=self.config)
        return str(getattr(config, RECORDED, NONE))

    def _check_exported(self, reducers: Sequence[str | None]) -> None:
        """Refuse what was settled when the model was exported."""
        own = read_record(located(self.source))
        settled: dict[str, tuple[object, object]] = {
            "arch": (self.arch, None),
            "config": (self.config, None),
            "positions": (self.positions, "interpolate"),
            "labels": (self.labels, None),
            "dtype": (self.dtype, "fp32"),
            "attn_implementation": (self.attn_implementation, None),
            "onednn": (self.onednn, False),
            "quantize": (self.quantize, None),
            "compile": (self.compiled, False),
            "replay": (self.replayed, False),
            "frames": (self.options.frames, None),
            "size": (self.options.size, None),
        }
        for name, (given, usual) in settled.items():
            if given != usual:
                raise ValueError(
                    f"{self.source} is exported, which settles {name}; leave it out, or export the "
                    "model again with another"
                )
        if own.batch is not None and self.batch_size not in (own.batch, _USUAL_BATCH):
            raise ValueError(
                f"{self.source} takes {own.batch} clips at once, not batch_size={self.batch_size}; "
                "leave it out, or export the model again with another"
            )
        for reducer in reducers:
            if isinstance(parse(reducer or NONE), ByContent):
                raise ValueError(
                    f"{self.source} is exported with reducer={own.reducer}, and has no other to "
                    "choose by content; name the checkpoint that it was made of"
                )
            if reducer not in (None, own.reducer):
                raise ValueError(
                    f"{self.source} is exported with reducer={own.reducer}, not {reducer}; export "
                    "the model again with that"
                )
        embeds = own.outputs[0] != "logits"
        if embeds != (self.head is False):
            raise ValueError(
                f"{self.source} gives {'vectors' if embeds else 'logits'}; "
                + ("ask embed for them" if embeds else "vectors take export --encoder")
            )
