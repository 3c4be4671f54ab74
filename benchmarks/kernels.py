"""How long each of the selection's kernels takes on a GPU, as they are launched and otherwise.

    python3 benchmarks/kernels.py --output benchmarks/results/gpu/kernels.json

Times are of the three stages of a ViT at 16 x 224 x 224 with r = 64, in microseconds.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile

from vidprune.environment import environment
from vidprune.reducers import triton_sta

# Groups, tokens of each and how many of them go.
STAGES = ((8, 196, 64), (4, 264, 64), (2, 400, 64))
BATCHES = (1, 8, 32)
CHANNELS, WIDTH, REPEATS = 1024, 64, 12
ROWS = {"_transitions": (32, 64, 128), "_activations": (2, 4, 8)}
WARPS = {"_transitions": (4, 8), "_activations": (4, 8)}
# Others at once, warps.
SCANS = ((16, 8), (16, 16), (32, 4), (32, 8), (32, 16), (32, 32), (64, 16))


class _Launched:
    """A kernel, launched with other options than it asks for."""

    def __init__(self, kernel: Any, **options: Any) -> None:
        self.kernel, self.options = kernel, options

    def __getitem__(self, grid: Any) -> Callable[..., Any]:
        launch = self.kernel[grid]
        return lambda *given, **options: launch(*given, **(options | self.options))


def times(batch: int) -> dict[str, float]:
    """Microseconds of each kernel over all stages."""
    given = [
        tuple(
            torch.randn(batch, groups * size, wide, device="cuda", dtype=torch.bfloat16)
            for wide in (CHANNELS, WIDTH)
        )
        for groups, size, _ in STAGES
    ]

    def select() -> None:
        for (tokens, keys), (groups, _, drop) in zip(given, STAGES, strict=True):
            triton_sta.select(tokens, keys, groups=groups, drop=drop, backward=False, score="both")

    select()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(REPEATS):
            select()
        torch.cuda.synchronize()
    return {
        row.key: row.device_time_total / REPEATS
        for row in seen.key_averages()
        if row.key in ("_activations", "_transitions", "_scan")
    }


def settings() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """A kernel, how its setting is called, and what of the module is other than usual."""
    for name, all_rows in ROWS.items():
        for rows in all_rows:
            for warps in WARPS[name]:
                launched = _Launched(getattr(triton_sta, name), num_warps=warps)
                where = (
                    {"_ROWS": {2: rows}} if name == "_transitions" else {"_ACTIVATION_ROWS": rows}
                )
                yield name, f"{rows} rows, {warps} warps", {name: launched} | where
    for others, warps in SCANS:
        changed = {"_MOST_OTHERS": others, "_WARPS": warps, "_MOST_SCORES": 2**15}
        yield "_scan", f"{others} others, {warps} warps", changed


@contextmanager
def changed(values: dict[str, Any]) -> Iterator[None]:
    """The module with other values."""
    with patch.multiple(triton_sta, **values):
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    output = parser.parse_args().output
    if not torch.cuda.is_available():
        print("kernels.py: there is no GPU here", file=sys.stderr)
        return 2
    found: dict[str, Any] = {"as they are": {batch: times(batch) for batch in BATCHES}}
    for name, setting, values in settings():
        with changed(values):
            found.setdefault(name, {})[setting] = {batch: times(batch)[name] for batch in BATCHES}
        print(name, setting, found[name][setting], flush=True)
    record = {
        "microseconds": found,
        "environment": environment(torch.device("cuda")),
        "command": "python3 benchmarks/kernels.py",
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
