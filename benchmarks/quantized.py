"""What layers in 8 bits (`quantize="int8"`) do to predictions, and to time.

    python benchmarks/quantized.py agreement   # the demo's model on its clips, against float32
    python benchmarks/quantized.py speed       # a ViT-S's forwards, taking turns

Either writes benchmarks/results/quantized/NAME.json (--output names another file). Of speed nothing
else should run on the machine.
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

import vidprune
from vidprune.backbones.registry import adapt
from vidprune.benchmarking.compiled import forward_in
from vidprune.benchmarking.measure import Run, generator_for, in_turn, random_input
from vidprune.commands.agreement import agreement
from vidprune.commands.demo import CLIP_SEED
from vidprune.demo.clips import write_clips
from vidprune.environment import environment
from vidprune.inference import Classifier
from vidprune.memory import keep_freed_memory
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.video import read_list

RESULTS = Path(__file__).parent / "results" / "quantized"
CPU = torch.device("cpu")
REDUCERS = ("none", "sta:r=16")
# By the options of `load`; the first is what the others are held against.
WAYS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float32, oneDNN": {"onednn": True},
    "float32, int8": {"quantize": "int8"},
    "float32, int8, oneDNN": {"quantize": "int8", "onednn": True},
    "bfloat16": {"dtype": torch.bfloat16},
    "bfloat16, int8": {"dtype": torch.bfloat16, "quantize": "int8"},
}


def agreements(options: argparse.Namespace) -> dict[str, Any]:
    """Each way and reducer against the same reducer in float32, and against float32 dense."""
    models = {way: vidprune.load("demo", **asked) for way, asked in WAYS.items()}
    protocol = protocol_for(models["float32"], ViewOptions())
    made = {
        (way, reducer): Classifier(
            vidprune.prune(model, reducer), protocol, batch_size=16, device=CPU
        )
        for way, model in models.items()
        for reducer in REDUCERS
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        listing = write_clips(folder, per_class=options.per_class, seed=CLIP_SEED)
        videos = [sample.path for sample in read_list(listing)]
        for reference in REDUCERS:
            # The first is what the others are held against.
            keys = [("float32", reference), *(key for key in made if key != ("float32", reference))]
            found = agreement([made[key] for key in keys], videos, checkpoint="demo", workers=0)
            rows += [
                {"way": way, "reducer": reducer, "against": reference, **asdict(row.nearness)}
                for (way, reducer), row in zip(keys[1:], found.rows[1:], strict=True)
            ]
    return {"rows": rows, "videos": len(videos)}


def speeds(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of every forward of each way and reducer; and over float32's, turn by turn."""
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    runs = {
        (way, reducer): _run(vidprune.load(options.model, **asked), reducer, options.batch_size)
        for way, asked in WAYS.items()
        for reducer in ("none", "sta:r=64")
    }
    with torch.inference_mode():
        for run in runs.values():
            run.forward(random_input(run, CPU, generator_for(CPU)))
        taken = dict(
            zip(
                runs,
                in_turn([*runs.values()], repeats=options.repeats, device=CPU, tell=_tell),
                strict=True,
            )
        )
    rows = []
    for (way, reducer), seconds in taken.items():
        ratios = [a / b for a, b in zip(seconds, taken["float32", reducer], strict=True)]
        rows.append(
            {
                "way": way,
                "reducer": reducer,
                "latencies_ms": [1000 * each for each in seconds],
                "over_float32": median(ratios),
                "over_float32_of_turns": ratios,
            }
        )
    given = {"model": options.model, "batch_size": options.batch_size, "threads": options.threads}
    return {"rows": rows, **given}


def _run(model: Any, reducer: str, batch_size: int) -> Run:
    pruned: Any = vidprune.prune(model, reducer)
    keys = torch.arange(batch_size)
    shape = (batch_size, *adapt(model).clip_shape)
    return Run(forward_in(pruned, "eager", keys), shape, pruned.dtype)


def _tell(repeat: int) -> None:
    print(f"turn {repeat + 1}", file=sys.stderr, flush=True)


def main() -> None:
    parts: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "agreement": agreements,
        "speed": speeds,
    }
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=parts)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--per-class", type=int, default=40, metavar="N", help="clips (40)")
    parser.add_argument("--model", default="vit_small_patch16_224", help="of speed (a ViT-S)")
    parser.add_argument("--batch-size", type=int, default=1, help="of speed (1)")
    parser.add_argument("--threads", type=int, default=2, help="of speed (2)")
    parser.add_argument("--repeats", type=int, default=7, help="of speed (7)")
    options = parser.parse_args()
    ran_on = environment(CPU)
    record = parts[options.part](options) | {
        "environment": ran_on,
        "command": shlex.join(["python", "benchmarks/quantized.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    output = options.output or RESULTS / f"{options.part}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
