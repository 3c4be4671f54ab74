"""What a machine can do at best: products per second, and bytes copied per second."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from vidprune.backbones.onednn import HAS_ONEDNN, product
from vidprune.benchmarking.measure import on, seconds_of

_REPEATS = 7
# Of a square matrix: large enough that nothing but its product counts.
_SIDE, _SIDE_ON_CUDA = 2048, 8192
# Of what is copied: more than any cache holds.
_COPIED_BYTES = 2**28


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The best of some repeats: `matmul_gmacs_per_second`, 10^9 multiply-accumulates of one large
    product; `copy_gib_per_second`, of memory read and written."""

    matmul_gmacs_per_second: float
    copy_gib_per_second: float


def machine_rates(dtype: torch.dtype, device: torch.device) -> Rates:
    """What `device` does with tensors of a type, by whichever product is its fastest."""
    side = _SIDE_ON_CUDA if device.type == "cuda" else _SIDE
    weight = torch.randn(side, side, device=device).to(dtype)
    copied = torch.empty(_COPIED_BYTES // dtype.itemsize, dtype=dtype, device=device)
    target = copied.clone()
    with on(device):
        products = [_best_seconds(lambda v: linear(v, weight), weight)]
        if device.type == "cpu" and dtype == torch.float32 and HAS_ONEDNN:
            products.append(_best_seconds(lambda v: product(v, weight), weight))
        copies = _best_seconds(target.copy_, copied)
    return Rates(
        matmul_gmacs_per_second=side**3 / 1e9 / min(products),
        copy_gib_per_second=2 * _COPIED_BYTES / 2**30 / copies,
    )


def _best_seconds(operation: Callable[[Tensor], object], values: Tensor) -> float:
    operation(values)
    return min(seconds_of(operation, values) for _ in range(_REPEATS))
