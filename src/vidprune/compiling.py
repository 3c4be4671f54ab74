"""One graph for a whole forward, and whether a graph is to leave this process."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch

_COMPILERS_ARE_TOLD_APART = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13)


def as_one_graph(forward: Callable[..., Any], *, replayed: bool = False) -> Callable[..., Any]:
    """A function compiled without breaks, once for each shape that it is given; with `replayed` on
    CUDA its launches are recorded once, and what it gives is overwritten by the next call.

    Compiled code is kept, counted and looked up by code object: a model of its own wants its own.
    """
    assert isinstance(forward, FunctionType), "as all that are defined"
    forward.__code__ = forward.__code__.replace()
    how = "reduce-overhead" if replayed else None
    return torch.compile(forward, fullgraph=True, dynamic=False, mode=how)


def is_exporting() -> bool:
    """Whether what runs is being written down as a program that must run without vidprune.

    Not known of strict exports before torch 2.13.
    """
    # To torch.compile, torch before 2.13 says that whatever it traces is exported.
    told = _COMPILERS_ARE_TOLD_APART or not torch.compiler.is_dynamo_compiling()
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return traced or (told and torch.compiler.is_exporting())
