"""Selections that hurt, for kernels wherever they run; see `test_triton_sta` and `test_gpu`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from comparator import assert_same_selection
from vidprune.reducers.sta import select
from vidprune.reducers.sta_backend import select_by_triton


@dataclass(frozen=True)
class Case:
    """Random tokens (clips, groups * size, channels) and keys of some width."""

    groups: int
    size: int
    drop: int
    clips: int = 2
    channels: int = 5
    width: int = 4
    dtype: torch.dtype = torch.float32

    def draw(self, seed: int = 0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        shape = self.clips, self.groups * self.size
        tokens, keys = (
            torch.randn(*shape, wide, generator=generator) for wide in (self.channels, self.width)
        )
        return tokens.to(self.dtype), keys.to(self.dtype)


CASES = {
    "the least": Case(groups=2, size=2, drop=1, channels=1, width=1),
    "one group": Case(groups=1, size=33, drop=20),
    "odd and prime": Case(groups=3, size=37, drop=11, channels=13, width=7),
    "all but one go": Case(groups=4, size=9, drop=8),
    "a power of two": Case(groups=2, size=64, drop=1, width=16),
    "one more than that": Case(groups=2, size=65, drop=64, width=17),
    "many groups": Case(groups=16, size=6, drop=2, clips=3),
    "more channels than are read at once": Case(groups=2, size=5, drop=2, channels=1030),
    "wide keys": Case(groups=2, size=40, drop=7, width=128),
    "bfloat16": Case(groups=4, size=49, drop=16, width=64, dtype=torch.bfloat16),
    "float16": Case(groups=4, size=49, drop=16, width=64, dtype=torch.float16),
    "frames of VideoMAE": Case(groups=8, size=196, drop=64, clips=1, channels=64, width=64),
    "the same in bfloat16": Case(
        groups=8, size=196, drop=64, clips=1, channels=64, width=64, dtype=torch.bfloat16
    ),
    "its last stage": Case(groups=2, size=400, drop=64, clips=1, channels=64, width=64),
}


def check(case: Case, device: str, *, backward: bool, score: str) -> None:
    """The kernels keep what the specification keeps, near ties aside."""
    tokens, keys = case.draw()
    options: dict[str, Any] = {"groups": case.groups, "drop": case.drop, "backward": backward}
    found = select_by_triton(tokens.to(device), keys.to(device), **options, score=score).cpu()
    assert_same_selection(found, tokens, keys, **options, score=score)


def by_both(
    tokens: Tensor, keys: Tensor, device: str, *, groups: int, drop: int, score: Any = "both"
) -> tuple[Tensor, Tensor]:
    """What kernels and specification keep on a device."""
    tokens, keys = tokens.to(device), keys.to(device)
    found = select_by_triton(tokens, keys, groups, drop, False, score)
    return found.cpu(), select(tokens, keys, groups=groups, drop=drop, score=score).cpu()


def equal_tokens_stay_in_the_order_of_their_positions(device: str, *, score: str) -> None:
    tokens, keys = torch.ones(2, 3 * 41, 5), torch.ones(2, 3 * 41, 4)
    found, wanted = by_both(tokens, keys, device, groups=3, drop=17, score=score)
    assert torch.equal(found, wanted)


def every_place_is_taken_once(device: str, *, broken: float) -> None:
    tokens, keys = Case(groups=3, size=20, drop=6).draw()
    tokens[0, 25], keys[0, 3], keys[0, 30:33] = broken, broken, broken
    found, wanted = by_both(tokens, keys, device, groups=3, drop=6)
    for row in found.tolist():
        assert len(set(row)) == 3 * 14
        assert all(0 <= place < 60 for place in row)
    # The other clip has nothing to do with it.
    assert torch.equal(found[1], wanted[1])
    if broken == 0:
        assert torch.equal(found, wanted)


def a_source_that_is_no_number_goes_first(device: str) -> None:
    tokens, keys = Case(groups=3, size=20, drop=1).draw()
    keys[0, 6] = float("nan")
    found, wanted = by_both(tokens, keys, device, groups=3, drop=1)
    assert 6 not in found[0, :19].tolist()
    assert torch.equal(found[:, :19], wanted[:, :19])


def tokens_and_keys_may_be_views(device: str) -> None:
    tokens, keys = Case(groups=3, size=20, drop=6).draw()
    wide = torch.zeros(2, 60, 9, device=device)
    wide[..., ::2] = tokens.to(device)
    sparse, turned = wide[..., ::2], keys.to(device).mT.contiguous().mT
    assert not sparse.is_contiguous()
    assert not turned.is_contiguous()
    found, wanted = by_both(sparse, turned, device, groups=3, drop=6)
    assert torch.equal(found, wanted)


def a_clip_does_not_depend_on_its_neighbours(device: str) -> None:
    tokens, keys = (x.to(device) for x in Case(groups=3, size=20, drop=6, clips=4).draw())
    order = torch.tensor([2, 0, 3, 1], device=device)
    found = select_by_triton(tokens, keys, 3, 6, True, "both")
    turned = select_by_triton(tokens[order], keys[order], 3, 6, True, "both")
    assert torch.equal(found[order], turned)


# By what they say, each for a device.
RULES: dict[str, Callable[[str], None]] = {
    **{
        f"equal tokens stay in the order of their positions, {score}": partial(
            equal_tokens_stay_in_the_order_of_their_positions, score=score
        )
        for score in ("both", "temporal", "semantic")
    },
    **{
        f"every place is taken once, with {broken}": partial(
            every_place_is_taken_once, broken=broken
        )
        for broken in (0.0, float("nan"), float("inf"), -0.0)
    },
    "a source that is no number goes first": a_source_that_is_no_number_goes_first,
    "tokens and keys may be views": tokens_and_keys_may_be_views,
    "a clip does not depend on its neighbours": a_clip_does_not_depend_on_its_neighbours,
}
# Groups of more tokens than any ViT has at 224 pixels, up to the most that kernels take.
LARGE_CASES = {
    "more tokens than half a thousand": Case(groups=2, size=513, drop=100, clips=1),
    "more than a thousand": Case(groups=2, size=1025, drop=900, clips=1),
    "the most that kernels take": Case(groups=2, size=2048, drop=1024, clips=1, channels=2),
}
