"""The ways to run a model whose speed is compared."""

from collections.abc import Callable

import torch
from torch import Tensor

from vidprune.backbones.registry import adapt
from vidprune.model import run
from vidprune.pruned import Pruned

MODES = ("eager", "blocks", "graph")


def forward_in(model: Pruned, mode: str, clip_keys: Tensor) -> Callable[[Tensor], Tensor]:
    """Pixels (B, T, 3, H, W) to logits by a pruned model (`prune(model, None)` for a dense one).

    `eager`: as it stands. `blocks`: the blocks compiled, one graph for all of them and any
    number of tokens, the selection eager. `graph`: compiled as one graph. `clip_keys` (B,) are the
    clips' keys, which whoever reads videos has for nothing.
    """
    if mode == "eager":
        return lambda pixels: model(pixels, clip_keys=clip_keys).logits
    if mode == "blocks":
        backbone = adapt(model, compiled=True)
        return lambda pixels: run(backbone, model.reducer, model.stages, pixels, clip_keys)[0]
    if mode != "graph":
        raise ValueError(f"mode={mode!r} is not known; choose one of {', '.join(MODES)}")
    return _graph(model, clip_keys)


def _graph(model: Pruned, clip_keys: Tensor) -> Callable[[Tensor], Tensor]:
    def forward(pixels: Tensor) -> Tensor:
        return model(pixels, clip_keys=clip_keys).logits

    # Compiled code is kept, counted and looked up by code object: a model of its own wants its own.
    forward.__code__ = forward.__code__.replace()
    return torch.compile(forward, fullgraph=True, dynamic=False)
