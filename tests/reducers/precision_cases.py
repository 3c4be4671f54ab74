"""Reductions of fixed tokens, while the process multiplies float32 in other formats; see
`test_exact` and `test_gpu`."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vidprune.layout import Layout, TokenGrid
from vidprune.reducers.base import Reduction, Signals
from vidprune.reducers.spec import parse

# Each has products of its own to choose by; kernels are no product of torch's.
SPECS = (
    "sta:r=20,backend=torch",
    "random:r=20,fold=true",
    "tome:r=100",
    "vid-tldr:r=100",
    "ward:r=30,backend=torch",
)
_GRID = TokenGrid(frames=8, rows=7, columns=7)


def reduction(spec: str, device: str) -> Reduction:
    """What the first stage of a reducer makes of two clips of random tokens, on the CPU."""
    generator = torch.Generator().manual_seed(3)
    tokens, keys = (
        torch.randn(2, _GRID.tokens, width, generator=generator).to(device) for width in (48, 32)
    )
    attention = torch.rand(2, _GRID.tokens, _GRID.tokens, generator=generator).softmax(-1)
    layout = Layout(
        grid=_GRID,
        origin=torch.arange(_GRID.tokens, device=device).expand(2, -1),
        clip_keys=torch.arange(2, device=device),
    )
    reducer = parse(spec)
    needed = {"keys": keys, "attention": attention.to(device)}
    signals = Signals(**{name: value for name, value in needed.items() if name in reducer.needs})
    found = reducer(tokens, signals, layout, reducer.plan(4, _GRID)[0])
    # What of a token joins its survivor, as one method says, is its own attention, and no product.
    owner = None if found.owner is None else found.owner.cpu()
    return Reduction(keep=found.keep.cpu(), owner=owner)


@contextmanager
def multiplying_in(precision: str) -> Iterator[None]:
    """Let the process multiply float32 by that setting of torch's."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def is_same(one: Reduction, other: Reduction) -> bool:
    owners = one.owner, other.owner
    if None in owners:
        return owners == (None, None) and torch.equal(one.keep, other.keep)
    return torch.equal(one.keep, other.keep) and torch.equal(*owners)
