"""What stands beside what, at which cost."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vidprune.commands import pooling
from vidprune.commands.wishes import Setting


def entry(method: str, gmacs: float, likeliest: float = 0.5) -> Any:
    setting = Setting(method=method, reducer=f"{method}:r=1")
    probabilities = torch.tensor([[likeliest, 1 - likeliest]])
    pooled = SimpleNamespace(gmacs_per_video=gmacs, probabilities=probabilities)
    return pooling._Entry(setting, pooled)


def test_random_from_the_same_stages_is_what_a_method_is_compared_with() -> None:
    """Though another costs nearer to it; and where there is none, the better one."""
    dense = SimpleNamespace(gmacs_per_video=100.0, probabilities=torch.tensor([[0.8, 0.2]]))
    usual, early = entry("random", 20.0, 0.3), entry("random:blocks=0/1/2", 21.0, 0.7)
    alike = pooling._alike
    assert alike(entry("sta:blocks=0/1/2,fold=true", 20.1), [usual, early], dense) is early
    assert alike(entry("run-length", 20.1), [usual, early], dense) is early
    assert alike(entry("run-length", 20.1), [usual], dense) is usual
    assert alike(entry("sta:blocks=1/2/3", 20.1), [usual, early], dense) is early
    assert alike(entry("sta", 30.0), [usual, early], dense) is None


@pytest.mark.parametrize(
    ("method", "is_it"),
    [
        ("random", True),
        ("random:blocks=0/1/2", True),
        ("random:seed=1", False),
        ("random:fold=true", False),
        ("random:blocks=0/1/2,fold=true", False),
        ("sta", False),
    ],
)
def test_one_draw_is_what_others_are_measured_by(method: str, is_it: bool) -> None:
    """Were it the luckiest of several, no method would stand a chance; the other draws are measured
    by it as well, which shows how much of a difference is luck."""
    assert Setting(method=method).is_reference is is_it
