"""A clip as `look` sees it, made up: a small grid, a dense model and one that merges and drops."""

import numpy as np

from vidprune.insight.look import ClipLook, ReducerLook, StageLook
from vidprune.layout import TokenGrid
from vidprune.report import Guess

GRID = TokenGrid(frames=2, rows=2, columns=3)


def looked(video: str = "clip.mp4", name: str = "swing") -> ClipLook:
    guesses = (Guess(label=1, name=name, probability=0.75),)
    stage = StageLook(
        title="after block 3",
        grid=GRID,
        kept=4,
        standing=np.array([0, 0, -1, 3, -1, -1, 6, 0, -1, 9, -1, -1]),
        scores={"redundancy": np.array([np.nan] * 6 + [0.0, 1, 2, 3, 4, 5], dtype=np.float32)},
        gradnorm=0.5,
    )
    dense = ReducerLook(
        reducer="none",
        gmacs=2.0,
        at_most=False,
        milliseconds=20.0,
        guesses=guesses,
        trajectory=(0.9, 0.8),
        stages=(),
    )
    return ClipLook(
        video=video,
        frames=np.random.default_rng(1).integers(0, 255, (4, 20, 30, 3), dtype=np.uint8),
        grid=GRID,
        gradnorm=np.arange(12, dtype=np.float32),
        gradnorm_of=f"{name} (predicted)",
        looks=(
            dense,
            ReducerLook(
                reducer="tome:r=8",
                gmacs=1.0,
                at_most=False,
                milliseconds=10.0,
                guesses=guesses,
                trajectory=(0.9, None),
                stages=(stage,),
            ),
        ),
    )
