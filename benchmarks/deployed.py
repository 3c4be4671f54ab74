"""Latency of exported models on a CPU, dense and pruned, one clip at a time, timed in turn.

    python benchmarks/deployed.py

exports ViT-S and ViT-B of the published shape (random weights: time does not depend on them) as
ONNX graphs and as packages of AOTInductor, dense and with STA at r = 64, checks them on real clips
where `../shared/clips` is there, and leaves benchmarks/results/deployed.json. The files go to
runs/deployed/.
"""

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

import vidprune
from vidprune.benchmarking.measure import Run, in_turn
from vidprune.commands.export import ENDINGS, Exporting, export
from vidprune.environment import environment
from vidprune.exporting.record import read_record
from vidprune.exporting.running import load_exported
from vidprune.macs import costs
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.video import expand_inputs

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "runs" / "deployed"
# Of real clips those of Kinetics-400.
CLIPS = ROOT.parent / "shared" / "clips"
MODELS = ("vit_small_patch16_224", "vit_base_patch16_224")
REDUCERS = ("none", "sta:r=64")
# As it stands, by ONNX Runtime, compiled ahead of time.
RUNNERS = ("eager", "onnx", "aoti")


def exported(name: str, reducer: str, form: str) -> Path:
    """The file, made where it is not there yet."""
    path = FOLDER / f"{name}-{reducer.replace(':', '-')}-{form}{ENDINGS[form]}"
    if not path.exists():
        model = vidprune.prune(vidprune.load(name), reducer)
        videos = expand_inputs([str(CLIPS / "k400_*")]) if CLIPS.is_dir() else ()
        export(
            model,
            path,
            Exporting(format=form, batch=1 if form == "aoti" else None),
            protocol=protocol_for(model, ViewOptions(protocol="single")),
            checkpoint=name,
            videos=videos,
        )
    return path


def forward_of(name: str, reducer: str, runner: str) -> Any:
    if runner == "eager":
        model = vidprune.prune(vidprune.load(name), reducer)
        return lambda pixels: model(pixels).logits
    loaded = load_exported(exported(name, reducer, runner))
    return lambda pixels: loaded(pixels).logits


def measure(name: str, runners: list[str], repeats: int) -> list[dict[str, Any]]:
    """A row for every runner and reducer of one model, all in turn."""
    kinds = [(runner, reducer) for runner in runners for reducer in REDUCERS]
    runs = [
        Run(forward_of(name, reducer, runner), (1, 16, 3, 224, 224)) for runner, reducer in kinds
    ]
    for run in runs:
        run.forward(torch.zeros(run.shape))
    taken = in_turn(runs, repeats=repeats, device=torch.device("cpu"))
    config = vidprune.load(name).config
    rows = []
    for (runner, reducer), seconds in zip(kinds, taken, strict=True):
        dense = taken[kinds.index((runner, "none"))]
        assert isinstance(seconds, list)
        assert isinstance(dense, list)
        spent = costs(config, reducer)
        speedups = [whole / part for whole, part in zip(dense, seconds, strict=True)]
        check = None
        if runner != "eager":
            check = asdict(read_record(exported(name, reducer, runner)).check)
            check["videos"] = len(check["videos"])
        rows.append(
            {
                "model": name,
                "runner": runner,
                "reducer": reducer,
                "milliseconds": [1000 * each for each in seconds],
                "median_ms": 1000 * median(seconds),
                "speedup": median(speedups),
                "mac_ratio": spent.gmacs_dense / spent.gmacs_per_view,
                "check": check,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--model", nargs="+", default=MODELS)
    parser.add_argument("--runner", nargs="+", default=RUNNERS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = [row for name in options.model for row in measure(name, options.runner, options.repeats)]
    told = {
        "rows": rows,
        "dtype": "float32",
        "batch": 1,
        "environment": environment(torch.device("cpu")),
        "onnxruntime": version("onnxruntime"),
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path = ROOT / "benchmarks" / "results" / "deployed.json"
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
