"""Whether a budget by content takes as long as its arithmetic says: the record `speed` of
docs/content.md. Clips are in memory; the dense model, single settings and budgets answer all of
them in turn.

    python benchmarks/content_speed.py --data runs/curves/clips-generated-1440
"""

import argparse
import json
import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import torch
from records import RESULTS
from torch import Tensor

from vidprune.batching import View
from vidprune.environment import environment
from vidprune.inference import Classifier
from vidprune.macs import gmacs_per_view
from vidprune.prepare import ViewOptions, load_model, protocol_for
from vidprune.pruned import prune
from vidprune.video import read_dataset, read_views

# Of as much arithmetic as one setting, and one of which few clips are asked again.
REDUCERS = (
    "none",
    "sta:r=21",
    "confidence:sta:r=33@0.957577@sta:r=4",
    "sta:r=33",
    "confidence:sta:r=33@0.5@none",
)
BATCHES = (1, 16)
CLIPS, PASSES = 192, 5


def answered(classifier: Classifier, clips: list[Tensor]) -> tuple[float, list[int | None]]:
    """Seconds for all clips, and which settings answered."""
    views = [View(clip, number) for number, clip in enumerate(clips)]
    queue, began = classifier.queue(), time.perf_counter()
    for view in views:
        queue.put(view)
    queue.finish()
    return time.perf_counter() - began, [view.setting for view in views]


def main() -> None:
    """Write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    asked = parser.parse_args()
    model = load_model("demo", options=ViewOptions())
    protocol = protocol_for(model, ViewOptions())
    samples = read_dataset(asked.data)
    clips = [
        read_views(sample.path, protocol).pixels[0]
        for sample in samples[:: len(samples) // CLIPS][:CLIPS]
    ]
    rows = []
    for batch in BATCHES:
        made = {
            reducer: Classifier(prune(model, reducer), protocol, batch_size=batch)
            for reducer in REDUCERS
        }
        seconds: dict[str, list[float]] = {reducer: [] for reducer in REDUCERS}
        gmacs = {}
        for number in range(PASSES + 1):
            for reducer, classifier in made.items():
                taken, settings = answered(classifier, clips)
                gmacs[reducer] = gmacs_per_view(classifier.model, settings)
                # The first pass warms up.
                seconds[reducer] += [taken] if number else []
        ratios = [
            median(whole / part for whole, part in zip(seconds["none"], own, strict=True))
            for own in seconds.values()
        ]
        rows += [
            {
                "reducer": reducer,
                "batch_size": batch,
                "gmacs": gmacs[reducer],
                "ms_per_clip": 1000 * median(seconds[reducer]) / len(clips),
                "speedup": ratio,
            }
            for reducer, ratio in zip(REDUCERS, ratios, strict=True)
        ]
    record = {
        "rows": rows,
        "clips": len(clips),
        "passes": PASSES,
        "dtype": "float32",
        "environment": environment(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "command": f"python {shlex.join(sys.argv)}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (RESULTS / "by-content" / "speed.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
