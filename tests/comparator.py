"""The one comparator that decides whether a selection is STA's.

Note [near ties]: two tokens whose float64 scores differ by at most ``tolerance`` of the score's
scale may stand in either order, and either may be the last to stay; every other pair is bound.
The scale is 1 for a cosine and the group's largest score for a score: rounding errors live on
that scale, since a cosine is a sum, and 1 - importance a difference, of numbers of order one.

An allowed flip at the edge of a group changes what the next group is compared with, by far more
than rounding. So nothing is forgiven downstream: each group is scored in float64 *given what the
judged selection kept in the groups before*, and judged on those scores. Likewise from stage to
stage: each stage is judged on the tokens and keys that entered it, in the order they entered.
"""

import numpy as np
from torch import Tensor

from reducers.sta_by_loops import visit

TOLERANCE = 1e-5


def assert_same_selection(
    kept: Tensor,
    tokens: Tensor,
    keys: Tensor,
    *,
    groups: int,
    drop: int,
    backward: bool = False,
    score: str = "both",
    tolerance: float = TOLERANCE,
) -> None:
    """Fail where ``kept`` (B, K) departs from the specification's choice. See Note [near ties]."""
    size = tokens.shape[1] // groups
    assert kept.shape == (tokens.shape[0], groups * (size - drop)), "the number kept is wrong"
    for clip, positions in enumerate(kept.tolist()):
        lists = _by_group(positions, groups, size)
        visits = visit(
            tokens[clip].double().numpy(),
            keys[clip].double().numpy(),
            groups=groups,
            drop=drop,
            backward=backward,
            score=score,
            follow=lists,
        )
        for group, scores, scale in visits:
            _assert_ranked(lists[group], scores, tolerance * scale, f"clip {clip}, group {group}")


def _by_group(positions: list[int], groups: int, size: int) -> list[list[int]]:
    """Kept positions within each group; they must stand group by group in temporal order."""
    each = len(positions) // groups
    lists = []
    for group in range(groups):
        chunk = [p - group * size for p in positions[group * each : (group + 1) * each]]
        assert all(0 <= p < size for p in chunk), f"group {group} holds tokens of another group"
        assert len(set(chunk)) == each, f"group {group} holds a token twice"
        lists.append(chunk)
    return lists


def _assert_ranked(stay: list[int], scores: list[float], slack: float, where: str) -> None:
    """Scores rise along ``stay``, and no token left out scores less than one that stays."""
    values = np.array(scores)
    ranked = values[stay]
    behind = np.maximum.accumulate(ranked) - ranked
    assert behind.max() <= slack, f"{where}: order kept is off by {behind.max():.3g} > {slack:.3g}"
    gone = np.delete(values, stay)
    if gone.size:
        gap = ranked.max() - gone.min()
        assert gap <= slack, f"{where}: a token stays that scores {gap:.3g} above one that went"
