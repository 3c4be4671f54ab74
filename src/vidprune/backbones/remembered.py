"""Tables of indices that are worked out once and kept."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def remembered(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Computes once per set of arguments, of which the last is a device.

    A graph that is being traced computes anew: it must hold the arithmetic, which serves clips of
    any size, and what it makes must not outlive it. The same goes for fake tensors.
    """

    @functools.lru_cache(maxsize=256)
    def once(*arguments: Any) -> Tensor:
        # A tensor made under inference mode could never be used where gradients are wanted.
        with torch.inference_mode(False):
            return compute(*arguments)

    @functools.wraps(compute)
    def recall(*arguments: Any) -> Tensor:
        if torch.compiler.is_compiling() or type(torch.empty(0)) is not Tensor:
            return compute(*arguments)
        return once(*arguments)

    return recall
