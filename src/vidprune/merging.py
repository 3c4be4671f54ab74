"""What a reduction does to the tokens: gather the survivors, fold the others into them."""

from dataclasses import replace

import torch
from torch import Tensor

from vidprune.layout import Layout
from vidprune.reducers.base import Reduction, dropped


def reduced(tokens: Tensor, layout: Layout, reduction: Reduction) -> tuple[Tensor, Layout]:
    """Tokens (B, N, C) to (B, K, C), in the order of `reduction.keep`, and their new layout.

    A survivor that others are folded into becomes the mean of all that it stands for, weighted by
    size (ToMe, section 3); any other is untouched, bit for bit.
    """
    keep, sizes = reduction.keep, layout.sizes
    survivors = tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[-1]))
    if reduction.owner is not None:
        survivors, sizes = _folded(tokens, survivors, sizes, reduction)
    elif sizes is not None:
        sizes = sizes.gather(1, keep)
    valid = reduction.valid
    if valid is None and layout.valid is not None:
        valid = layout.valid.gather(1, keep)
    origin = layout.origin.gather(1, keep)
    return survivors, replace(layout, origin=origin, sizes=sizes, valid=valid, source=None)


def _folded(
    tokens: Tensor, survivors: Tensor, sizes: Tensor | None, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """Means (B, K, C) and sizes (B, K) of the survivors with what they own.

    As a product with a matrix of shares (B, K, N - K): unlike a scattered sum, its result does not
    depend on the order in which threads arrive, and every compiler and exporter knows it.
    """
    keep, owner = reduction.keep, reduction.owner
    assert owner is not None, "whoever calls has looked"
    gone = dropped(keep, tokens.shape[1])
    if sizes is None:
        sizes = torch.ones(tokens.shape[:2], dtype=torch.float32, device=tokens.device)
    joining = sizes if reduction.weight is None else sizes * reduction.weight.float()
    own, lost_sizes = sizes.gather(1, keep), joining.gather(1, gone)
    if reduction.valid is not None:
        # The places of padding hold tokens that were dropped like any other.
        padding = joining.gather(1, keep).masked_fill(reduction.valid, 0)
        gone, lost_sizes = torch.cat([gone, keep], 1), torch.cat([lost_sizes, padding], 1)
    places = torch.arange(keep.shape[1], device=keep.device)
    shares = (owner.gather(1, gone)[:, None] == places[:, None]) * lost_sizes[:, None]
    total = own + shares.sum(-1)
    shares = (shares / total[..., None]).to(tokens.dtype)
    lost = tokens.gather(1, gone[..., None].expand(-1, -1, tokens.shape[-1]))
    # What the others leave, not own / total: rounded shares would not sum to 1, and half-precision
    # tokens would grow or shrink with every fold.
    own_share = (1 - shares.float().sum(-1))[..., None].to(tokens.dtype)
    return survivors * own_share + (shares @ lost).to(tokens.dtype), total


def key_bias(layout: Layout, *, proportional: bool) -> Tensor | None:
    """What is added to every query's attention to each live token, (B, N) float32, or None.

    `proportional` adds the logarithm of sizes, as if a token that stands for n were there n
    times (ToMe's proportional attention); padding is never attended to.
    """
    bias = layout.sizes.log() if proportional and layout.sizes is not None else None
    if layout.valid is None:
        return bias
    absent = torch.zeros_like(layout.valid, dtype=torch.float32) if bias is None else bias
    return absent.masked_fill(~layout.valid, float("-inf"))


def pooling_weights(layout: Layout) -> Tensor | None:
    """How much each live token counts where the model averages them, (B, N) float32 summing
    to 1 per clip; None where all count alike."""
    if layout.sizes is None and layout.valid is None:
        return None
    weights = torch.ones_like(layout.origin, dtype=torch.float32)
    if layout.sizes is not None:
        weights = layout.sizes
    if layout.valid is not None:
        weights = weights * layout.valid
    return weights / weights.sum(-1, keepdim=True)
