"""Whether a selection is STA's, matching's or run-length's, where rounding may have its say.

Note [near ties]: two tokens whose float64 scores differ by at most `tolerance` of the score's
scale may stand in either order, and either may be the last to stay; every other pair is bound.
The scale is 1 for a cosine and the group's largest score for a score: rounding errors live on
that scale, since a cosine is a sum, and 1 - importance a difference, of numbers of order one.

An allowed flip at the edge of a group changes what the next group is compared with, by far more
than rounding. So nothing is forgiven downstream: each group is scored in float64 *given what the
judged selection kept in the groups before*, and judged on those scores. Likewise from stage to
stage: each stage is judged on the tokens and keys that entered it, in the order they entered.
"""

from typing import Any

import numpy as np
from torch import Tensor

from vidprune.exporting.sta_by_loops import visit

TOLERANCE = 1e-5


def departure(
    kept: Tensor,
    tokens: Tensor,
    keys: Tensor,
    *,
    groups: int,
    drop: int,
    backward: bool = False,
    score: str = "both",
    tolerance: float = TOLERANCE,
) -> str | None:
    """Where a selection `kept` (B, K) first departs from the specification's choice among tokens
    (B, L, C) with keys (B, L, d); None where it does not. See Note [near ties]."""
    size = tokens.shape[1] // groups
    if kept.shape != (tokens.shape[0], groups * (size - drop)):
        return f"{tuple(kept.shape)} are kept, not {(tokens.shape[0], groups * (size - drop))}"
    for clip, positions in enumerate(kept.tolist()):
        lists = [
            [position - group * size for position in positions[first : first + size - drop]]
            for group, first in enumerate(range(0, len(positions), size - drop))
        ]
        if wrong := _misplaced(lists, size):
            return f"clip {clip}, {wrong}"
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
            if wrong := _misranked(lists[group], scores, tolerance * scale):
                return f"clip {clip}, group {group}: {wrong}"
    return None


def _misplaced(lists: list[list[int]], size: int) -> str | None:
    """Kept positions stand group by group in temporal order, each once."""
    for group, chunk in enumerate(lists):
        if not all(0 <= position < size for position in chunk):
            return f"group {group} holds tokens of another group"
        if len(set(chunk)) != len(chunk):
            return f"group {group} holds a token twice"
    return None


def _misranked(stay: list[int], scores: list[float], slack: float) -> str | None:
    """Scores rise along `stay`, and no token left out scores less than one that stays."""
    values = np.array(scores)
    ranked = values[stay]
    behind = (np.maximum.accumulate(ranked) - ranked).max()
    # Not "above", which what is no number never is.
    if not behind <= slack:
        return f"order kept is off by {behind:.3g} > {slack:.3g}"
    gone = np.delete(values, stay)
    if gone.size and not (gap := ranked.max() - gone.min()) <= slack:
        return f"a token stays that scores {gap:.3g} above one that went"
    return None


def merging_departure(
    kept: Tensor, similar: Tensor, *, ranked: bool, tolerance: float = TOLERANCE
) -> str | None:
    """Where a choice `kept` (B, K) of bipartite matching among tokens that are compared by
    `similar` (B, N, d) departs from its rule, within `tolerance` of a cosine; None where it does
    not. `ranked`: sources stay from the most to the least alike, else in rising position."""
    for clip, positions in enumerate(kept.tolist()):
        count = similar.shape[1]
        destinations = list(range(1, count, 2))
        split = len(positions) - len(destinations)
        stay, others = positions[:split], positions[split:]
        if others != destinations or any(each % 2 for each in stay):
            return f"clip {clip}: the tokens that others join do not all stay, behind the others"
        if len(set(stay)) != len(stay) or not (ranked or stay == sorted(stay)):
            return f"clip {clip}: sources stand twice, or in another order"
        rows = similar[clip].double()
        unit = rows / rows.norm(dim=-1, keepdim=True).clamp(min=1e-300)
        best = (unit[0::2] @ unit[1::2].mT).amax(-1).numpy()
        if wrong := _mismatched([each // 2 for each in stay], best, ranked, tolerance):
            return f"clip {clip}: {wrong}"
    return None


def _mismatched(
    stay: list[int], best: np.ndarray[Any, Any], ranked: bool, slack: float
) -> str | None:
    """No source that stays is more alike than one that went; along `stay` likeness falls."""
    if not stay:
        return None
    values, gone = best[stay], np.delete(best, stay)
    if gone.size and not (gap := values.max() - gone.min()) <= slack:
        return f"a token stays that is {gap:.3g} more like another than one that went"
    if ranked and not (behind := (values - np.minimum.accumulate(values)).max()) <= slack:
        return f"order kept is off by {behind:.3g} > {slack:.3g}"
    return None


def run_length_departure(
    kept: Tensor, changes: Tensor, *, first: int, tolerance: float = TOLERANCE
) -> str | None:
    """Where a choice `kept` (B, K) departs from that of a budget of run-length; None where it does
    not. Of the tokens after the `first`, which all stay, those of least `changes` (B, N - first)
    go, within `tolerance` of the largest; positions rise."""
    for clip, positions in enumerate(kept.tolist()):
        if positions != sorted(set(positions)) or positions[:first] != list(range(first)):
            return f"clip {clip}: the first do not all stay, or tokens stand in another order"
        values = changes[clip].double().numpy()
        stay = [position - first for position in positions[first:]]
        gone = np.delete(values, stay)
        if stay and gone.size:
            gap, slack = gone.max() - values[stay].min(), tolerance * values.max()
            if not gap <= slack:
                return f"clip {clip}: a token stays that changes {gap:.3g} less than one that went"
    return None
