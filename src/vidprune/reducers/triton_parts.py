"""What kernels of several reducers share."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import torch
import triton
import triton.language as tl


@triton.jit
def in_order(scores):
    """Integers that order as the scores do, with -0 as 0 and what is no number last."""
    scores = tl.where(scores == scores, scores + 0.0, float("nan"))
    bits = scores.to(tl.int32, bitcast=True)
    bits = tl.where(scores == scores, bits, 0x7FFFFFFF)
    return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def precision_on(device: torch.device) -> str:
    """Of products: tensor cores in three parts where there are any for float32."""
    ampere = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return "tf32x3" if ampere and torch.version.hip is None else "ieee"
