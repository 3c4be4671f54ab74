"""Run-length: a patch that shows what it showed a moment ago goes before the model sees it.

Choudhury et al., "Don't Look Twice: Faster Video Transformers with Run-Length Tokenization",
NeurIPS 2024. The rule follows the authors' release, which compares normalised pixels.
"""

from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor
from torch.nn.functional import pad

from vidprune.layout import Layout, TokenGrid
from vidprune.reducers.base import Need, Reduction, Signals
from vidprune.reducers.dropping import check_folding
from vidprune.reducers.exact import exact, rising
from vidprune.reducers.schedule import Place, Stage

THRESHOLD = 0.1


def changes(pixels: Tensor, tokens_per_frame: int) -> Tensor:
    """How much each token after the first temporal position differs from the one before it at the
    same place, (B, N - tokens_per_frame); 0 where both show the same.

    `pixels` (B, N, t, P): each token's tube, time-major. The mean over P of the absolute
    difference between the tube's last frame and the earlier tube's first. Computed in float32, or
    in float64 where pixels are that.
    """
    later, before = pixels[:, tokens_per_frame:, -1], pixels[:, :-tokens_per_frame, 0]
    return (exact(later) - exact(before)).abs().mean(-1)


def in_order(gone: Tensor, most: int) -> Tensor:
    """The first `most` positions, survivors before what is `gone` (B, N), each in rising order."""
    return rising(gone.to(torch.int64))[:, :most]


def heads_of_runs(gone: Tensor, keep: Tensor, tokens_per_frame: int) -> Tensor:
    """For every token the place in `keep` of the nearest earlier survivor where it lies, which
    may be itself, (B, N) int64.

    `gone` (B, N) bool, nowhere at the first temporal position; `keep` (B, K) holds every survivor.
    """
    stays = ~gone.unflatten(1, (-1, tokens_per_frame))
    times = torch.arange(stays.shape[1], device=gone.device)
    so_far = times[:, None] >= times
    marks = stays[:, None] & so_far[..., None]
    nearest = (marks * times[:, None]).amax(2)
    places = torch.arange(tokens_per_frame, device=gone.device)
    heads = (nearest * tokens_per_frame + places).flatten(1)
    ranks = torch.arange(keep.shape[1], device=gone.device).expand_as(keep)
    return torch.zeros_like(heads).scatter(1, keep, ranks).gather(1, heads)


@dataclass(frozen=True, kw_only=True)
class RunLength:
    """Run-length tokenization without its learned lengths; acts on pixels, before block 0.

    A token is a repeat where it differs from the one before it at the same place by at most
    `threshold`, in normalised pixels. All repeats go, so how many depends on the clip; clips
    of a batch are padded to the one that keeps most. `r` instead drops r tokens per
    temporal position, the least different of the whole clip; of equals the earlier goes first.
    Given neither, `threshold` is the paper's 0.1. The first temporal position always stays.

    `fold`: a dropped token joins the head of its run, the nearest earlier survivor at its place.
    `proportional_attention` (of folded tokens): they are attended to in proportion to their size.
    Both stand in for the paper's embedding of each run's length, which has to be learned.

    >>> RunLength(r=64).plan(depth=12, grid=TokenGrid(frames=8, rows=14, columns=14))[0].kept
    1056
    """

    threshold: float | None = None
    r: int | None = None
    fold: bool = False
    proportional_attention: bool = False

    def __post_init__(self) -> None:
        if self.r is None:
            given = THRESHOLD if self.threshold is None else self.threshold
            object.__setattr__(self, "threshold", _checked_threshold(given))
        elif self.threshold is not None:
            raise ValueError(
                f"threshold={self.threshold!r} and r={self.r!r} both say how many tokens go; give "
                "one of the two"
            )
        elif type(self.r) is not int or self.r < 0:
            raise ValueError(
                f"r={self.r!r} must be a whole number of at least 0: the tokens dropped per "
                "temporal position, such as r=64 (or give a threshold)"
            )
        check_folding(fold=self.fold, proportional_attention=self.proportional_attention)

    @property
    def needs(self) -> frozenset[Need]:
        """Pixels."""
        pixels: frozenset[Need] = frozenset({"pixels"})
        weighed: frozenset[Need] = frozenset({"proportional_attention"})
        return pixels | (weighed if self.proportional_attention else frozenset())

    def plan(self, depth: int, grid: TokenGrid) -> tuple[Stage, ...]:
        """One stage before block 0; none where nothing can go. See `Stage` on what a threshold
        leaves open.

        Raises ValueError where `r` asks for more than there is after the first temporal position.
        """
        later = grid.tokens - grid.tokens_per_frame
        drop = (self.r or 0) * grid.frames
        if drop > later:
            raise ValueError(
                f"r={self.r} drops {drop} tokens, but of a clip of {grid.frames} temporal "
                f"positions with {grid.tokens_per_frame} tokens each, the first stays whole and "
                f"{later} can go; choose r of at most {later // grid.frames}"
            )
        if not later or self.r == 0:
            return ()
        place = Place.BEFORE_BLOCK
        return (Stage(index=0, block=0, groups=1, entering=grid.tokens, drop=drop, place=place),)

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        """Keep `stage.kept` of tokens (B, N, C), or with a threshold those that are no repeats.

        Survivors stand in rising position. Where a clip keeps fewer than another of the batch,
        the rest of its places is padding: positions that it dropped.
        """
        gone = self._gone(signals, layout, stage)
        most, valid = stage.kept, None
        if self.r is None and gone.device.type != "meta":
            # Shapes alone tell no content: on the meta device nothing is seen to repeat.
            counts = (~gone).sum(-1)
            most = int(counts.max())
            ranks = torch.arange(most, device=gone.device)
            valid = None if int(counts.min()) == most else ranks < counts[:, None]
        keep = in_order(gone, most)
        if not self.fold:
            return Reduction(keep=keep, valid=valid)
        owner = heads_of_runs(gone, keep, layout.grid.tokens_per_frame)
        return Reduction(keep=keep, owner=owner, valid=valid)

    def _gone(self, signals: Signals, layout: Layout, stage: Stage) -> Tensor:
        """Which tokens go, (B, N) bool."""
        assert signals.pixels is not None, "the model computes what needs names"
        first = layout.grid.tokens_per_frame
        change = changes(signals.pixels, first)
        if self.threshold is not None:
            # A pixel that is no number is no repeat.
            repeats = change <= self.threshold
        else:
            least = rising(change)[:, : stage.drop]
            repeats = torch.zeros_like(change, dtype=torch.bool).scatter(1, least, True)
        return pad(repeats, (first, 0))


def _checked_threshold(value: object) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not isfinite(value) or value < 0:  # type: ignore[arg-type, operator]
        raise ValueError(
            f"threshold={value!r} must be a finite number of at least 0, in normalised pixels, "
            f"such as threshold={THRESHOLD} (or give r)"
        )
    return float(value)  # type: ignore[arg-type]
