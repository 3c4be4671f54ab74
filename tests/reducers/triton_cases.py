"""Selections that hurt, for kernels wherever they run; see `test_triton_sta` and `test_gpu`."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from comparator import assert_same_selection
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
