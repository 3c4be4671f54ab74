"""Scores in full precision whatever the model runs in, and in one order where they tie."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Autocast off, of which the meta device has none: half-precision products make scores tie."""
    if device.type == "meta":
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def exact(values: Tensor) -> Tensor:
    """In float32, or in float64 where they are that."""
    return values if values.dtype == torch.float64 else values.float()


def rising(values: Tensor) -> Tensor:
    """Positions by rising value; of equal values the earlier position comes first."""
    return values.sort(dim=-1, stable=True).indices


def unit_rows(keys: Tensor) -> Tensor:
    """Rows (..., d) scaled to unit L2 norm; a zero row stays zero."""
    norm = keys.norm(dim=-1, keepdim=True)
    return keys / torch.where(norm > 0, norm, torch.ones_like(norm))
