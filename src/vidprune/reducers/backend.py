"""Which code selects: torch, which specifies it, or Triton's kernels."""

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal, get_args

import torch
from torch import Tensor

from vidprune.compiling import is_exporting

Backend = Literal["auto", "torch", "triton"]

BACKENDS: tuple[str, ...] = get_args(Backend)
INSTALLED = find_spec("triton") is not None
# Triton's interpreter runs kernels on a CPU, far slower than torch does: for tests alone.
_INTERPRETED = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")
# Triton builds what launches its kernels with the system's compiler.
_COMPILER = any(map(shutil.which, filter(None, (os.environ.get("CC"), "cc", "gcc", "clang"))))


def takes_triton(
    backend: Backend, tokens: Tensor, why_not: Callable[[], str | None] = lambda: None
) -> bool:
    """Whether kernels select of these tokens. `auto` takes them wherever they can.

    `why_not` gives the reason why these kernels cannot, if there is any; it is asked where some
    can, and never in an exported program, whose shapes it might settle. Raises ValueError where
    kernels are asked for and cannot.
    """
    # Costs are counted without data, for which there are no kernels.
    if backend == "torch" or tokens.is_meta:
        return False
    reason = _hindrance(tokens) or why_not()
    if reason is not None and backend == "triton":
        raise ValueError(
            f"backend='triton' cannot select here: {reason}; choose auto, which takes torch "
            "where it must, or torch"
        )
    return reason is None and (tokens.is_cuda or backend == "triton")


def _hindrance(tokens: Tensor) -> str | None:
    """Why no kernel can run on such tokens; None where some can."""
    if not INSTALLED:
        return "triton is not installed"
    if not tokens.is_cuda and not _INTERPRETED:
        return f"tokens are on a device of the kind {tokens.device.type}, not cuda"
    if tokens.is_cuda and not _COMPILER:
        return "triton needs a C compiler, of which none is found"
    if is_exporting():
        return "an exported program must run without vidprune"
    if tokens.dtype == torch.float64:
        return "tokens are in float64"
    return None
