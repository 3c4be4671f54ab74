"""How near to the dense model each way to choose and merge tokens comes that was tried for `ward`.

    python benchmarks/tried.py

Generated clips that no test has, 40 of each class; leaves benchmarks/results/tried.json.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from ideas import EARLY, Idea, ideas
from records import RESULTS
from torch import Tensor

from vidprune import load, merging
from vidprune.demo.clips import write_clips
from vidprune.environment import environment
from vidprune.intervals import METHOD
from vidprune.macs import costs
from vidprune.metrics import nearness
from vidprune.prepare import read_clip
from vidprune.pruned import prune
from vidprune.reducers.base import Reducer
from vidprune.reducers.sta import STA
from vidprune.video import read_dataset

SEED, SHARES, NEAR, BATCH = 910_000_000, (0.5, 0.35, 0.25, 0.15), 0.03, 32
POOLED = "STA, pooling by size alone"


@contextmanager
def only_sizes() -> Iterator[None]:
    """Where tokens would fold, sizes alone do: each survivor stays what it is."""
    folded = merging._folded

    def sizes_of(tokens: Tensor, survivors: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
        return survivors, folded(tokens, survivors, *others)[1]

    with patch.object(merging, "_folded", sizes_of):
        yield


def read_all(folder: Path, model: Any) -> Tensor:
    """All clips, (V, T, 3, S, S)."""
    return torch.cat([read_clip(sample.path, model) for sample in read_dataset(folder)])


def predicted(model: Any, pixels: Tensor) -> Tensor:
    """Probabilities (V, classes)."""
    parts = []
    for start in range(0, len(pixels), BATCH):
        part = pixels[start : start + BATCH]
        keys = torch.arange(start, start + len(part))
        parts.append(model(part, clip_keys=keys).logits.double().softmax(-1))
    return torch.cat(parts)


def nearest(model: Any, idea: Idea, share: float) -> tuple[Reducer, float] | None:
    """The amount whose arithmetic is nearest to a share of the dense model's."""
    dense = costs(model).gmacs_per_view
    found = []
    for r in range(1, model.config.image_size**2):
        reducer = idea(r)
        try:
            spent = costs(model, reducer).gmacs_per_view / dense
        except ValueError:
            break
        found.append((abs(spent - share), r, spent))
    off, r, spent = min(found)
    return (idea(r), spent) if off <= NEAR else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-class", type=int, default=40)
    parser.add_argument("--output", type=Path, default=RESULTS / "tried.json")
    asked = parser.parse_args()
    model = load("demo").eval()
    everything = ideas(model.classifier.weight.detach())
    everything[POOLED] = lambda r: STA(r=r, blocks=EARLY, fold=True)
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder, torch.inference_mode():
        write_clips(Path(folder), per_class=asked.per_class, seed=SEED)
        pixels = read_all(Path(folder), model)
        dense = predicted(prune(model, None), pixels)
        for name, idea in everything.items():
            for share in SHARES:
                found = nearest(model, idea, share)
                if found is None:
                    continue
                with only_sizes() if name == POOLED else nullcontext():
                    near = nearness(dense, predicted(prune(model, found[0]), pixels))
                rows.append({"idea": name, "asked": share, "share": found[1], **asdict(near)})
                print(name, share, near.kl_nats, near.agreement, file=sys.stderr, flush=True)
    record = {
        "rows": rows,
        "clips": len(pixels),
        "environment": environment(torch.device("cpu")),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "intervals": METHOD,
        "command": "python benchmarks/tried.py",
    }
    asked.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
