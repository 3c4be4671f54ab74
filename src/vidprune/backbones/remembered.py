"""Tables of indices that are worked out once and kept."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def remembered(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Computes once per set of arguments: plain numbers, tuples of them, and a device.

    A graph that is being traced takes the result as a constant, which is why the arguments have to
    be plain: to trace the arithmetic would take minutes. Under fake tensors it is computed anew,
    since what they make must not outlive them.
    """

    @functools.lru_cache(maxsize=256)
    def once(*arguments: Any) -> Tensor:
        # A tensor made under inference mode could never be used where gradients are wanted.
        with torch.inference_mode(False):
            return compute(*arguments)

    @functools.wraps(compute)
    def recall(*arguments: Any) -> Tensor:
        if type(torch.empty(0)) is not Tensor:
            return compute(*arguments)
        return once(*arguments)

    marked: Callable[..., Tensor] = torch.compiler.assume_constant_result(recall)
    return marked
