"""GradNorm: which places a model's answer hangs on (Ding et al. 2023, Eq. 7)."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from transformers import PreTrainedModel

from vidprune.backbones.base import Backbone
from vidprune.backbones.registry import adapt
from vidprune.insight.grids import collected, divided
from vidprune.insight.watching import WatchedBackbone, clip_logits
from vidprune.layout import Layout, TokenGrid
from vidprune.model import encode
from vidprune.pruned import unprune


@dataclass(frozen=True, eq=False)
class GradNorm:
    """`values` (B, N) float32, on the `grid` of the first level, flat and time-major: large where
    the loss changes with a token. `labels` (B,) int64: the classes of that loss; `given` where the
    caller named them, else the dense model's own first guess."""

    values: Tensor
    grid: TokenGrid
    labels: Tensor
    given: bool


def gradnorm(
    model: PreTrainedModel, pixel_values: Tensor, labels: Tensor | None = None
) -> GradNorm:
    """For each place the sum over blocks and channels of |d loss / d output of the block|.

    `pixel_values` (B, T, 3, H, W): normalised. The dense model is asked, whatever prunes it. The
    loss is the cross-entropy of training; without `labels` (B,) int64 it is that of the class
    which the model predicts. Class tokens have no place and are left out; in a pyramid what a
    merged token has is shared out evenly among the places that it covers.

    Raises TypeError for a model without a head, which has no loss.
    """
    dense = unprune(model)
    backbone = _Followed(adapt(dense))
    if not backbone.has_head:
        raise TypeError(
            f"model is a {type(dense).__name__} without a head: GradNorm is the gradient of a "
            "classifier's loss; load a classifier"
        )
    with torch.enable_grad():
        logits = clip_logits(backbone, encode(cast(Backbone, backbone), None, (), pixel_values))
        of = logits.detach().argmax(-1) if labels is None else labels.to(logits.device)
        pushed, scale = _pushed(logits.detach(), of)
        outputs = [output for output, _ in backbone.outputs]
        gradients = torch.autograd.grad(logits, outputs, pushed)
    total = torch.zeros(len(pixel_values), backbone.grid.tokens, device=pixel_values.device)
    for gradient, (_, layout) in zip(gradients, backbone.outputs, strict=True):
        norms = gradient[:, backbone.prefix :].abs().sum(-1, dtype=torch.float32) / scale
        if not layout.time_major:
            norms = norms.gather(1, layout.origin.argsort(1))
        total += divided(norms, backbone.grid, layout.grid)
    return GradNorm(total, backbone.grid, of, labels is not None)


def _pushed(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What the cross-entropy of each clip sends back to its logits (B, classes), times a `scale`
    (B, 1) that makes it about 1: of a clip that the model is sure of, half precision would round
    all gradients to 0."""
    pushed = logits.softmax(-1) - one_hot(labels, logits.shape[-1])
    most = pushed.abs().amax(1, keepdim=True)
    scale = torch.where(most > 0, 2.0 ** -most.log2().floor(), torch.ones_like(most))
    return pushed * scale, scale


def share_held(found: GradNorm, origin: Tensor, grid: TokenGrid) -> Tensor:
    """How much of a clip's GradNorm lies at the places `origin` (B, K) int64 of a level's `grid`,
    (B,) in [0, 1]; places of -1 are padding. Tokens kept at random hold K / N on average. NaN where
    a clip has none at all."""
    sums = collected(found.values, found.grid, grid)
    held = sums.gather(1, origin.clamp(min=0)).masked_fill(origin < 0, 0)
    return held.sum(1) / sums.sum(1)


class _Followed(WatchedBackbone):
    """A watched backbone that also keeps the output of every block, with where its tokens lay, to
    differentiate by."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.outputs: list[tuple[Tensor, Layout]] = []

    def embed(self, pixel_values: Tensor) -> Tensor:
        """As the backbone's; what comes of it has gradients even where no weight has."""
        with torch.no_grad():
            tokens = self.watched.embed(pixel_values)
        return tokens.requires_grad_()

    def feed_forward(self, block: int, tokens: Tensor) -> Tensor:
        """As the backbone's."""
        output = self.watched.feed_forward(block, tokens)
        self.outputs.append((output, self.entered[-1].layout))
        return output
