"""Two clips in one: mixup (Zhang et al., ICLR 2018) and CutMix (Yun et al., ICCV 2019).

As VideoMAE does it: every batch is mixed with itself in reverse order, at one ratio, and takes one
of the two by the toss of a coin. CutMix pastes one rectangle into all frames.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """`mixup` and `cutmix`: the parameter of the Beta distribution that their ratios are drawn
    from, 0 for none. `smoothing`: share of a label that is spread over all classes.

    Raises ValueError where a value is outside its range.
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name}={getattr(self, name)} must be 0 (none) or more, and finite"
                )
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing={self.smoothing} must be 0 or more and below 1")


def targets_of(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Probabilities (B, classes) of labels (B,), smoothed."""
    return one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes


def mixed(
    pixels: Tensor, targets: Tensor, how: Mixing, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Clips (B, T, 3, H, W) and targets (B, classes), mixed by what `rng` draws."""
    alphas = [(name, alpha) for name in ("mixup", "cutmix") if (alpha := getattr(how, name))]
    if not alphas or len(pixels) < 2:
        return pixels, targets
    name, alpha = alphas[int(rng.integers(len(alphas)))]
    share = float(rng.beta(alpha, alpha))
    if name == "mixup":
        pixels = torch.lerp(pixels.flip(0), pixels, share)
    else:
        pixels, share = _pasted(pixels, share, rng)
    return pixels, torch.lerp(targets.flip(0), targets, share)


def _pasted(pixels: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """A rectangle of the reversed batch in each clip, and the share of the clip that is its own."""
    height, width = pixels.shape[-2:]
    rows, columns = (round(side * (1 - share) ** 0.5) for side in (height, width))
    # Its middle lies anywhere, so that it may be cut at the edge.
    top, left = (
        int(rng.integers(side)) - length // 2 for side, length in ((height, rows), (width, columns))
    )
    inside = (
        slice(max(top, 0), min(top + rows, height)),
        slice(max(left, 0), min(left + columns, width)),
    )
    pasted = pixels.clone()
    pasted[..., inside[0], inside[1]] = pixels.flip(0)[..., inside[0], inside[1]]
    area = (inside[0].stop - inside[0].start) * (inside[1].stop - inside[1].start)
    return pasted, 1 - area / (height * width)
