"""Small models that are exported, and what is compared."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tiny_videomae import tiny_videomae
from vidprune.commands.export import Exporting, export
from vidprune.exporting.record import ExportRecord, record_path
from vidprune.exporting.running import Exported
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.pruned import prune

SPEC = "sta:r=4"


def pruned(spec: str = SPEC, **changes: Any) -> PreTrainedModel:
    return prune(tiny_videomae(**{"num_hidden_layers": 3} | changes), spec)


def exported(model: PreTrainedModel, output: Path, **how: Any) -> ExportRecord:
    form = {".onnx": "onnx", ".pt2": "torch"}[output.suffix]
    return export(
        model,
        output,
        Exporting(**{"format": form} | how),
        protocol=protocol_for(model, ViewOptions()),
        checkpoint="tiny",
    )


def clips(model: PreTrainedModel, count: int, seed: int = 5) -> Tensor:
    frames, side = model.config.num_frames, model.config.image_size
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(count, frames, 3, side, side, generator=noise)


def assert_same(model: PreTrainedModel, other: Exported, batch: int) -> None:
    pixels = clips(model, batch, seed=batch)
    with torch.inference_mode():
        wanted, found = (each(pixels, return_trace=True) for each in (model, other))
    torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-4, atol=1e-5)
    assert len(found.trace.origin) == 3
    for ours, theirs in zip(found.trace.origin, wanted.trace.origin, strict=True):
        assert torch.equal(ours, theirs)


def rewritten(file: Path, **changes: Any) -> Path:
    record = json.loads(record_path(file).read_text())
    record_path(file).write_text(json.dumps(record | changes))
    return file
