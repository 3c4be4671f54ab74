"""One graph for a whole forward."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch


def as_one_graph(forward: Callable[..., Any], *, replayed: bool = False) -> Callable[..., Any]:
    """A function compiled without breaks, once for each shape that it is given; with `replayed` on
    CUDA its launches are recorded once, and what it gives is overwritten by the next call.

    Compiled code is kept, counted and looked up by code object: a model of its own wants its own.
    """
    assert isinstance(forward, FunctionType), "as all that are defined"
    forward.__code__ = forward.__code__.replace()
    how = "reduce-overhead" if replayed else None
    return torch.compile(forward, fullgraph=True, dynamic=False, mode=how)
