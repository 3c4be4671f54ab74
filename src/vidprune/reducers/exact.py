"""Scores in full precision whatever the model runs in, and in one order where they tie."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from vidprune.compiling import is_exporting


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Autocast off, of which the meta device has none: half-precision products make scores tie."""
    if device.type == "meta":
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def exact(values: Tensor) -> Tensor:
    """In float32, or in float64 where they are that."""
    return values if values.dtype == torch.float64 else values.float()


# Note [products of float32]
# `torch.set_float32_matmul_precision("high")`, which many programs begin with, and the switches
# under it let products of float32 be taken in TF32 or bfloat16, in all of the process: which tokens
# stay would depend on it, beyond what it does to the model's own keys. It cannot be turned for one
# product alone, since other threads have the same one. Float64 is beyond its reach. (A graph keeps
# to what was set when it was compiled; what is exported keeps to float32.)


def for_products(values: Tensor) -> Tensor:
    """As `exact`, and in float64 where products of float32 are not; Note [products of float32]."""
    return exact(values) if _float32_is_exact(values.device.type) else values.double()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _float32_is_exact(device_type: str) -> bool:
    """Whether products of float32 are ones on a kind of device. (Where it has no setting of its
    own, torch answers with that of all; other kinds have none, and some of them no float64.)"""
    devices = {"cuda": torch.backends.cuda, "cpu": torch.backends.mkldnn}
    if device_type not in devices or is_exporting():
        return True
    return devices[device_type].matmul.fp32_precision in ("ieee", "none")


def rising(values: Tensor) -> Tensor:
    """Positions by rising value; of equal values the earlier position comes first."""
    return values.sort(dim=-1, stable=True).indices


def unit_rows(keys: Tensor) -> Tensor:
    """Rows (..., d) scaled to unit L2 norm; a zero row stays zero."""
    norm = keys.norm(dim=-1, keepdim=True)
    return keys / torch.where(norm > 0, norm, torch.ones_like(norm))
