"""What stands beside what, at which cost."""

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vidprune.commands import pooling
from vidprune.commands.wishes import Setting, Wish
from vidprune.intervals import Interval
from vidprune.report import Change
from vidprune.tradeoff import Pairing, _pairing


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


def test_a_pairing_tells_who_is_nearer_to_the_dense_model() -> None:
    """Of eight videos the dense model says one class, a method of six, the other of two, and all
    labels are the other class."""

    def pooled(agreeing: int) -> pooling.Pooled:
        sure = torch.tensor([[0.9, 0.1]] * agreeing + [[0.3, 0.7]] * (8 - agreeing))
        names = tuple(map(str, range(8)))
        return pooling.Pooled(names, torch.ones(8, dtype=torch.int64), sure, 50.0)

    near, far = (
        pooling._Entry(Setting(method=method, reducer=f"{method}:r=1"), pooled(agreeing))
        for method, agreeing in (("ward", 6), ("sta", 2))
    )
    wish = Wish(models=("demo",), data=(Path("clips"),), methods=("sta",))
    found = pooling._pairing(near, far, pooled(8), None, wish)
    assert found.setting == "sta:r=1"
    assert found.agreement is not None
    assert found.agreement.value == 50
    assert found.agreement.low is not None
    assert found.agreement.low < 50
    assert found.change.points.value == -50
    assert found.kl_nats is not None
    assert found.kl_nats.value < 0


def test_older_pairings_do_not_tell_of_agreement() -> None:
    interval = Interval(value=1.0, low=0.0, high=2.0)
    change = Change(points=interval, lost=1, gained=2, p_value=0.5)
    pairing = Pairing(setting="sta:r=1", change=change, kl_nats=interval, agreement=interval)
    told = asdict(pairing)
    assert _pairing(told) == pairing
    del told["agreement"]
    assert _pairing(told) == replace(pairing, agreement=None)
