"""The ways to run a model whose speed is compared."""

from collections.abc import Callable

from torch import Tensor

from vidprune.backbones.registry import adapt, has_head
from vidprune.compiling import as_one_graph, recorded
from vidprune.model import run
from vidprune.pruned import Pruned

MODES = ("eager", "blocks", "graph", "graph-frozen", "blocks-replayed", "cuda-graph")
REPLAYED = ("blocks-replayed", "cuda-graph")


def forward_in(model: Pruned, mode: str, clip_keys: Tensor) -> Callable[[Tensor], Tensor]:
    """Pixels (B, T, 3, H, W) to logits by a pruned model (`prune(model, None)` for a dense one);
    of a model without a head, to one vector per clip.

    `eager`: as it stands. `blocks`: the blocks compiled, one graph for all of them and any
    number of tokens, the selection eager. `graph`: compiled as one graph; `graph-frozen`: with its
    weights as constants, of which a CPU's compiler makes a second copy. `blocks-replayed` and
    `cuda-graph`: the launches of the one and of the other recorded once and replayed, which takes
    the host out of small batches; what they give is overwritten by the next call. `clip_keys` (B,)
    are the clips' keys, which whoever reads videos has for nothing.

    Raises ValueError for what is no mode, and for a replayed one off CUDA.
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is not known; choose one of {', '.join(MODES)}")
    if mode in REPLAYED and model.device.type != "cuda":
        raise ValueError(
            f"mode={mode!r} is for CUDA, and the model is on {model.device}; choose another"
        )
    if mode == "eager":
        return _forward(model, clip_keys)
    if mode == "blocks":
        return _with_blocks_compiled(model, clip_keys)
    if mode == "blocks-replayed":
        return recorded(_with_blocks_compiled(model, clip_keys))
    replayed, frozen = mode == "cuda-graph", mode == "graph-frozen"
    return as_one_graph(_forward(model, clip_keys), replayed=replayed, frozen=frozen)


def _with_blocks_compiled(model: Pruned, clip_keys: Tensor) -> Callable[[Tensor], Tensor]:
    backbone = adapt(model, compiled=True)
    return lambda pixels: run(backbone, model.reducer, model.stages, pixels, clip_keys)[0]


def _forward(model: Pruned, clip_keys: Tensor) -> Callable[[Tensor], Tensor]:
    answer = "logits" if has_head(model) else "pooler_output"

    def forward(pixels: Tensor) -> Tensor:
        found: Tensor = getattr(model(pixels, clip_keys=clip_keys), answer)
        return found

    return forward
