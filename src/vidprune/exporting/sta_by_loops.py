"""STA's selection as section 2 of the method's description has it, written to be read.

One clip, one group, one token at a time, in float64 and without a tensor operation: the
specification that the fast one is held to. Rows are numpy vectors, everything else is Python.
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]


def select(
    tokens: Rows, keys: Rows, *, groups: int, drop: int, backward: bool = False, score: str = "both"
) -> list[int]:
    """Kept positions of one clip: tokens (L, C), keys (L, d)."""
    size = len(tokens) // groups
    if drop == 0:
        return list(range(len(tokens)))
    kept: dict[int, list[int]] = {}
    for group, scores, _ in visit(
        tokens, keys, groups=groups, drop=drop, backward=backward, score=score
    ):
        kept[group] = lowest(scores, size - drop)
    return [group * size + position for group in range(groups) for position in kept[group]]


def visit(
    tokens: Rows,
    keys: Rows,
    *,
    groups: int,
    drop: int,
    backward: bool,
    score: str,
    follow: list[list[int]] | None = None,
) -> Iterator[tuple[int, list[float], float]]:
    """For each group as it is visited: its number, a score per token (low stays), their scale.

    ``follow`` says what each group kept, instead of the lowest scores.
    """
    size = len(tokens) // groups
    order = reversed(range(groups)) if backward else range(groups)
    previous: list[npt.NDArray[np.float64]] = []
    weights: list[float] = []
    for turn, group in enumerate(order):
        metric = [unit(keys[group * size + n]) for n in range(size)]
        semantic = importance([tokens[group * size + n] for n in range(size)])
        if turn == 0:
            seen: list[float] = []
            scores, scale = bipartite_scores(metric), 1.0
        else:
            seen = accumulate(metric, previous, weights)
            scores = [rank(seen[n], semantic[n], score) for n in range(size)]
            scale = max(scores)
        yield group, scores, scale
        stay = follow[group] if follow is not None else lowest(scores, size - drop)
        if turn == 0:
            previous, weights = metric, [1.0] * size
        else:
            total = sum(seen[n] for n in stay)
            previous, weights = [metric[n] for n in stay], [seen[n] / total for n in stay]


def unit(row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Scaled to length 1; a row of zeros stays."""
    length = math.sqrt(sum(float(x) ** 2 for x in row))
    return row / length if length > 0 else row


def importance(group: list[npt.NDArray[np.float64]]) -> list[float]:
    """Activation of each token of a group, 0 for the smallest to 1 for the largest."""
    activation = [sum(abs(float(x)) for x in token) for token in group]
    low, high = min(activation), max(activation)
    return [(a - low) / (high - low) if high > low else 0.0 for a in activation]


def bipartite_scores(metric: list[npt.NDArray[np.float64]]) -> list[float]:
    """Destinations below every cosine, in their order; sources at their best cosine."""
    size = len(metric)
    scores = [0.0] * size
    for n in range(size):
        if n % 2 == 1:
            scores[n] = float(n - size - 2)
        else:
            similarities = [float(metric[n] @ metric[m]) for m in range(1, size, 2)]
            scores[n] = max(similarities, default=0.0)
    return scores


def accumulate(
    metric: list[npt.NDArray[np.float64]],
    previous: list[npt.NDArray[np.float64]],
    weights: list[float],
) -> list[float]:
    """How much of the previous group each token repeats, by the weights of what was kept there."""
    seen = [0.0] * len(metric)
    for row, weight in zip(previous, weights, strict=True):
        shares = [math.exp(float(new @ row)) for new in metric]
        total = sum(shares)
        for n, share in enumerate(shares):
            seen[n] += weight * share / total
    return seen


def rank(seen: float, semantic: float, score: str) -> float:
    """What ranks a token: low stays."""
    return {"both": seen * (1 - semantic), "temporal": seen, "semantic": 1 - semantic}[score]


def lowest(scores: list[float], count: int) -> list[int]:
    """The ``count`` lowest, rising; of equals the earlier."""
    return sorted(range(len(scores)), key=lambda n: scores[n])[:count]
