"""What another kind of machine answers: the same rows in the same order, values within 1e-3."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from vidprune.demo.clips import write_clips

TOLERANCE = 1e-3


def answers(clips: Path, output: Path, capability: str) -> pyarrow.Table:
    """Of a process whose torch takes its processor for one of that capability."""
    words = ["predict", str(clips), "--model", "demo", "--reducer", "sta:r=16", "--workers", "0"]
    subprocess.run(
        [sys.executable, "-m", "vidprune", *words, "--output", str(output), "--top-k", "12"],
        check=True,
        capture_output=True,
        env=os.environ | {"ATEN_CPU_CAPABILITY": capability, "MKL_CBWR": "COMPATIBLE"},
    )
    return pyarrow.parquet.read_table(output)


@pytest.mark.slow
def test_rows_are_the_same_and_values_as_near_as_is_promised(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips", per_class=1, seed=77)
    here, there = (
        answers(tmp_path / "clips", tmp_path / name, name) for name in ("avx2", "default")
    )
    for name in ("video", "view", "error", "model", "reducer"):
        assert here[name].equals(there[name])
    assert not here["probabilities"].equals(there["probabilities"]), "another machine, indeed"
    pairs = [
        dict(zip(row["labels"], row["probabilities"], strict=True))
        for table in (here, there)
        for row in table.to_pylist()
    ]
    for ours, theirs in zip(pairs[:12], pairs[12:], strict=True):
        assert ours.keys() == theirs.keys()
        found = [abs(ours[label] - theirs[label]) for label in ours]
        assert np.max(found) < TOLERANCE
