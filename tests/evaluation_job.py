"""A job of nine small videos for the tests of evaluation, and what they ask of it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vidprune.backbones.checkpoints import load
from vidprune.commands.evaluate import evaluate
from vidprune.inference import Classifier
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.pruned import prune
from vidprune.report import Progress, Report
from vidprune.video import read_list

VIDEOS, BROKEN, VIEWS = 9, 4, 4
GOOD = [f"{number:02d}.mp4" for number in range(VIDEOS) if number != BROKEN]
KEYS = [(name, view) for name in GOOD for view in range(VIEWS)]
REDUCERS = ("none", "sta:r=4", "random:r=4")
# What two runs of one job may differ in.
OF_THE_MOMENT = {"command", "date", "videos_per_second"}


class Interrupted(Exception):
    pass


def classifier(
    job: Path, reducer: str, *, batch_size: int = 3, compiled: bool = False
) -> Classifier:
    model = load(job / "model")
    protocol = protocol_for(model, ViewOptions())
    return Classifier(prune(model, reducer), protocol, batch_size=batch_size, compiled=compiled)


def run(job: Path, output: Path, reducer: str = "sta:r=4", **options: Any) -> Report | None:
    names = {"checkpoint": "tiny", "data": "test.csv", "workers": 0}
    samples = read_list(job / "test.csv")
    return evaluate(classifier(job, reducer), samples, output=output, **names | options)


def rows_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "views.jsonl").read_bytes().splitlines()]


def lasting(output: Path) -> dict[str, Any]:
    """What a report says apart from when, how fast and by which words."""
    report = json.loads((output / "report.json").read_text())
    return {name: value for name, value in report.items() if name not in OF_THE_MOMENT}


def same(output: Path, other: Path) -> bool:
    ours, theirs = ((folder / "views.jsonl").read_bytes() for folder in (output, other))
    return ours == theirs and lasting(output) == lasting(other)


def stop_after(videos: int) -> Callable[[Progress], None]:
    def observe(progress: Progress) -> None:
        if progress.done >= videos:
            raise Interrupted

    return observe


SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
import evaluation_job as job
from vidprune.parallel import join

def observe(progress):
    if progress.done >= {videos}:
        rank = os.environ.get("RANK", "0")
        name = "views.jsonl" if rank == "0" else f"views.{{rank}}.jsonl"
        with (Path({output!r}) / name).open("a") as journal:
            journal.write('{{"video": "a line cut o')
        os.kill(os.getpid(), signal.SIGKILL)

job.run(Path({job!r}), Path({output!r}), process=join(), observe=observe)
"""


def script(job: Path, output: Path, *, videos: int) -> str:
    tests = str(Path(__file__).parent)
    return SCRIPT.format(tests=tests, job=str(job), output=str(output), videos=videos)


def one_threaded() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def arguments(job: Path, output: Path) -> list[str]:
    return [
        "evaluate",
        *("--data", str(job / "test.csv"), "--model", str(job / "model"), "--output", str(output)),
        *("--reducer", "sta:r=4", "--batch-size", "3", "--workers", "0", "--device", "cpu"),
    ]
