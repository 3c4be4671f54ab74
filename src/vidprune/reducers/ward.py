"""Ward merging: the few tokens that stand for a clip with the least scatter, each counted by size.

Our own, from J. Ward's criterion for clusters (JASA 58, 1963) and ToMe's proportional attention.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

import torch
from torch import Tensor

from vidprune.layout import Layout, TokenGrid
from vidprune.reducers.backend import BACKENDS, Backend, takes_triton
from vidprune.reducers.base import Need, Reduction, Signals, dropped
from vidprune.reducers.draws import draw
from vidprune.reducers.dropping import check_switches
from vidprune.reducers.exact import for_products, full_precision, rising
from vidprune.reducers.schedule import Place, Stage, whole_numbers
from vidprune.reducers.ward_backend import select_by_triton

# Note [why Ward]
# What follows a block sees the tokens as a set: attention that counts a token by its size, layers
# that see each alone, a mean over all. Were n tokens equal, one of size n could stand for them and
# nothing would change. Where they are not, terms of first order cancel, since what deviates from a
# mean sums to nothing; what is lost is of second order, like the scatter, the sum of squared
# distances within clusters in the block's own output. Of it Ward's criterion tells how much a
# merging adds: a b / (a + b) times the squared distance of two means of sizes a and b. To find the
# best clusters is hard, and to merge one pair at a time slow; half of the tokens at once, as ToMe
# does, comes near in a few rounds.

# Note [the first block]
# Tokens say more of themselves after a block than before any, so merging acts behind blocks. But
# then the first block sees all tokens, a twelfth of all that a ViT-B does: where very little is to
# stay, it costs more than all others together, and they have to make up for it with hardly any
# tokens. So where it would see more than a third of the tokens that all blocks see,
# some are merged before it already, just as many as bring it there.

# A block, a place in it, and how many tokens of a clip go on from there.
Act = tuple[int, Place, int]

WHERE = ("auto", "after", "before")
BLOCKS = (0, 1, 2)
# Of the tokens that all blocks see, what block 0 may see.
MOST_SEEN = 1 / 3
ROUNDS, MOST_ROUNDS = 3, 16
# By which tokens are compared, at most.
CHANNELS = 32


def stages_of(acts: Iterable[Act], entering: int) -> tuple[Stage, ...]:
    """A stage for each act at which any of a clip's `entering` tokens go."""
    stages: list[Stage] = []
    for block, place, kept in acts:
        if kept < entering:
            stages.append(
                Stage(
                    index=len(stages),
                    block=block,
                    groups=1,
                    entering=entering,
                    drop=entering - kept,
                    place=place,
                )
            )
        entering = kept
    return tuple(stages)


def shares_after(first: float, last: float, stages: int) -> list[float]:
    """What share of a clip's tokens goes on after each stage, the same share of those before."""
    return [first * (last / first) ** (index / stages) for index in range(1, stages + 1)]


def ahead_share(last: float, blocks: tuple[int, ...], depth: int) -> float:
    """What share of the tokens block 0 is to see, where merging acts after it and the others of
    `blocks`, and a share of `last` stays: 1 where all are less than `MOST_SEEN` of what all blocks
    see, and in models of so few blocks that it cannot be less."""

    def sees_too_much(first: float) -> bool:
        shares = [first, *shares_after(first, last, len(blocks))]
        gaps = [after - before for before, after in pairwise((*blocks, depth - 1))]
        seen = first + sum(gap * share for gap, share in zip(gaps, shares[1:], strict=True))
        return first > MOST_SEEN * seen - 1e-9

    if sees_too_much(last) or not sees_too_much(1.0):
        return 1.0
    low, high = last, 1.0
    # To less than a token of any clip.
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if sees_too_much(middle) else (middle, high)
    return low


def sketch(tokens: Tensor) -> Tensor:
    """What tokens (B, N, C) are compared by, (B, N, d): less their mean, and of many channels a
    random projection to `CHANNELS`.

    Distances stay; what all tokens have in common, which in large models is most of them, takes no
    precision from them. Of projected vectors squared distances are right in the mean, and off by a
    quarter of themselves (a standard deviation of the square root of 2 / 32), whatever C; and so
    much of the arithmetic is saved.
    """
    values = for_products(tokens)
    values = values - values.mean(1, keepdim=True)
    width = values.shape[-1]
    if width <= CHANNELS:
        return values
    signs = _signs(width, values.device).to(values.dtype)
    return values @ signs / CHANNELS**0.5


def _signs(width: int, device: torch.device) -> Tensor:
    """A projection (width, CHANNELS) of 1 and -1, the same everywhere."""
    rows, columns = (torch.arange(count, device=device) for count in (width, CHANNELS))
    words = draw(rows, columns.expand(width, -1), seed=0, stage=0)
    return (words >> 16 & 1) * 2 - 1


def ward_survivors(state: Tensor, sizes: Tensor, kept: int, rounds: int) -> Tensor:
    """Whom Ward's criterion leaves standing of tokens (B, N, C), (B, `kept`) int64, rising.

    In each round even positions are sources, odd ones destinations. A source's price is what it
    adds to the scatter of the destination where that is least; the cheapest sources join theirs.
    `sizes` (B, N) float32. Of equals the earlier position counts.
    """
    batch, entering, _ = state.shape
    places = torch.arange(entering, device=state.device).expand(batch, -1)
    for count in counts_of_rounds(entering, kept, rounds):
        merge = places.shape[1] - count
        cost, best = ward_costs(state, sizes).min(-1)
        order = rising(cost)
        go, stay = order[:, :merge], order[:, merge:]
        means, totals = _joined(state, sizes, go, best.gather(1, go))
        left = torch.cat([places[:, 0::2].gather(1, stay), places[:, 1::2]], 1)
        turn = rising(left)
        places = left.gather(1, turn)
        state = _at(torch.cat([_at(state[:, 0::2], stay), means], 1), turn)
        sizes = torch.cat([sizes[:, 0::2].gather(1, stay), totals], 1).gather(1, turn)
    return places


def counts_of_rounds(entering: int, kept: int, rounds: int) -> tuple[int, ...]:
    """How many tokens each round leaves: equal shares, but at least three fifths, so that more
    rounds than were asked for may follow. Were half to go, all sources would, whatever they are."""
    counts: list[int] = []
    left, number = entering, 0
    while left > kept:
        ahead = max(rounds - number, 1)
        after = max(round(left * (kept / left) ** (1 / ahead)), left - max(2 * left // 5, 1))
        # Of few tokens an equal share may be none.
        counts += [after] if after < left else []
        left, number = after, number + 1
    return tuple(counts)


def ward_costs(state: Tensor, sizes: Tensor) -> Tensor:
    """What it adds to the scatter when a source joins a destination, (B, N, C) and (B, N) to
    (B, sources, destinations)."""
    apart = squared_distances(state[:, 0::2], state[:, 1::2])
    source, destination = sizes[:, 0::2, None], sizes[:, None, 1::2]
    return apart * (source * destination / (source + destination))


def squared_distances(rows: Tensor, others: Tensor) -> Tensor:
    """Of every row (B, N, C) to all others (B, M, C), (B, N, M); by one product."""
    lengths, other_lengths = (each.square().sum(-1) for each in (rows, others))
    return lengths[..., None] + other_lengths[:, None] - 2 * (rows @ others.mT)


def nearest_survivors(state: Tensor, keep: Tensor) -> Tensor:
    """For every token the survivor nearest to it, as an `owner` (B, N) int64.

    `state` (B, N, C); `keep` (B, K): the survivors, which own themselves. Of survivors as near the
    first in `keep` counts.
    """
    gone = dropped(keep, state.shape[1])
    nearest = squared_distances(_at(state, gone), _at(state, keep)).argmin(-1)
    themselves = torch.arange(keep.shape[1], device=keep.device).expand_as(keep)
    owner = torch.zeros(state.shape[:2], dtype=torch.int64, device=keep.device)
    return owner.scatter(1, keep, themselves).scatter(1, gone, nearest)


def _joined(state: Tensor, sizes: Tensor, go: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
    """The destinations' means (B, N // 2, C) and sizes once sources `go` (B, M) have joined
    destinations `to` (B, M)."""
    joining, own = sizes[:, 0::2].gather(1, go), sizes[:, 1::2]
    places = torch.arange(own.shape[1], device=go.device)
    # A product, whose result does not depend on the order in which threads arrive.
    shares = (to[:, None] == places[:, None]) * joining[:, None]
    total = own + shares.sum(-1)
    added = shares.to(state.dtype) @ _at(state[:, 0::2], go)
    return (state[:, 1::2] * own[..., None] + added) / total[..., None], total


def _at(rows: Tensor, places: Tensor) -> Tensor:
    """Rows (B, N, C) at places (B, K)."""
    return rows.gather(1, places[..., None].expand(-1, -1, rows.shape[-1]))


@dataclass(frozen=True, kw_only=True)
class Ward:
    """Merges, at a few early blocks, down to the tokens that stand for the others best.

    Survivors are found in `rounds` by Ward's criterion on the tokens themselves; every other token
    joins the survivor that it lies nearest to, which becomes the mean, weighted by size. The model
    then attends to and pools tokens by their size: see Note [why Ward].

    `r`: tokens of each temporal position that go in all (of a clip r times as many as it has
    positions, from wherever); every stage keeps the same share; 0 does nothing. An explicit
    `schedule` lists the tokens that go per temporal position at each stage instead. `blocks`: the
    (0-based) blocks at which it acts, by default the first three or as many as the schedule has
    numbers. `where`: "after" those blocks, "before" them, or "auto": after them, and where very
    little is to stay also before the first (see Note [the first block]), unless a schedule is
    given. `proportional_attention`: without it tokens are attended to as if all had
    one size. `backend`: which code chooses, torch or Triton's kernels; "auto" takes these on CUDA
    wherever they can (see `takes_triton`).

    >>> Ward(r=112).plan(depth=12, grid=TokenGrid(frames=8, rows=14, columns=14))[-1].kept
    672
    """

    r: int | None = None
    schedule: tuple[int, ...] | None = None
    blocks: tuple[int, ...] | None = None
    where: Literal["auto", "after", "before"] = "auto"
    rounds: int = ROUNDS
    proportional_attention: bool = True
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        for name in ("schedule", "blocks"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, whole_numbers(name, value))
        self._check_amount()
        self._check_blocks()
        check_switches(proportional_attention=self.proportional_attention)
        for name, known in (("where", WHERE), ("backend", BACKENDS)):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(known)}")
        if type(self.rounds) is not int or not 1 <= self.rounds <= MOST_ROUNDS:
            raise ValueError(
                f"rounds={self.rounds!r} must be a whole number from 1 to {MOST_ROUNDS}, such as "
                f"{ROUNDS}"
            )

    def _check_amount(self) -> None:
        if self.schedule is not None and self.r is not None:
            raise ValueError(
                f"r={self.r} and the explicit schedule={self.schedule} both say how many tokens "
                "go; give one of the two"
            )
        if self.schedule is None and (type(self.r) is not int or self.r < 0):
            given = "r is missing, which" if self.r is None else f"r={self.r!r}"
            raise ValueError(
                f"{given} must be a whole number of at least 0: the tokens of each temporal "
                "position that go in all, such as r=112 (or give an explicit schedule)"
            )

    def _check_blocks(self) -> None:
        blocks = self.blocks
        if blocks is None:
            return
        if list(blocks) != sorted(set(blocks)):
            raise ValueError(f"blocks={blocks} must rise strictly, such as (0, 1, 2)")
        if self.schedule is not None and len(self.schedule) != len(blocks):
            raise ValueError(
                f"schedule={self.schedule} and blocks={blocks} must have one number per block "
                "each; make them agree, or give r"
            )

    def acting(self, depth: int) -> tuple[int, ...]:
        """The blocks at which it acts, in a model of so many."""
        if self.blocks is not None:
            return self.blocks
        if self.schedule is not None:
            return tuple(range(len(self.schedule)))
        return BLOCKS[:depth]

    @property
    def needs(self) -> frozenset[Need]:
        """Nothing but the tokens themselves, and sizes in attention."""
        weighed: frozenset[Need] = frozenset({"proportional_attention"})
        return weighed if self.proportional_attention else frozenset()

    def plan(self, depth: int, grid: TokenGrid) -> tuple[Stage, ...]:
        """A stage for each acting block at which tokens go.

        Raises ValueError where a block does not exist or no token would stay.
        """
        blocks = self.acting(depth)
        if blocks[-1] >= depth:
            raise ValueError(
                f"blocks={blocks} do not fit a model of {depth} blocks (0 to {depth - 1}); choose "
                "others"
            )
        return stages_of(self._acts(grid, blocks, depth), grid.tokens)

    def _acts(self, grid: TokenGrid, blocks: tuple[int, ...], depth: int) -> list[Act]:
        """As `stages_of` takes them."""
        self._check_enough(grid)
        place = Place.BEFORE_BLOCK if self.where == "before" else Place.AFTER_BLOCK
        if self.schedule is not None:
            gone = accumulate(self.schedule)
            kept = [grid.tokens - grid.frames * each for each in gone]
            return [(block, place, count) for block, count in zip(blocks, kept, strict=True)]
        share = 1 - (self.r or 0) / grid.tokens_per_frame
        helps = self.where == "auto" and blocks[0] == 0
        first = ahead_share(share, blocks, depth) if helps else 1.0
        acts = [(blocks[0], Place.BEFORE_BLOCK, first)] if first < 1 else []
        shares = shares_after(first, share, len(blocks))
        acts += [(block, place, each) for block, each in zip(blocks, shares, strict=True)]
        return [(block, place, round(grid.tokens * each)) for block, place, each in acts]

    def _check_enough(self, grid: TokenGrid) -> None:
        gone, most = self.schedule or (self.r or 0,), grid.tokens_per_frame - 1
        if sum(gone) > most:
            said = f"schedule={self.schedule}" if self.schedule else f"r={self.r}"
            raise ValueError(
                f"{said} takes {sum(gone)} tokens from each temporal position, which has "
                f"{grid.tokens_per_frame}; choose at most {most}"
            )

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        """Reduce tokens (B, N, C) to `stage.kept`, in rising position."""
        sizes = layout.sizes
        if takes_triton(self.backend, tokens):
            keep, owner = select_by_triton(tokens, sizes, stage.kept, self.rounds)
            return Reduction(keep=keep, owner=owner)
        with full_precision(tokens.device):
            state = sketch(tokens)
            if sizes is None:
                sizes = torch.ones(tokens.shape[:2], dtype=torch.float32, device=tokens.device)
            keep = ward_survivors(state, sizes, stage.kept, self.rounds)
            return Reduction(keep=keep, owner=nearest_survivors(state, keep))
