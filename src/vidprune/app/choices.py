"""What the page offers for a model: the reducers that fit it, and how far r goes."""

from collections.abc import Sequence

from vidprune.backbones.base import Shape
from vidprune.planning import stages_for
from vidprune.reducers.schedule import Stage
from vidprune.reducers.spec import parse, with_r

# As the page names them, and as text without its r.
REDUCERS = {
    "STA": "sta",
    "STA, folded": "sta:fold=true",
    "random": "random",
    "random, folded": "random:fold=true",
    "grid (tubes)": "grid",
    "ToMe": "tome",
    "run-length": "run-length",
    "vid-TLDR": "vid-tldr",
    "Ward": "ward",
}


def fitting(shape: Shape) -> dict[str, str]:
    """The reducers that a model carries, as in REDUCERS."""
    return {name: spec for name, spec in REDUCERS.items() if largest_r(shape, spec)}


def largest_r(shape: Shape, spec: str) -> int:
    """The largest r that a model carries, 0 where it carries none."""
    low, high = 0, shape.grid.tokens
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _leaves_less(shape, spec, middle) else (low, middle)
    return low


def _leaves_less(shape: Shape, spec: str, r: int) -> bool:
    """Whether it fits, and r takes all that it asks for: some methods cut it down."""
    try:
        stages = stages_for(shape, parse(with_r(spec, r)))
    except ValueError:
        return False
    return _seen(shape, stages) < _seen(shape, stages_for(shape, parse(with_r(spec, r - 1))))


def _seen(shape: Shape, stages: Sequence[Stage]) -> int:
    """The tokens that all blocks leave, in all: with another r a first stage may be another."""
    due = {stage.block: stage.kept for stage in stages}
    left, total = shape.grid.tokens, 0
    for block in range(shape.depth):
        left = due.get(block, left)
        total += left
    return total
