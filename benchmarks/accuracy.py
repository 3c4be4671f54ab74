"""What each reducer costs in accuracy, beside dense models that cost as little.

    python benchmarks/accuracy.py demo --data demo-output/clips
    python benchmarks/accuracy.py videoswin --data demo-output/clips
    python benchmarks/accuracy.py jhmdb --data ../shared/jhmdb/split1

evaluates every setting with `vidprune evaluate` in runs/accuracy/ (a run that is there already is
not done again) and leaves `vidprune compare`'s record in benchmarks/results/accuracy/.
"""

import argparse
import io
import shlex
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from vidprune import cli
from vidprune.commands.benchmark import Plan, Subject, subjects

ROOT = Path(__file__).parents[1]
SMALLER = "benchmarks/models/demo_6_blocks"
VIDEOSWIN = "benchmarks/models/small_videoswin"
REDUCERS = ("sta:r=16", "sta:r=32")
RIVALS = (
    "random",
    "random:fold=true",
    "sta:fold=true",
    "sta:score=temporal",
    "grid",
    "tome",
    "tome:proportional_attention=true",
    "tome:mode=drop",
    "run-length",
    "run-length:fold=true",
    "vid-tldr",
)
# Both ways to attend once tokens are gone, at the same r.
VIDEOSWIN_REDUCERS = tuple(
    reducer.replace("#", str(r))
    for r in (20, 32)
    for reducer in (
        *("sta:r=#", "sta:r=#,gaps=filled", "sta:r=#,fold=true", "grid:r=#"),
        *("random:r=#", "random:r=#,gaps=filled", "random:r=#,fold=true"),
    )
)


@dataclass(frozen=True)
class Dataset:
    """How `evaluate` is called on a dataset, and how many segments and crops it takes there."""

    options: tuple[str, ...]
    smaller_options: tuple[str, ...] = ()
    model: str = "demo"
    reducers: tuple[str, ...] = REDUCERS
    rivals: tuple[str, ...] = RIVALS
    # The views that come nearest to the arithmetic of each of REDUCERS.
    fewer_views: tuple[tuple[int, int], ...] = ()


def demo(data: Path, probes: Path) -> Dataset:
    shared = ("--data", str(data), "--batch-size", "16")
    return Dataset((*shared, "--model", "demo"), (*shared, "--model", SMALLER))


def videoswin(data: Path, probes: Path) -> Dataset:
    options = ("--data", str(data), "--batch-size", "16", "--model", VIDEOSWIN)
    return Dataset(options, model=VIDEOSWIN, reducers=VIDEOSWIN_REDUCERS, rivals=())


def jhmdb(data: Path, probes: Path) -> Dataset:
    shared = ("--data", str(data / "test.csv"), "--batch-size", "16", "--protocol", "ssv2")
    shared += ("--labels", str(data.parent / "labels.txt"))
    models = []
    for name, config in (("demo", "src/vidprune/demo/model"), ("6_blocks", SMALLER)):
        probe = probes / f"{name}.pth"
        if not probe.exists():
            raise SystemExit(
                f"{probe} is missing: python benchmarks/jhmdb_probe.py --model "
                f"{'demo' if name == 'demo' else config} --train {data / 'train.csv'} "
                f"--output {probe}"
            )
        models.append(("--model", str(probe), "--config", f"{config}/config.json"))
    # Of 2 x 3 views.
    return Dataset((*shared, *models[0]), (*shared, *models[1]), fewer_views=((2, 2), (2, 1)))


def settings(dataset: Dataset) -> list[tuple[str, list[str]]]:
    """A name and the options of `evaluate` for every row, the dense model first."""
    plan = Plan(
        models=(dataset.model,),
        reducers=dataset.reducers,
        against=dataset.rivals,
        smaller=SMALLER if dataset.smaller_options else None,
    )
    rows = []
    for subject in subjects(plan, dataset.model):
        options = dataset.smaller_options if subject.checkpoint == SMALLER else dataset.options
        rows.append((_name(subject), [*options, *_options(subject)]))
    for segments, crops in dataset.fewer_views:
        views = ["--segments", str(segments), "--crops", str(crops)]
        rows.append((f"none-{segments}x{crops}-views", [*dataset.options, *views]))
    return rows


def _name(subject: Subject) -> str:
    smaller = "-6-blocks" if subject.checkpoint == SMALLER else ""
    return f"{subject.reducer.replace(':', '-')}-{subject.frames}x{subject.size}{smaller}"


def _options(subject: Subject) -> list[str]:
    changed = []
    if subject.frames != 16:
        changed += ["--frames", str(subject.frames)]
    if subject.size != 64:
        changed += ["--size", str(subject.size)]
    return ["--reducer", subject.reducer, *changed]


def _run(words: list[str]) -> str:
    print(shlex.join(["vidprune", *words]), flush=True)
    shown = io.StringIO()
    with redirect_stdout(shown):
        if status := cli.main(words):
            raise SystemExit(status)
    return shown.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=("demo", "videoswin", "jhmdb"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--probes", type=Path, default=Path("runs/probes"))
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--record", type=Path, help="instead of benchmarks/results/accuracy/")
    given = parser.parse_args()
    made = {"demo": demo, "videoswin": videoswin, "jhmdb": jhmdb}[given.dataset]
    dataset = made(given.data, given.probes)
    folders = []
    for name, options in settings(dataset):
        folders.append(str(given.runs / given.dataset / name))
        _run(["evaluate", *options, "--output", folders[-1]])
    record = given.record or ROOT / "benchmarks" / "results" / "accuracy" / f"{given.dataset}.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(_run(["compare", *folders, "--json"]), encoding="utf-8")


if __name__ == "__main__":
    main()
