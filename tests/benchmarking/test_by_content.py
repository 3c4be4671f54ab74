"""The benchmark of budgets by content: a half never judges what it chose, and a signal that tells
wins where one that does not tell loses."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import PreTrainedModel

from tiny_videomae import tiny_videomae

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SETTINGS = ("sta:r=8", "sta:r=4", "sta:r=1")
COUNT = 80


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    import by_content

    yield by_content
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny_videomae(num_labels=5)


def test_no_source_is_in_both_halves(benchmark: ModuleType) -> None:
    sources = torch.arange(COUNT) // 3
    first, second = benchmark.halves(sources)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(COUNT))
    assert not {*sources[first].tolist()} & {*sources[second].tolist()}
    assert min(len(first), len(second)) > COUNT // 3


def test_the_least_sure_tenth_is_looked_at(benchmark: ModuleType) -> None:
    sure = torch.full((20,), 0.9)
    sure[[3, 7]] = 0.4
    probabilities = torch.stack([sure, 1 - sure], dim=1)
    probabilities[[3, 7]] = torch.tensor([0.5, 0.5])
    same = torch.ones(20, dtype=torch.bool)
    same[[3, 5]] = False
    strayed = torch.zeros(20)
    strayed[[3, 7, 9]] = torch.tensor([1.0, 2.0, 1.0])
    found = benchmark.least_sure_tenth(probabilities, same, strayed)
    assert found == {"disagreements": 50.0, "kl_nats": 75.0}


def test_a_signal_that_tells_wins_and_one_that_does_not_loses(
    benchmark: ModuleType, model: PreTrainedModel
) -> None:
    """The cheaper a setting, the further off it is where much changes; what is drawn knows
    nothing of that."""
    generator = torch.Generator().manual_seed(0)
    amounts = torch.linspace(0.05, 0.95, COUNT)[torch.randperm(COUNT, generator=generator)]
    labels = torch.arange(COUNT) % 5
    known = {}
    for video in range(COUNT):
        right = 6.0 * torch.nn.functional.one_hot(labels[video], 5)
        wrong = 6.0 * torch.nn.functional.one_hot((labels[video] + 1) % 5, 5)
        known["none", video] = right[None]
        for place, setting in enumerate(SETTINGS):
            limit = (0.55, 0.6, 0.95)[place]
            known[setting, video] = (wrong if amounts[video] > limit else right)[None]
    data = benchmark.Data(
        names=[f"{number}.mp4" for number in range(COUNT)],
        labels=labels,
        known=known,
        signals={
            "change": [[float(each)] for each in amounts],
            "redundancy": [[0.5]] * COUNT,
            "drawn": [[float(each)] for each in torch.rand(COUNT, generator=generator)],
        },
    )
    rows = {
        signal: benchmark.Trial.of(model, data, torch.arange(COUNT), signal).row(
            list(SETTINGS), SETTINGS[1]
        )
        for signal in ("change", "drawn")
    }
    moved = {signal: row["against_fixed"]["agreement"] for signal, row in rows.items()}
    assert moved["change"]["low"] > 0
    assert rows["change"]["taken"] == 2
    assert moved["drawn"]["value"] < moved["change"]["low"]
    assert rows["change"]["gmacs"] <= rows["change"]["gmacs_fixed"]
    assert rows["drawn"]["budgets"] == []
