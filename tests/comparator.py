"""The one comparator that decides whether a selection is STA's; see `exporting.near_ties`."""

from typing import Any

from torch import Tensor

from vidprune.exporting.near_ties import departure


def assert_same_selection(kept: Tensor, tokens: Tensor, keys: Tensor, **rule: Any) -> None:
    """Fail where ``kept`` (B, K) departs from the specification's choice."""
    wrong = departure(kept, tokens, keys, **rule)
    assert wrong is None, wrong
