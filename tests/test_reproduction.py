"""When a rerun agrees with the paper, differs from it, or cannot tell."""

import pytest

from vidprune.intervals import Interval
from vidprune.published import CHANGE_TOLERANCE
from vidprune.reproduction import verdict_of


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ((-0.3, -0.5, -0.1), "agrees"),
        ((-0.45, -0.65, -0.25), "agrees"),
        ((-0.3, -3.0, 2.4), "open"),
        ((-0.5, -0.7, -0.3), "agrees"),
        ((-0.6, -0.8, -0.4), "open"),
        ((-0.9, -1.1, -0.7), "differs"),
        ((0.5, 0.1, 0.9), "differs"),
    ],
)
def test_verdicts(change: tuple[float, float, float], verdict: str) -> None:
    value, low, high = change
    interval = Interval(value=value, low=low, high=high)
    assert verdict_of(interval, -0.3, CHANGE_TOLERANCE) == verdict
