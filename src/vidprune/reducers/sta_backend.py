"""STA's selection by the kernels of `triton_sta`, and where they can."""

import torch
from torch import Tensor

from vidprune.reducers.backend import Backend, takes_triton
from vidprune.reducers.schedule import Stage

# Tokens of a group, of each of which one program holds a score; and how wide keys may be, rows of
# which have to fit into what every GPU has of shared memory.
MAX_GROUP, MAX_WIDTH = 2048, 128
# Bytes for how all groups share the tokens of those before, of which torch holds one at a time.
_MAX_SHARES = 2**30


def sta_takes_triton(backend: Backend, tokens: Tensor, keys: Tensor, stage: Stage) -> bool:
    """Whether the kernels select of tokens (B, L, C) by keys (B, L, d) at this stage; see
    `takes_triton`."""
    return takes_triton(backend, tokens, lambda: _hindrance(tokens, keys, stage))


def _hindrance(tokens: Tensor, keys: Tensor, stage: Stage) -> str | None:
    if keys.dtype == torch.float64:
        return "keys are in float64"
    if stage.quotas is not None:
        return "groups keep to quotas of their cells"
    if stage.group_size > MAX_GROUP:
        return f"a group holds {stage.group_size} tokens, more than {MAX_GROUP}"
    if keys.shape[-1] > MAX_WIDTH:
        return f"similarity is taken from {keys.shape[-1]} channels, more than {MAX_WIDTH}"
    shares = 4 * tokens.shape[0] * (stage.groups - 1) * stage.group_size**2
    if shares > _MAX_SHARES:
        return f"it would take {shares / 2**30:.1f} GiB"
    return None


@torch.library.custom_op("vidprune::sta_select", mutates_args=())
def select_by_triton(
    tokens: Tensor, keys: Tensor, groups: int, drop: int, backward: bool, score: str
) -> Tensor:
    """As `sta.select`, by the kernels; one operation to a compiler."""
    # Triton takes a while to load, and does so only where it runs.
    from vidprune.reducers import triton_sta

    return triton_sta.select(tokens, keys, groups=groups, drop=drop, backward=backward, score=score)


@select_by_triton.register_fake
def _(tokens: Tensor, keys: Tensor, groups: int, drop: int, backward: bool, score: str) -> Tensor:
    kept = tokens.shape[1] - groups * drop
    return tokens.new_empty(tokens.shape[0], kept, dtype=torch.int64)
