"""Ward merging's choice as Triton kernels for a whole batch; `ward` specifies it.

# Note [merging on a GPU]
A round in torch writes down what every pair of tokens would cost, and reads it several times; a
stage launches a hundred small operations. Here no pair is written down. `_partners` compares tile
by tile and keeps of each source the best destination and its price; `_going` counts how many
sources are cheaper, all at once, which is their rank without a sort; `_joined` sums what each
destination is joined by, as a product with a tile of ones that stays in registers, counts how many
before it have gone, and so writes what is left of the tokens in their order. Three launches a
round, and `_partners` once more for who is nearest to which survivor. A program's sums do not
depend on the batch, nor on which thread arrives first.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor

from vidprune.reducers.triton_parts import in_order, precision_on
from vidprune.reducers.ward import CHANNELS, counts_of_rounds

# Of a program: rows that it answers for, and others that it sees at once.
_ROWS, _PART = 64, 32
# Of a program that projects: channels that it reads at once.
_CHUNK = 64
# What `draws.draw` starts from for seed 0 and stage 0.
_START = 0x165667B1


@triton.jit
def _mix(words):
    """`draws._mix`."""
    words = ((words ^ (words >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    words = ((words ^ (words >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return words ^ (words >> 16)


@triton.jit
def _signs(signs, channels, ROWS: tl.constexpr, WIDTH: tl.constexpr, START: tl.constexpr):
    """The projection (channels, WIDTH) of `ward._signs`."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    start = _mix(_mix(rows.to(tl.int64)) ^ START)
    words = _mix(_mix(columns.to(tl.int64))[None, :] ^ start[:, None])
    values = (((words >> 16) & 1) * 2 - 1).to(tl.float32)
    places = signs + rows[:, None] * WIDTH + columns[None, :]
    tl.store(places, values, mask=(rows < channels)[:, None])


@triton.jit
def _projected(
    tokens,
    signs,
    state,
    count,
    channels,
    scale,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """So many rows of tokens (count, channels) times `signs`, times `scale`."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in range(0, channels, CHUNK):
        inner = start + tl.arange(0, CHUNK)
        inside = (rows < count)[:, None] & (inner < channels)[None, :]
        values = tl.load(tokens + rows[:, None] * channels + inner[None, :], mask=inside, other=0.0)
        places = signs + inner[:, None] * WIDTH + columns[None, :]
        factors = tl.load(places, mask=(inner < channels)[:, None], other=0.0)
        # Without tensor cores, and in the interpreter, half precision would be summed as such.
        if PRECISION == "ieee":
            values = values.to(tl.float32)
        total += tl.dot(values, factors.to(values.dtype), input_precision=PRECISION)
    places = state + rows[:, None] * WIDTH + columns[None, :]
    tl.store(places, total * scale, mask=(rows < count)[:, None])


@triton.jit
def _rows_of(state, rows, wanted, width, WIDTH: tl.constexpr):
    """Rows of a clip's state (N, width), (R, WIDTH); zeros beyond."""
    columns = tl.arange(0, WIDTH)
    inside = wanted[:, None] & (columns < width)[None, :]
    return tl.load(state + rows[:, None] * width + columns[None, :], mask=inside, other=0.0)


@triton.jit
def _partners(
    state,
    sizes,
    keep,
    cost,
    best,
    length,
    asking,
    others,
    width,
    SURVIVORS: tl.constexpr,
    ROWS: tl.constexpr,
    PART: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Of some of a clip's tokens the best to join. With SURVIVORS of every token the nearest in
    `keep`, itself if it is there; else of every source (an even position) the destination (an odd
    one) where it adds least to the scatter, and what."""
    clip = tl.program_id(0).to(tl.int64)
    mine = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    state += clip * length * width
    sizes += clip * length
    rows = mine if SURVIVORS else 2 * mine
    own = _rows_of(state, rows, mine < asking, width, WIDTH)
    if not SURVIVORS:
        own_size = tl.load(sizes + rows, mask=mine < asking, other=1.0)
    own_length = tl.sum(own * own, 1)
    least = tl.full((ROWS,), float("inf"), tl.float32)
    at = tl.zeros((ROWS,), tl.int32)
    for start in range(0, others, PART):
        theirs = start + tl.arange(0, PART)
        inside = theirs < others
        if SURVIVORS:
            places = tl.load(keep + clip * others + theirs, mask=inside, other=-1).to(tl.int32)
        else:
            places = 2 * theirs + 1
        other = _rows_of(state, places, inside, width, WIDTH)
        products = tl.dot(own, tl.trans(other), input_precision=PRECISION)
        apart = own_length[:, None] + tl.sum(other * other, 1)[None, :] - 2 * products
        if SURVIVORS:
            apart = tl.where(rows[:, None] == places[None, :], float("-inf"), apart)
        else:
            size = tl.load(sizes + places, mask=inside, other=1.0)
            both = own_size[:, None] + size[None, :]
            apart *= tl.div_rn(own_size[:, None] * size[None, :], both)
        # What is no number is no partner.
        apart = tl.where(inside[None, :] & (apart == apart), apart, float("inf"))
        low, first = tl.min(apart, 1, return_indices=True)
        at = tl.where(low < least, start + first, at)
        least = tl.minimum(low, least)
    tl.store(best + clip * asking + mine, at, mask=mine < asking)
    if not SURVIVORS:
        tl.store(cost + clip * asking + mine, least, mask=mine < asking)


@triton.jit
def _going(cost, goes, sources, merge, ROWS: tl.constexpr, PART: tl.constexpr):
    """Whether each source is among the `merge` cheapest; of equals the first."""
    clip = tl.program_id(0).to(tl.int64)
    mine = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    cost += clip * sources
    own = in_order(tl.load(cost + mine, mask=mine < sources, other=0.0))
    ranks = tl.zeros((ROWS, PART), tl.int32)
    for start in range(0, sources, PART):
        others = start + tl.arange(0, PART)
        theirs = in_order(tl.load(cost + others, mask=others < sources, other=0.0))
        ahead = theirs[None, :] < own[:, None]
        alike = (theirs[None, :] == own[:, None]) & (others[None, :] < mine[:, None])
        ranks += ((ahead | alike) & (others < sources)[None, :]).to(tl.int32)
    rank = tl.sum(ranks, 1)
    tl.store(goes + clip * sources + mine, (rank < merge).to(tl.int32), mask=mine < sources)


@triton.jit
def _joined(
    state,
    sizes,
    places,
    goes,
    best,
    new_state,
    new_sizes,
    new_places,
    length,
    kept,
    width,
    ROWS: tl.constexpr,
    PART: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """What is left of a clip's tokens (length, width), (kept, width): sources that stay, and
    destinations as the means of all that have joined them. A program has some sources and the
    destinations right behind them."""
    clip = tl.program_id(0).to(tl.int64)
    mine = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    sources, destinations = (length + 1) // 2, length // 2
    state += clip * length * width
    sizes += clip * length
    places += clip * length
    goes += clip * sources
    best += clip * sources
    counts = tl.zeros((ROWS, PART), tl.int32)
    joined_sizes = tl.zeros((ROWS, PART), tl.float32)
    joined = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in range(0, sources, PART):
        others = start + tl.arange(0, PART)
        inside = others < sources
        gone = tl.load(goes + others, mask=inside, other=0)
        to = tl.load(best + others, mask=inside, other=-1)
        size = tl.load(sizes + 2 * others, mask=inside, other=0.0)
        counts += tl.where(others[None, :] < mine[:, None], gone[None, :], 0)
        joins = (gone > 0)[None, :] & (to[None, :] == mine[:, None])
        shares = tl.where(joins, size[None, :], 0.0)
        joined_sizes += shares
        # Of those that go alone.
        moved = _rows_of(state, 2 * others, inside & (gone > 0), width, WIDTH)
        joined += tl.dot(shares, moved, input_precision=PRECISION)
    before = tl.sum(counts, 1)
    goes_itself = tl.load(goes + mine, mask=mine < sources, other=1)
    columns = tl.arange(0, WIDTH)
    there = (columns < width)[None, :]
    new_state += clip * kept * width
    new_sizes += clip * kept
    new_places += clip * kept

    stays = (mine < sources) & (goes_itself == 0)
    at = 2 * mine - before
    own = _rows_of(state, 2 * mine, stays, width, WIDTH)
    tl.store(new_state + at[:, None] * width + columns[None, :], own, mask=stays[:, None] & there)
    tl.store(new_sizes + at, tl.load(sizes + 2 * mine, mask=stays), mask=stays)
    tl.store(new_places + at, tl.load(places + 2 * mine, mask=stays), mask=stays)

    stays = mine < destinations
    at = 2 * mine + 1 - before - goes_itself
    own = _rows_of(state, 2 * mine + 1, stays, width, WIDTH)
    own_size = tl.load(sizes + 2 * mine + 1, mask=stays, other=1.0)
    total = own_size + tl.sum(joined_sizes, 1)
    mean = tl.div_rn(own * own_size[:, None] + joined, total[:, None] + tl.zeros_like(own))
    tl.store(new_state + at[:, None] * width + columns[None, :], mean, mask=stays[:, None] & there)
    tl.store(new_sizes + at, total, mask=stays)
    tl.store(new_places + at, tl.load(places + 2 * mine + 1, mask=stays), mask=stays)


def select(tokens: Tensor, sizes: Tensor | None, kept: int, rounds: int) -> tuple[Tensor, Tensor]:
    """Survivors (B, `kept`) int64, rising, and owners (B, N) int64, as `Ward` chooses them of
    tokens (B, N, C) that count as many as `sizes` (B, N) float32 says, 1 where it is None."""
    # Triton launches on the current device, which need not be theirs.
    with torch.cuda.device_of(tokens):
        state = sketch(tokens.contiguous())
        sizes = state.new_ones(state.shape[:2]) if sizes is None else sizes.contiguous()
        places = torch.arange(state.shape[1], device=state.device).expand_as(sizes).contiguous()
        left = state, sizes, places
        for count in counts_of_rounds(state.shape[1], kept, rounds):
            left = one_round(*left, count)
        return left[2], owners(state, left[2])


def sketch(tokens: Tensor) -> Tensor:
    """As `ward.sketch`, but that the mean is taken off after the projection, so that tokens are
    read once: (B, N, C) to (B, N, d) float32. What all have in common takes some precision here,
    of float32 tokens alone: half precision has rounded them by more."""
    batch, length, channels = tokens.shape
    if channels <= CHANNELS:
        state = tokens.float()
    else:
        state = tokens.new_empty(batch, length, CHANNELS, dtype=torch.float32)
        signs = state.new_empty(channels, CHANNELS)
        _signs[(triton.cdiv(channels, _ROWS),)](
            signs, channels, ROWS=_ROWS, WIDTH=CHANNELS, START=_START
        )
        _projected[(triton.cdiv(batch * length, _ROWS),)](
            tokens,
            signs,
            state,
            batch * length,
            channels,
            CHANNELS**-0.5,
            ROWS=_ROWS,
            CHUNK=_CHUNK,
            WIDTH=CHANNELS,
            PRECISION=precision_on(tokens.device),
        )
    return (state - state.mean(1, keepdim=True)).contiguous()


def one_round(
    state: Tensor, sizes: Tensor, places: Tensor, kept: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What a round leaves, `kept` of N, of state (B, N, d) float32, sizes (B, N) float32 and
    positions (B, N) int64."""
    batch, length, width = state.shape
    sources = (length + 1) // 2
    cost = state.new_empty(batch, sources)
    best, goes = (torch.empty_like(cost, dtype=torch.int32) for _ in range(2))
    grid = batch, triton.cdiv(sources, _ROWS)
    tiles = {"ROWS": _ROWS, "PART": _PART}
    products = {"WIDTH": _width(width), "PRECISION": precision_on(state.device)}
    others = length // 2
    _partners[grid](
        state,
        sizes,
        places,
        cost,
        best,
        length,
        sources,
        others,
        width,
        SURVIVORS=False,
        **tiles,
        **products,
    )
    _going[grid](cost, goes, sources, length - kept, **tiles)
    left = (
        state.new_empty(batch, kept, width),
        sizes.new_empty(batch, kept),
        places.new_empty(batch, kept),
    )
    _joined[grid](state, sizes, places, goes, best, *left, length, kept, width, **tiles, **products)
    return left


def owners(state: Tensor, keep: Tensor) -> Tensor:
    """For every token of state (B, N, d) the place in `keep` (B, K) int64 of the survivor nearest
    to it, (B, N) int64."""
    batch, length, width = state.shape
    owner = torch.empty(batch, length, dtype=torch.int64, device=state.device)
    _partners[(batch, triton.cdiv(length, _ROWS))](
        state,
        # There are neither sizes nor costs.
        state,
        keep,
        state,
        owner,
        length,
        length,
        keep.shape[1],
        width,
        SURVIVORS=True,
        ROWS=_ROWS,
        PART=_PART,
        WIDTH=_width(width),
        PRECISION=precision_on(state.device),
    )
    return owner


def _width(width: int) -> int:
    """Of a tile whose rows are multiplied."""
    return max(16, triton.next_power_of_2(width))
