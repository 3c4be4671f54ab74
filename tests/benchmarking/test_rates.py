"""Rates are what was done over the best time it took."""

from itertools import cycle

import pytest
import torch

from vidprune.benchmarking import rates as module
from vidprune.benchmarking.rates import machine_rates

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_best_repeat_counts(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SIDE", 100)
    monkeypatch.setattr(module, "_COPIED_BYTES", 2**20)
    seconds = cycle([0.5, 0.25, 0.5, 1.0, 2.0, 0.5, 0.5])
    done: list[int] = []

    def taken(operation, values):  # type: ignore[no-untyped-def]
        done.append(values.numel())
        operation(values)
        return next(seconds)

    monkeypatch.setattr(module, "seconds_of", taken)
    found = machine_rates(dtype, CPU)
    assert found.matmul_gmacs_per_second == pytest.approx(1e6 / 1e9 / 0.25)
    assert found.copy_gib_per_second == pytest.approx(2 * 2**20 / 2**30 / 0.25)
    assert {10_000, 2**20 // dtype.itemsize} == set(done)


def test_rates_are_positive_and_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SIDE", 64)
    monkeypatch.setattr(module, "_COPIED_BYTES", 2**16)
    found = machine_rates(torch.float32, CPU)
    assert 0 < found.matmul_gmacs_per_second < 1e7
    assert 0 < found.copy_gib_per_second < 1e6
