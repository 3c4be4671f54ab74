"""`vidprune.load`: a model as people have it, pruned as it was saved or as is asked."""

from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from vidprune.backbones import checkpoints
from vidprune.pruned import as_recorded, prune, take_recorded
from vidprune.reducers.base import Reducer


@wraps(checkpoints.load)
def load(
    source: str | Path, *, reducer: Reducer | str | None = None, **options: Any
) -> PreTrainedModel:
    """`checkpoints.load`, whose docstring is shown, with the reducer that is given; where none is,
    with the one that the checkpoint records."""
    model = checkpoints.load(source, **options)
    if reducer is None:
        return as_recorded(model)
    take_recorded(model)
    return prune(model, reducer)


_source, *_options = signature(checkpoints.load).parameters.values()
_reducer = Parameter(
    "reducer", Parameter.KEYWORD_ONLY, default=None, annotation=Reducer | str | None
)
load.__signature__ = signature(checkpoints.load).replace(  # type: ignore[attr-defined]
    parameters=[_source, _reducer, *_options]
)
