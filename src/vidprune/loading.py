"""`vidprune.load`: a model as people have it, pruned where it was saved so."""

from functools import wraps
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from vidprune.backbones import checkpoints
from vidprune.pruned import as_recorded


@wraps(checkpoints.load)
def load(source: str | Path, **options: Any) -> PreTrainedModel:
    """`checkpoints.load`, and the reducer that the checkpoint records."""
    return as_recorded(checkpoints.load(source, **options))
