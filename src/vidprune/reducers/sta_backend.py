"""Which code selects for STA: torch, which specifies it, or the kernels of `triton_sta`."""

import os
import shutil
from importlib.util import find_spec
from typing import Literal, get_args

import torch
from torch import Tensor

from vidprune.compiling import is_exporting
from vidprune.reducers.schedule import Stage

Backend = Literal["auto", "torch", "triton"]

BACKENDS: tuple[str, ...] = get_args(Backend)
# Tokens of a group, of each of which one program holds a score; and how wide keys may be, rows of
# which have to fit into what every GPU has of shared memory.
MAX_GROUP, MAX_WIDTH = 2048, 128
# Bytes for how all groups share the tokens of those before, of which torch holds one at a time.
_MAX_SHARES = 2**30
INSTALLED = find_spec("triton") is not None
# Triton's interpreter runs kernels on a CPU, far slower than torch does: for tests alone.
_INTERPRETED = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")
# Triton builds what launches its kernels with the system's compiler.
_COMPILER = any(map(shutil.which, filter(None, (os.environ.get("CC"), "cc", "gcc", "clang"))))


def takes_triton(backend: Backend, tokens: Tensor, keys: Tensor, stage: Stage) -> bool:
    """Whether the kernels select at this stage. `auto` takes them wherever they can.

    Raises ValueError where they are asked for and cannot.
    """
    # Costs are counted without data, for which there are no kernels.
    if backend == "torch" or tokens.is_meta:
        return False
    why_not = _hindrance(tokens, keys, stage)
    if why_not is not None and backend == "triton":
        raise ValueError(
            f"backend='triton' cannot select here: {why_not}; choose auto, which takes torch "
            "where it must, or torch"
        )
    return why_not is None and (tokens.is_cuda or backend == "triton")


def _hindrance(tokens: Tensor, keys: Tensor, stage: Stage) -> str | None:
    """Why the kernels cannot select of tokens (B, L, C) by keys (B, L, d); None where they can."""
    if not INSTALLED:
        return "triton is not installed"
    if not tokens.is_cuda and not _INTERPRETED:
        return f"tokens are on a device of the kind {tokens.device.type}, not cuda"
    if tokens.is_cuda and not _COMPILER:
        return "triton needs a C compiler, of which none is found"
    if is_exporting():
        return "an exported program must run without vidprune"
    if torch.float64 in (tokens.dtype, keys.dtype):
        return "tokens or keys are in float64"
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
