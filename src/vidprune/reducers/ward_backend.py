"""Ward merging by the kernels of `triton_ward`."""

import torch
from torch import Tensor


@torch.library.custom_op("vidprune::ward_select", mutates_args=())
def select_by_triton(
    tokens: Tensor, sizes: Tensor | None, kept: int, rounds: int
) -> tuple[Tensor, Tensor]:
    """Who stays of tokens (B, N, C), (B, `kept`) int64, and who owns whom, (B, N) int64, as `Ward`
    says, by the kernels; one operation to a compiler."""
    # Triton takes a while to load, and does so only where it runs.
    from vidprune.reducers import triton_ward

    return triton_ward.select(tokens, sizes, kept, rounds)


@select_by_triton.register_fake
def _(tokens: Tensor, sizes: Tensor | None, kept: int, rounds: int) -> tuple[Tensor, Tensor]:
    batch, entering, _ = tokens.shape
    keep = tokens.new_empty(batch, kept, dtype=torch.int64)
    return keep, tokens.new_empty(batch, entering, dtype=torch.int64)
