"""STA's selection as three launches of Triton kernels for a whole batch; `sta.select` specifies it.

# Note [selection on a GPU]
In torch a stage is a scan over frames of a dozen small operations each, and launching them takes
longer than the arithmetic. But which tokens a frame keeps changes only the weights of the next
frame's sum. How a frame's tokens share each token of the frame before (`transition`) depends on
keys alone: `_transitions` computes that for all clips, frames and columns at once, but for the
division by each column's sum, which `_scan` applies to the weights. What is left to do in turn, a
sum and a ranking per frame, `_scan` does in one program per clip. `_activations` reads each token
once. Keys in half precision are multiplied as they are and summed in float32, which rounds no
product, and their lengths divided out afterwards; others are scaled first and multiplied in
float32, or in three parts of tensor cores' TF32, which is as exact. Ranks are counted on integers
that order as their floats do, so that every place is taken once whatever the scores are, and equal
ones stand in the order of their positions, as in a stable sort.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor

from vidprune.reducers.triton_parts import in_order, precision_on

# Of a program of transitions, by the bytes of a key's channel: as many as fit a GPU's shared memory
# together with the parts that float32 is multiplied in.
_ROWS = {2: 64, 4: 32}
_ACTIVATION_ROWS = 4
# Of a program that visits a clip's groups: its warps, and how many scores its threads hold at once,
# those of all tokens of a group against so many others.
_WARPS, _MOST_SCORES, _MOST_OTHERS = 16, 2**14, 16


@triton.jit
def _directions(rows, wanted, base, width, WIDTH: tl.constexpr):
    """Rows of `base` for `_cosines`, (R, WIDTH): in half precision as they are, with the factors
    that bring them to length 1, or else scaled already. A zero row stays zero."""
    columns = tl.arange(0, WIDTH)
    inside = wanted[:, None] & (columns < width)[None, :]
    places = base + rows[:, None] * width + columns[None, :]
    values = tl.load(places, mask=inside, other=0.0)
    exact = values.to(tl.float32)
    norm = tl.sqrt(tl.sum(exact * exact, 1))
    norm = tl.where(norm > 0, norm, 1.0)
    if values.dtype == tl.float32:
        values /= norm[:, None]
    return values, 1.0 / norm


@triton.jit
def _cosines(own, own_factors, others, other_factors, PRECISION: tl.constexpr):
    """Of what `_directions` gave, (R, S) float32."""
    if own.dtype == tl.float32:
        return tl.dot(own, tl.trans(others), input_precision=PRECISION)
    else:
        # Without tensor cores, and in the interpreter, half precision would be summed as such.
        if PRECISION == "ieee":
            own, others = own.to(tl.float32), others.to(tl.float32)
        products = tl.dot(own, tl.trans(others), input_precision=PRECISION)
        return products * (own_factors[:, None] * other_factors[None, :])


@triton.jit
def _activations(
    tokens,
    activation,
    count,
    channels,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Sums of absolute channel values of so many rows."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, CHANNELS)
    total = tl.zeros((ROWS,), tl.float32)
    for start in range(0, channels, CHANNELS):
        inside = (rows < count)[:, None] & (start + columns < channels)[None, :]
        places = tokens + rows[:, None] * channels + start + columns[None, :]
        total += tl.sum(tl.abs(tl.load(places, mask=inside, other=0.0).to(tl.float32)), 1)
    tl.store(activation + rows, total, mask=rows < count)


@triton.jit
def _transitions(
    keys,
    best,
    shares,
    totals,
    size,
    width,
    groups,
    BACKWARD: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Of one clip and step some columns: how the group visited then shares each token of the group
    before, times `totals`; of the first group, how like each source is to its best destination."""
    clip = tl.program_id(0).to(tl.int64)
    step = tl.program_id(1)
    mine = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    group = groups - 1 - step if BACKWARD else step
    base = keys + (clip * groups + group) * size * width
    if step == 0:
        sources = 2 * mine
        source_keys, factors = _directions(sources, sources < size, base, width, WIDTH)
        nearest = tl.full((ROWS,), float("-inf"), tl.float32)
        for start in range(0, size // 2, ROWS):
            others = 2 * (start + tl.arange(0, ROWS)) + 1
            other_keys, theirs = _directions(others, others < size, base, width, WIDTH)
            likeness = _cosines(source_keys, factors, other_keys, theirs, PRECISION)
            likeness = tl.where((others < size)[None, :], likeness, float("-inf"))
            # A maximum passes over what is no number, which is to go first.
            likeness = tl.where(likeness == likeness, likeness, float("inf"))
            nearest = tl.maximum(nearest, tl.max(likeness, 1))
        tl.store(best + clip * size + sources, nearest, mask=sources < size)
    else:
        before = base + (size * width if BACKWARD else -size * width)
        before_keys, factors = _directions(mine, mine < size, before, width, WIDTH)
        total = tl.zeros((ROWS,), tl.float32)
        column = clip * (groups - 1) + step - 1
        table = shares + column * size * size
        for start in range(0, size, ROWS):
            rows = start + tl.arange(0, ROWS)
            own_keys, own = _directions(rows, rows < size, base, width, WIDTH)
            # Cosines are small: nothing overflows without their maximum taken off.
            powers = tl.exp(_cosines(own_keys, own, before_keys, factors, PRECISION))
            total += tl.sum(tl.where((rows < size)[:, None], powers, 0.0), 0)
            places = table + rows[:, None] * size + mine[None, :]
            inside = (rows < size)[:, None] & (mine < size)[None, :]
            tl.store(places, powers, mask=inside)
        tl.store(totals + column * size + mine, total, mask=mine < size)


@triton.jit
def _scan(
    activation,
    best,
    shares,
    totals,
    kept,
    weights,
    order,
    size,
    stay,
    groups,
    BACKWARD: tl.constexpr,
    SCORE: tl.constexpr,
    SIZE: tl.constexpr,
    PART: tl.constexpr,
):
    """Visit the groups of one clip in turn: scores, ranks, and who stays. `weights` and `order`
    are where a program's threads see each other's values."""
    clip = tl.program_id(0).to(tl.int64)
    tokens = tl.arange(0, SIZE)
    inside = tokens < size
    weights += clip * size
    order += clip * size
    # The group visited second sees every token of the first, dropped ones included, at weight 1.
    weight = tl.where(inside, 1.0, 0.0)
    for step in range(0, groups):
        group = groups - 1 - step if BACKWARD else step
        redundancy = tl.zeros((SIZE,), tl.float32)
        if step == 0:
            # Destinations first, in order, then the sources by how redundant they are.
            nearest = tl.load(best + clip * size + tokens, mask=inside & (tokens % 2 == 0), other=0)
            rank_of = tl.where(tokens % 2 == 1, -0x7FFFFFFF + tokens, in_order(nearest))
        else:
            active = tl.load(activation + (clip * groups + group) * size + tokens, mask=inside)
            low = tl.min(tl.where(inside, active, float("inf")), 0)
            span = tl.max(tl.where(inside, active, float("-inf")), 0) - low
            # Rounded as in torch, or the most important token would not quite have importance 1.
            importance = tl.div_rn(active - low, tl.where(span > 0, span, 1.0))
            if SCORE != "semantic":
                column = clip * (groups - 1) + step - 1
                total = tl.load(totals + column * size + tokens, mask=inside, other=1.0)
                tl.store(weights + tokens, weight / total, mask=inside)
                tl.debug_barrier()
                table = shares + column * size * size
                # Summed up over threads once, after the loop.
                parts = tl.zeros((SIZE, PART), tl.float32)
                for start in tl.range(0, size, PART, loop_unroll_factor=4):
                    others = start + tl.arange(0, PART)
                    counted = tl.load(weights + others, mask=others < size, other=0.0)
                    places = table + tokens[:, None] * size + others[None, :]
                    there = inside[:, None] & (others < size)[None, :]
                    share = tl.load(places, mask=there, other=0.0)
                    parts += share * counted[None, :]
                redundancy = tl.sum(parts, 1)
            if SCORE == "both":
                rank_of = in_order(redundancy * (1 - importance))
            elif SCORE == "temporal":
                rank_of = in_order(redundancy)
            else:
                rank_of = in_order(1 - importance)
        tl.store(order + tokens, rank_of, mask=inside)
        tl.debug_barrier()
        # Threads that hold the same score may have rounded it differently, one adding its exact
        # product to another's rounded one: all take what is written.
        rank_of = tl.load(order + tokens, mask=inside, other=0)
        ranks = tl.zeros((SIZE, PART), tl.int32)
        for start in tl.range(0, size, PART, loop_unroll_factor=4):
            others = start + tl.arange(0, PART)
            theirs = tl.load(order + others, mask=others < size, other=0)
            ahead = theirs[None, :] < rank_of[:, None]
            alike = (theirs[None, :] == rank_of[:, None]) & (others[None, :] < tokens[:, None])
            counts = (ahead | alike) & (others < size)[None, :]
            ranks += counts.to(tl.int32)
        rank = tl.sum(ranks, 1)
        stays = inside & (rank < stay)
        place = kept + (clip * groups + group) * stay + rank
        tl.store(place, (group * size + tokens).to(tl.int64), mask=stays)
        if SCORE != "semantic" and step > 0:
            weight = tl.where(stays, redundancy, 0.0)
            weight = weight / tl.sum(weight, 0)
        # Before anybody writes again what others may still read.
        tl.debug_barrier()


def select(
    tokens: Tensor, keys: Tensor, *, groups: int, drop: int, backward: bool, score: str
) -> Tensor:
    """As `sta.select`, on a GPU (or anywhere in Triton's interpreter): (B, groups * (L / groups -
    drop)) int64.

    Groups and keys are no larger than `sta_backend` lets through.
    """
    tokens, keys = tokens.contiguous(), keys.contiguous()
    kept = tokens.new_empty(tokens.shape[0], tokens.shape[1] - groups * drop, dtype=torch.int64)
    # Triton launches on the current device, which need not be theirs.
    with torch.cuda.device_of(tokens):
        _launch(tokens, keys, kept, groups, backward, score)
    return kept


def _launch(
    tokens: Tensor, keys: Tensor, kept: Tensor, groups: int, backward: bool, score: str
) -> None:
    """Write positions into `kept`."""
    batch, length, channels = tokens.shape
    size, width = length // groups, keys.shape[-1]
    activation = tokens.new_empty(batch, length, dtype=torch.float32)
    _activations[(triton.cdiv(batch * length, _ACTIVATION_ROWS),)](
        tokens, activation, batch * length, channels, ROWS=_ACTIVATION_ROWS, CHANNELS=512
    )
    # Semantic scores need of keys what the first group needs.
    steps = 1 if score == "semantic" else groups
    best = activation.new_empty(batch, size)
    shares = activation.new_empty(batch, steps - 1, size, size)
    totals = activation.new_empty(batch, steps - 1, size)
    rows = _ROWS[keys.element_size()]
    _transitions[(batch, steps, triton.cdiv(size, rows))](
        keys,
        best,
        shares,
        totals,
        size,
        width,
        groups,
        BACKWARD=backward,
        ROWS=rows,
        WIDTH=max(16, triton.next_power_of_2(width)),
        PRECISION=precision_on(tokens.device),
    )
    whole = triton.next_power_of_2(size)
    _scan[(batch,)](
        activation,
        best,
        shares,
        totals,
        kept,
        torch.empty_like(best),
        torch.empty_like(best, dtype=torch.int32),
        size,
        kept.shape[1] // groups,
        groups,
        BACKWARD=backward,
        SCORE=score,
        SIZE=whole,
        PART=min(_MOST_OTHERS, _MOST_SCORES // whole),
        num_warps=_WARPS,
    )
