"""vid-TLDR: early tokens merge, and those whose attention is scattered vanish without a trace.

Choi et al., "vid-TLDR: Training Free Token Merging for Light-weight Video Transformer", CVPR 2024.
Where it is not said otherwise, this does what the authors' release does.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vidprune.layout import Layout, TokenGrid
from vidprune.reducers.base import Need, Reduction, Signals
from vidprune.reducers.dropping import check_switches
from vidprune.reducers.exact import exact
from vidprune.reducers.matching import bipartite_matches
from vidprune.reducers.schedule import Place, Stage, whole_numbers

NUM_BLOCKS = 3


def sharpness(attention: Tensor) -> Tensor:
    """How concentrated each token's attention is, (B, N): its negative entropy.

    `attention` (B, N, N): head-mean weights, each row a distribution. 0 where a token attends to
    one token alone, -log N where it attends to all alike.
    """
    return -torch.special.entr(exact(attention)).sum(-1)


def saliency(attention: Tensor) -> Tensor:
    """How much of the foreground each token is, (B, N) in [0, 1].

    `attention` (B, N, N) as in `sharpness`. 1 for the sharpest token of the clip, 0 for those less
    sharp than the mean, which are the background, and linear in between. Where all are equally
    sharp, all are 0; the release divides by 0 there.
    """
    sharp = sharpness(attention)
    above = sharp - sharp.mean(-1, keepdim=True)
    most = above.amax(-1, keepdim=True)
    return above.clamp(min=0) / torch.where(most > 0, most, torch.ones_like(most))


@dataclass(frozen=True, kw_only=True)
class VidTLDR:
    """Merges by likeness, after the attention of early blocks, and weighs by saliency.

    In each acting block the `r` sources that are most like a destination join it, at most half of
    the tokens there (see `bipartite_matches`). A source counts with its size times its saliency:
    one of the background vanishes and dilutes nothing. `r`: tokens merged in each block, or one
    number for each, such as (600, 200, 100), with which the release runs a ViT-B on 2352 tokens;
    0 does nothing. `blocks`: the (0-based) blocks that act, by default the first: three, or as
    many as `r` has numbers. `proportional_attention`: tokens are attended to in proportion to
    their size.

    We depart from the release where it computes saliency from attention that knows no sizes; ours
    is the attention that the block computed.

    >>> VidTLDR(r=(400, 200)).plan(depth=12, grid=TokenGrid(frames=8, rows=14, columns=14))[1].kept
    968
    """

    r: int | tuple[int, ...] | None = None
    blocks: tuple[int, ...] | None = None
    proportional_attention: bool = True

    def __post_init__(self) -> None:
        check_switches(proportional_attention=self.proportional_attention)
        if isinstance(self.r, list | tuple):
            object.__setattr__(self, "r", whole_numbers("r", self.r))
        elif type(self.r) is not int or self.r < 0:
            raise ValueError(
                f"r={self.r!r} must be a whole number of at least 0, the tokens merged in each "
                "block, such as r=200, or one for each, such as (400, 200, 100)"
            )
        if self.blocks is not None:
            object.__setattr__(self, "blocks", whole_numbers("blocks", self.blocks))
            self._check_blocks()

    def _check_blocks(self) -> None:
        blocks = self.acting
        if list(blocks) != sorted(set(blocks)):
            raise ValueError(f"blocks={blocks} must rise strictly, such as (0, 1, 2)")
        if isinstance(self.r, tuple) and len(self.r) != len(blocks):
            raise ValueError(
                f"r={self.r} and blocks={blocks} must have one number per block each; make them "
                "agree, or give r as one number"
            )

    @property
    def acting(self) -> tuple[int, ...]:
        """The blocks that act."""
        if self.blocks is not None:
            return self.blocks
        return tuple(range(len(self.r) if isinstance(self.r, tuple) else NUM_BLOCKS))

    @property
    def needs(self) -> frozenset[Need]:
        """Attention, which costs as much as computing it again."""
        seen: frozenset[Need] = frozenset({"attention"})
        weighed: frozenset[Need] = frozenset({"proportional_attention"})
        return seen | (weighed if self.proportional_attention else frozenset())

    def plan(self, depth: int, grid: TokenGrid) -> tuple[Stage, ...]:
        """A stage in each acting block where something is to be merged.

        Raises ValueError where a block does not exist.
        """
        blocks = self.acting
        merges = self.r if isinstance(self.r, tuple) else (self.r or 0,) * len(blocks)
        if any(merges) and blocks[-1] >= depth:
            raise ValueError(
                f"blocks={blocks} do not fit a model of {depth} blocks (0 to {depth - 1}); choose "
                "others"
            )
        stages, entering = [], grid.tokens
        for index, (block, merge) in enumerate(zip(blocks, merges, strict=True)):
            drop = min(merge, entering // 2)
            stage = Stage(
                index=index,
                block=block,
                groups=1,
                entering=entering,
                drop=drop,
                place=Place.AFTER_ATTENTION,
            )
            entering = stage.kept
            if drop:
                stages.append(stage)
        return tuple(stages)

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        """Merge tokens (B, N, C) to `stage.kept`: sources that stay, then destinations."""
        assert signals.attention is not None, "the model computes what needs names"
        keep, owner = bipartite_matches(tokens, stage.drop)
        return Reduction(keep=keep, owner=owner, weight=saliency(signals.attention))
