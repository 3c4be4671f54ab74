"""Mergings that hurt, for kernels wherever they run; see `test_triton_ward` and `test_gpu`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vidprune.reducers.ward import counts_of_rounds, sketch, squared_distances, ward_costs
from vidprune.reducers.ward_backend import select_by_triton


@dataclass(frozen=True)
class Case:
    """Random tokens (clips, entering, channels), some of which stay."""

    entering: int
    kept: int
    clips: int = 2
    channels: int = 5
    rounds: int = 3
    sized: bool = True
    dtype: torch.dtype = torch.float32

    def draw(self, seed: int = 0) -> tuple[Tensor, Tensor | None]:
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randn(self.clips, self.entering, self.channels, generator=generator)
        # What many channels of large models have in common.
        tokens[..., 0] += 20
        sizes = torch.randint(1, 40, tokens.shape[:2], generator=generator).float()
        return tokens.to(self.dtype), sizes if self.sized else None


CASES = {
    "the least": Case(entering=2, kept=1, channels=1),
    "three of which one stays": Case(entering=3, kept=1),
    "odd and prime": Case(entering=37, kept=11, channels=13),
    "all but one go": Case(entering=64, kept=1),
    "one goes": Case(entering=129, kept=128, rounds=1),
    "more rounds than there are tokens": Case(entering=40, kept=38, rounds=9),
    "as many channels as are compared": Case(entering=50, kept=20, channels=32),
    "one more than that": Case(entering=50, kept=20, channels=33),
    "more channels than are read at once": Case(entering=30, kept=20, channels=131),
    "bfloat16": Case(entering=98, kept=49, channels=96, dtype=torch.bfloat16),
    "float16": Case(entering=98, kept=49, channels=96, dtype=torch.float16),
    "many clips": Case(entering=20, kept=9, clips=9),
    "a clip of VideoMAE": Case(
        entering=1568, kept=1177, clips=1, channels=384, sized=False, dtype=torch.bfloat16
    ),
    "its last stage": Case(entering=987, kept=784, clips=1, channels=384),
}


def check(case: Case, device: str) -> None:
    """The kernels choose as the specification does in float64, near ties aside."""
    from vidprune.reducers import triton_ward

    tokens, sizes = case.draw()
    there = tokens.to(device), None if sizes is None else sizes.to(device)
    keep, owner = select_by_triton(*there, case.kept, case.rounds)
    state = triton_ward.sketch(there[0])
    wanted = sketch(tokens.double())
    scale = wanted.square().sum(-1).max().item()
    assert (state.cpu() - wanted).abs().max() < 1e-5 * (20 + scale**0.5)

    counted = torch.ones(tokens.shape[:2]) if sizes is None else sizes
    places = torch.arange(case.entering).expand(case.clips, -1).contiguous()
    left = state, counted.to(device), places.to(device)
    for count in counts_of_rounds(case.entering, case.kept, case.rounds):
        after = triton_ward.one_round(*left, count)
        _check_round(*(each.cpu() for each in left), *(each.cpu() for each in after), count)
        left = after
    assert torch.equal(left[2], keep)
    _check_owners(state.double().cpu(), keep.cpu(), owner.cpu(), scale)


def _check_round(
    state: Tensor,
    sizes: Tensor,
    places: Tensor,
    new_state: Tensor,
    new_sizes: Tensor,
    new_places: Tensor,
    count: int,
) -> None:
    """Those went that cost least, each to where it costs least, and means and sizes are theirs."""
    assert new_places.shape == (len(state), count)
    state, sizes, new_state = state.double(), sizes.double(), new_state.double()
    costs = ward_costs(state, sizes)
    # Costs come of a small difference of large numbers.
    near = 1e-5 * (state.square().sum(-1).max() * sizes.max()).item()
    for clip in range(len(state)):
        stays = torch.isin(places[clip], new_places[clip])
        assert stays[1::2].all(), "a destination has gone"
        assert torch.equal(places[clip][stays], new_places[clip])
        least, best = costs[clip].min(-1)
        gone, left = ~stays[0::2], stays[0::2]
        if left.any() and gone.any():
            assert least[gone].max() <= least[left].min() + near
        clear = costs.shape[-1] == 1 or bool(
            (costs[clip].topk(2, largest=False).values.diff() > 2 * near)[gone].all()
        )
        assert new_sizes[clip].sum() == sizes[clip].sum()
        if clear:
            _check_means(state[clip], sizes[clip], gone, best, stays, new_state[clip])
            expected = sizes[clip].clone()
            expected[1::2].index_add_(0, best[gone], sizes[clip][0::2][gone])
            assert torch.equal(new_sizes[clip].double(), expected[stays])


def _check_means(
    state: Tensor, sizes: Tensor, gone: Tensor, best: Tensor, stays: Tensor, found: Tensor
) -> None:
    sums, totals = state * sizes[:, None], sizes.clone()
    sums[1::2] = sums[1::2].index_add(0, best[gone], sums[0::2][gone])
    totals[1::2] = totals[1::2].index_add(0, best[gone], sizes[0::2][gone])
    wanted = (sums / totals[:, None])[stays]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def _check_owners(state: Tensor, keep: Tensor, owner: Tensor, scale: float) -> None:
    """Everybody is owned by a survivor that is as near as any, survivors by themselves."""
    ranks = torch.arange(keep.shape[1]).expand_as(keep)
    assert torch.equal(owner.gather(1, keep), ranks)
    survivors = state.gather(1, keep[..., None].expand(-1, -1, state.shape[-1]))
    apart = squared_distances(state, survivors)
    chosen = apart.gather(2, owner[..., None])[..., 0]
    themselves = torch.zeros_like(chosen).scatter(1, keep, 1).bool()
    assert ((chosen <= apart.min(-1).values + 1e-5 * scale) | themselves).all()
