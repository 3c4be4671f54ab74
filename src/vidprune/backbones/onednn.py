"""Linear layers whose products oneDNN takes, on CPUs.

# Note [oneDNN]
In float32 torch multiplies by MKL, which on AMD's processors takes twice as long as oneDNN does.
(In half precision torch has oneDNN itself.) The last bits differ, which is why one asks for it.
Weights laid out beforehand, as torch's compiler lays them out, gain a few per cent more, for a
second copy of all weights and the risk that it grows stale: they are handed over as they lie.
"""

from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.nn import Linear, Parameter, functional
from transformers import PreTrainedModel

from vidprune.compiling import is_exporting

# What torch's own compiler calls; there is no other name for it.
_PRODUCT: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
HAS_ONEDNN = torch.backends.mkldnn.is_available() and _PRODUCT is not None


class OneDNNLinear(Linear):
    """A linear layer that multiplies float32 by oneDNN on a CPU, where no gradient is wanted."""

    def forward(self, input: Tensor) -> Tensor:
        """See Linear."""
        if not can_multiply(input, self.weight):
            return super().forward(input)
        return product(input, self.weight, self.bias)


def use_onednn(model: PreTrainedModel) -> None:
    """Let a model's plain linear layers be OneDNNLinear; their parameters stay what they are.

    Raises ValueError where torch was built without it.
    """
    if not HAS_ONEDNN:
        raise ValueError("onednn=True cannot be had: this torch was built without oneDNN; omit it")
    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = OneDNNLinear


def uses_onednn(model: PreTrainedModel) -> bool:
    """Whether a model, as it is now, multiplies by it."""
    asked = any(isinstance(module, OneDNNLinear) for module in model.modules())
    return asked and model.device.type == "cpu" and model.dtype == torch.float32


def is_linear(module: torch.nn.Module) -> TypeGuard[Linear]:
    """Whether a module is a weight and a bias and nothing else. (Quantised weights are tensors of
    another kind in a layer of the same.)"""
    return type(module) in (Linear, OneDNNLinear) and _is_plain(module.weight)


def can_multiply(*taken: Tensor, dtype: torch.dtype = torch.float32) -> bool:
    """Whether these are plain tensors of one type on a CPU, and nobody asks for gradients, nor for
    a program to be taken away: only then can products be taken out of torch's sight."""
    return (
        all(each.device.type == "cpu" and each.dtype == dtype for each in taken)
        and all(map(_is_plain, taken))
        and not is_exporting()
        and not (dtype == torch.float32 and torch.is_autocast_enabled("cpu"))
        and not (torch.is_grad_enabled() and any(each.requires_grad for each in taken))
    )


def _is_plain(tensor: Any) -> bool:
    return type(tensor) in (Tensor, Parameter)


def product(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`values` (..., C) by `weight` (D, C), plus `bias` (D,): (..., D)."""
    if torch.compiler.is_compiling():
        return _sealed_product(values, weight, bias)
    return _product(values, weight, bias)


def _product(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    found: Tensor = _PRODUCT(values, weight, bias, "none", [], "")
    return found


@torch.library.custom_op("vidprune::linear", mutates_args=())
def _sealed_product(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """One operation to a compiler, which takes torch's for one with weights laid out."""
    return _product(values, weight, bias)


@_sealed_product.register_fake
def _(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return values.new_empty(*values.shape[:-1], weight.shape[0])


# What a product of linear layers is called, for who watches them.
LINEAR_OPERATIONS = frozenset({functional.linear, _PRODUCT, torch.ops.vidprune.linear.default})
