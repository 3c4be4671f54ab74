"""Bipartite soft matching: every second token may join the one of the others that it is most like.

Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023, section 3.
"""

import torch
from torch import Tensor

from vidprune.reducers.exact import for_products, full_precision, rising, unit_rows


def bipartite_matches(metric: Tensor, merge: int, *, ranked: bool = False) -> tuple[Tensor, Tensor]:
    """Who stays and who stands for whom when `merge` tokens of every clip are merged.

    `metric` (B, N, d): likeness is the cosine of its rows, as of `for_products`. Even positions are
    sources, odd ones destinations; the `merge` sources that are most like any destination join it.
    Of equals the earlier position counts. `merge` is at most N // 2.

    Returns `keep` (B, N - merge) int64, the sources that stay, in rising position or, if `ranked`,
    from the most to the least like a destination, then all destinations; and `owner` (B, N) int64,
    the place in `keep` of who stands for each token.
    """
    batch, entering, _ = metric.shape
    positions = torch.arange(entering, device=metric.device).expand(batch, -1)
    sources, destinations = positions[:, 0::2], positions[:, 1::2]
    with full_precision(metric.device):
        unit = unit_rows(for_products(metric))
        best = (unit[:, 0::2] @ unit[:, 1::2].mT).max(-1)
    stay = rising(-best.values)[:, merge:]
    unmerged = sources.gather(1, stay if ranked else stay.sort(dim=-1).values)
    keep = torch.cat([unmerged, destinations], dim=1)
    # Every source's destination, also where it stays; those that stay are then put in their places.
    joined = (best.indices + unmerged.shape[1]).repeat_interleave(2, dim=1)[:, :entering]
    places = torch.arange(keep.shape[1], device=metric.device).expand(batch, -1)
    return keep, joined.scatter(1, keep, places)
